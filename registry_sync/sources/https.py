"""An exchange folder over HTTPS, at `url`.

    GET  index.json       {"files": ["NAME", …]}: the available files
    GET  NAME             a file; its ETag, if any, shows whether it changed
    PUT  outbox/NAME      hands over a package, with `If-None-Match: *`; status 412 means that the package already
                          exists, so a retry after a crash never submits it twice

Requests carry a bearer token if one is configured. Redirects are not followed.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import msgspec
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, TCPConnector
from msgspec import Struct

from registry_sync import source_settings
from registry_sync.source_settings import HttpsSource
from registry_sync.sources import SourceFailed, retry

_T = TypeVar("_T")
TRANSIENT = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
SUCCESS, SERVER_ERROR = 2, 5  # first digits of a status
CHUNK = 1 << 20


class FileIndex(Struct):
    files: tuple[str, ...]


class Https:
    def __init__(self, source: HttpsSource, session: ClientSession) -> None:
        self._source, self._session = source, session

    async def list_files(self) -> dict[str, str]:
        async def step(response: ClientResponse) -> tuple[str, ...]:
            try:
                return msgspec.json.decode(await response.read(), type=FileIndex).files
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise SourceFailed(f"{self._source.url}index.json: {error}", transient=False) from error

        names = await self._request("GET", "index.json", step)
        return {name: await self._mark(name) for name in sorted(names) if _is_safe(name)}

    async def _mark(self, name: str) -> str:
        async def step(response: ClientResponse) -> str:
            return response.headers.get("ETag", "") or response.headers.get("Last-Modified", "")

        return await self._request("HEAD", quote(name), step)

    async def fetch(self, name: str, to: Path) -> None:
        async def step(response: ClientResponse) -> None:
            with to.open("wb") as file:
                async for chunk in response.content.iter_chunked(CHUNK):
                    file.write(chunk)

        await self._request("GET", quote(name), step)

    async def stage(self, name: str, file: Path) -> None:
        """Do nothing, because the single PUT in `hand_over` is atomic."""

    async def is_staged(self, name: str) -> bool:  # noqa: ARG002 - the same for every name
        """Return True, so that the file is handed over again after a crash. A second hand-over has no effect."""
        return True

    async def hand_over(self, name: str, file: Path) -> None:
        async def step(_: ClientResponse) -> None:
            pass

        headers = {"If-None-Match": "*", "Content-Type": "application/zip"}
        content = await asyncio.to_thread(file.read_bytes)
        await self._request("PUT", f"outbox/{quote(name)}", step, headers, content)

    async def _request(
        self,
        method: str,
        path: str,
        step: Callable[[ClientResponse], Awaitable[_T]],
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> _T:
        url = self._source.url + path

        async def attempt() -> _T:
            try:
                async with self._session.request(
                    method, url, headers=headers, data=content, allow_redirects=False
                ) as response:
                    exists = method == "PUT" and response.status == HTTPStatus.PRECONDITION_FAILED
                    if not exists and response.status // 100 != SUCCESS:
                        raise SourceFailed(
                            f"{url}: {response.status} {response.reason}",
                            transient=response.status in TRANSIENT or response.status // 100 == SERVER_ERROR,
                        )
                    return await step(response)
            except (ClientError, OSError) as error:
                is_tls_error = isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError)
                raise SourceFailed(f"{url}: {error}", transient=not is_tls_error) from error

        return await retry(
            self._source.patience, attempt, transfer=method in {"PUT", "GET"} and path != "index.json"
        )


def _is_safe(name: str) -> bool:
    """Return whether `name` is safe to use as a local file name."""
    return bool(name) and not name.startswith(".") and "/" not in name and name != "index.json"


@asynccontextmanager
async def connect(source: HttpsSource, folder: Path) -> AsyncIterator[Https]:
    try:
        context = ssl.create_default_context(cafile=str(folder / source.ca_file) if source.ca_file else None)
        token = source_settings.secret(source, folder)
    except (OSError, ssl.SSLError) as error:
        raise SourceFailed(f"{source.url}: {error}", transient=False) from error
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = ClientTimeout(total=None, sock_connect=source.patience.timeout_seconds)
    async with ClientSession(
        headers=headers, timeout=timeout, connector=TCPConnector(ssl=context)
    ) as session:
        yield Https(source, session)
