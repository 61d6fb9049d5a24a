"""SFTP, to a server whose key is known beforehand.

Nothing of the user's own SSH configuration, agent or known hosts is used: what is trusted stands in registries.yaml.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncssh

from registry_sync import config
from registry_sync.config import SftpSource
from registry_sync.sources import PART, SourceFailed, retried

_T = TypeVar("_T")
_NEVER = (
    asyncssh.HostKeyNotVerifiable,
    asyncssh.PermissionDenied,
    asyncssh.KeyExchangeFailed,
    asyncssh.SFTPNoSuchFile,
    asyncssh.SFTPNoSuchPath,
    asyncssh.SFTPPermissionDenied,
    asyncssh.KeyImportError,
)


class Sftp:
    """One connection, made again where it broke."""

    def __init__(self, source: SftpSource, options: dict[str, Any]) -> None:
        self._source, self._options = source, options
        self._connection: asyncssh.SSHClientConnection | None = None
        self._client: asyncssh.SFTPClient | None = None

    async def names(self) -> dict[str, str]:
        async def step(client: asyncssh.SFTPClient) -> dict[str, str]:
            found = await client.readdir(self._source.inbox)
            names = {str(each.filename): each.attrs for each in found}
            return {
                name: f"{attrs.size}.{attrs.mtime}"
                for name, attrs in sorted(names.items())
                if not name.startswith(".") and not name.endswith(PART) and "/" not in name
            }

        return await self._do(step)

    async def fetch(self, name: str, to: Path) -> None:
        async def step(client: asyncssh.SFTPClient) -> None:
            await client.get(f"{self._source.inbox}/{name}", str(to))

        await self._do(step, transfer=True)

    async def stage(self, name: str, file: Path) -> None:
        async def step(client: asyncssh.SFTPClient) -> None:
            await client.put(str(file), self._out(name + PART))

        await self._do(step, transfer=True)

    async def staged(self, name: str) -> bool:
        async def step(client: asyncssh.SFTPClient) -> bool:
            await client.readdir(
                self._source.outbox
            )  # that the folder is gone must not pass for a package taken
            return bool(await client.exists(self._out(name + PART)))

        return await self._do(step)

    async def hand_over(self, name: str, file: Path) -> None:  # noqa: ARG002 - the staged copy goes
        async def step(client: asyncssh.SFTPClient) -> None:
            # Where an earlier attempt broke off after the server had done it, there is nothing left to do.
            if await client.exists(self._out(name + PART)):
                await client.posix_rename(self._out(name + PART), self._out(name))

        await self._do(step)

    def _out(self, name: str) -> str:
        return f"{self._source.outbox}/{name}"

    async def _do(
        self, step: Callable[[asyncssh.SFTPClient], Awaitable[_T]], *, transfer: bool = False
    ) -> _T:
        async def attempt() -> _T:
            try:
                return await step(await self._connected())
            except (asyncssh.Error, OSError) as error:
                await self.close()
                raise SourceFailed(self._words(error), passing=not isinstance(error, _NEVER)) from error

        return await retried(self._source.patience, attempt, transfer=transfer)

    async def _connected(self) -> asyncssh.SFTPClient:
        if self._client is None:
            self._connection = await asyncssh.connect(self._source.host, self._source.port, **self._options)
            self._client = await self._connection.start_sftp_client()
        return self._client

    async def close(self) -> None:
        connection, self._connection, self._client = self._connection, None, None
        if connection is not None:
            connection.abort()
            await connection.wait_closed()

    def _words(self, error: Exception) -> str:
        where = f"sftp://{self._source.host}:{self._source.port}"
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            return (
                f"{where}: the server shows another key than host_key: ask the registry before you change it"
            )
        if isinstance(error, asyncssh.PermissionDenied):
            return f"{where}: it does not take this user with this credential"
        return f"{where}: {error}"


@asynccontextmanager
async def connected(source: SftpSource, folder: Path) -> AsyncIterator[Sftp]:
    try:
        hosts = asyncssh.import_known_hosts(
            f"{source.host} {source.host_key}\n[{source.host}]:{source.port} {source.host_key}\n"
        )
        keys = [str(folder / source.key_file)] if source.key_file else None
        options: dict[str, Any] = {
            "username": source.user,
            "known_hosts": hosts,
            "client_keys": keys,
            "password": config.secret(source, folder) or None,
            "agent_path": None,
            "config": None,
            "connect_timeout": source.patience.timeout_seconds,
        }
    except (asyncssh.Error, OSError, ValueError) as error:
        raise SourceFailed(f"sftp://{source.host}: {error}", passing=False) from error
    sftp = Sftp(source, options)
    try:
        yield sftp
    finally:
        await sftp.close()
