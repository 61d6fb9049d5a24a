"""A source on an SFTP server with a configured host key.

The user's own SSH configuration, agent and known hosts are not used: only registries.yaml determines what to trust.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncssh

from registry_sync import source_settings
from registry_sync.source_settings import SftpSource
from registry_sync.sources import PART, SourceFailed, retry

_T = TypeVar("_T")
_PERMANENT = (
    asyncssh.HostKeyNotVerifiable,
    asyncssh.PermissionDenied,
    asyncssh.KeyExchangeFailed,
    asyncssh.SFTPNoSuchFile,
    asyncssh.SFTPNoSuchPath,
    asyncssh.SFTPPermissionDenied,
    asyncssh.KeyImportError,
)


class Sftp:
    """An SFTP source that reopens its connection after a failure."""

    def __init__(self, source: SftpSource, options: dict[str, Any]) -> None:
        self._source, self._options = source, options
        self._connection: asyncssh.SSHClientConnection | None = None
        self._client: asyncssh.SFTPClient | None = None

    async def list_files(self) -> dict[str, str]:
        async def step(client: asyncssh.SFTPClient) -> dict[str, str]:
            entries = await client.readdir(self._source.inbox)
            attributes = {str(entry.filename): entry.attrs for entry in entries}
            return {
                name: f"{attrs.size}.{attrs.mtime}"
                for name, attrs in sorted(attributes.items())
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

    async def is_staged(self, name: str) -> bool:
        async def step(client: asyncssh.SFTPClient) -> bool:
            # Fails if the folder is missing, which would otherwise look like a package already handed over.
            await client.readdir(self._source.outbox)
            return bool(await client.exists(self._out(name + PART)))

        return await self._do(step)

    async def hand_over(self, name: str, file: Path) -> None:  # noqa: ARG002 - renames the staged copy
        async def step(client: asyncssh.SFTPClient) -> None:
            # An earlier attempt may have lost its connection after the server renamed the file.
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
                raise SourceFailed(
                    self._message(error), transient=not isinstance(error, _PERMANENT)
                ) from error

        return await retry(self._source.patience, attempt, transfer=transfer)

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

    def _message(self, error: Exception) -> str:
        server = f"sftp://{self._source.host}:{self._source.port}"
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            return f"{server}: the server's key differs from host_key. Ask the registry before you change host_key"
        if isinstance(error, asyncssh.PermissionDenied):
            return f"{server}: the server rejected the user name or the credential"
        return f"{server}: {error}"


@asynccontextmanager
async def connect(source: SftpSource, folder: Path) -> AsyncIterator[Sftp]:
    try:
        hosts = asyncssh.import_known_hosts(
            f"{source.host} {source.host_key}\n[{source.host}]:{source.port} {source.host_key}\n"
        )
        keys = [str(folder / source.key_file)] if source.key_file else None
        options: dict[str, Any] = {
            "username": source.user,
            "known_hosts": hosts,
            "client_keys": keys,
            "password": source_settings.secret(source, folder) or None,
            "agent_path": None,
            "config": None,
            "connect_timeout": source.patience.timeout_seconds,
        }
    except (asyncssh.Error, OSError, ValueError) as error:
        raise SourceFailed(f"sftp://{source.host}: {error}", transient=False) from error
    sftp = Sftp(source, options)
    try:
        yield sftp
    finally:
        await sftp.close()
