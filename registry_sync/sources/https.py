"""An exchange over HTTPS: a folder at `url`.

    GET  index.json       {"files": ["NAME", …]}: what is there to be taken
    GET  NAME             a file; its ETag, where there is one, is the mark by which a change is known
    PUT  outbox/NAME      hands a package over. With `If-None-Match: *`: 412 says that it is there already, so that
                          sending it again after a crash never submits it twice

A bearer token, where one is set. Redirects are not followed.
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

from registry_sync import config
from registry_sync.config import HttpsSource
from registry_sync.sources import SourceFailed, retried

_T = TypeVar("_T")
PASSING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
SUCCESS, SERVER_ERROR = 2, 5  # the classes of status
CHUNK = 1 << 20


class Index(Struct):
    files: tuple[str, ...]


class Https:
    def __init__(self, source: HttpsSource, session: ClientSession) -> None:
        self._source, self._session = source, session

    async def names(self) -> dict[str, str]:
        async def step(answer: ClientResponse) -> tuple[str, ...]:
            try:
                return msgspec.json.decode(await answer.read(), type=Index).files
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise SourceFailed(f"{self._source.url}index.json: {error}", passing=False) from error

        found = await self._do("GET", "index.json", step)
        return {name: await self._mark(name) for name in sorted(found) if _plain(name)}

    async def _mark(self, name: str) -> str:
        async def step(answer: ClientResponse) -> str:
            return answer.headers.get("ETag", "") or answer.headers.get("Last-Modified", "")

        return await self._do("HEAD", quote(name), step)

    async def fetch(self, name: str, to: Path) -> None:
        async def step(answer: ClientResponse) -> None:
            with to.open("wb") as file:
                async for chunk in answer.content.iter_chunked(CHUNK):
                    file.write(chunk)

        await self._do("GET", quote(name), step)

    async def stage(self, name: str, file: Path) -> None:
        """One PUT does it all."""

    async def staged(self, name: str) -> bool:  # noqa: ARG002 - of every name
        """Always: to hand it over again does nothing."""
        return True

    async def hand_over(self, name: str, file: Path) -> None:
        async def step(_: ClientResponse) -> None:
            pass

        headers = {"If-None-Match": "*", "Content-Type": "application/zip"}
        content = await asyncio.to_thread(file.read_bytes)
        await self._do("PUT", f"outbox/{quote(name)}", step, headers, content)

    async def _do(
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
                ) as answer:
                    there = method == "PUT" and answer.status == HTTPStatus.PRECONDITION_FAILED
                    if not there and answer.status // 100 != SUCCESS:
                        raise SourceFailed(
                            f"{url}: {answer.status} {answer.reason}",
                            passing=answer.status in PASSING or answer.status // 100 == SERVER_ERROR,
                        )
                    return await step(answer)
            except (ClientError, OSError) as error:
                passing = not isinstance(error, ssl.SSLError) and not isinstance(
                    error.__cause__, ssl.SSLError
                )
                raise SourceFailed(f"{url}: {error}", passing=passing) from error

        return await retried(
            self._source.patience, attempt, transfer=method in {"PUT", "GET"} and path != "index.json"
        )


def _plain(name: str) -> bool:
    """It becomes the name of a file here."""
    return bool(name) and not name.startswith(".") and "/" not in name and name != "index.json"


@asynccontextmanager
async def connected(source: HttpsSource, folder: Path) -> AsyncIterator[Https]:
    try:
        context = ssl.create_default_context(cafile=str(folder / source.ca_file) if source.ca_file else None)
        token = config.secret(source, folder)
    except (OSError, ssl.SSLError) as error:
        raise SourceFailed(f"{source.url}: {error}", passing=False) from error
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = ClientTimeout(total=None, sock_connect=source.patience.timeout_seconds)
    async with ClientSession(
        headers=headers, timeout=timeout, connector=TCPConnector(ssl=context)
    ) as session:
        yield Https(source, session)
