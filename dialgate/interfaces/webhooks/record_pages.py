"""The pages of records that a CRM returns for the query in `pull` of its webhook."""

import asyncio
import csv
import io
import json
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urljoin, urlsplit

import aiohttp
import msgspec

from dialgate.config.record_pulls import PLACEHOLDER, RecordPull
from dialgate.core.model import DAY, SECOND, Instant
from dialgate.crypto.masking import blank_numbers
from dialgate.interfaces.webhooks.message import dig
from dialgate.lists.tabular import SEPARATORS
from dialgate.runtime.clock import wall_clock

_TIMEOUT: Final = aiohttp.ClientTimeout(total=300, sock_connect=10, sock_read=60)
_MOST_BYTES: Final = 256 << 20
_TRIES: Final = 6
_LONGEST_WAIT: Final = 600.0
_LONGEST_REASON: Final = 300
_OLDEST_FILE: Final = 2 * DAY
_EMPTY: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_TEMPORARY: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600)})


class PullFailed(Exception):
    """Raised if records cannot be read."""


def open_session() -> aiohttp.ClientSession:
    """Return a session that verifies certificates, also with those in SSL_CERT_FILE, and keeps no cookies."""
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context())
    return aiohttp.ClientSession(timeout=_TIMEOUT, connector=connector, cookie_jar=aiohttp.DummyCookieJar())


class RecordPages:
    """The records that changed since an instant. `secret` is the content of `secret_file`."""

    def __init__(self, pull: RecordPull, secret: str, since: Instant, session: aiohttp.ClientSession) -> None:
        self._pull, self._secret, self._session = pull, secret, session
        self._pages = {"0"}  # what stood for `{next}` so far
        begin = datetime.fromtimestamp(since / SECOND, UTC)
        self._values = {
            "since": begin.strftime(pull.since),
            "since_ms": str(since),
            "next": "0",
            "secret": "",
        }

    async def read(self) -> AsyncIterator[list[Any]]:
        """Yield the records of each page. Raises `PullFailed`."""
        pull = self._pull
        if pull.url.startswith("file:"):
            yield _rows(_read_file(Path(unquote(urlsplit(pull.url).path))))
            return
        self._values["secret"] = await self._log_in() if pull.login else self._secret
        url = self._fill(pull.url, "url")
        while url:
            records, answer = await self._page(url)
            yield records
            url = self._next_url(url, records, answer)

    def _next_url(self, url: str, records: list[Any], answer: Any) -> str:
        """Return the URL of the next page, or "" after the last one. Raises `PullFailed`."""
        pull, is_keyset = self._pull, self._pull.paging == "keyset"
        if pull.paging == "once" or (is_keyset and not records):
            return ""
        found = dig(records[-1] if is_keyset else answer, pull.next)
        if found in (None, "", False):
            if is_keyset:
                raise PullFailed(f"A record has no `{pull.next}`. Correct `pull.next`.")
            return ""
        if str(found) in self._pages:
            raise PullFailed("A page was returned twice. Correct `pull.paging`, and the order in the query.")
        self._pages.add(str(found))
        self._values["next"] = str(found)
        if pull.paging == "link":
            link = urljoin(url, str(found))
            if urlsplit(link)[:2] != urlsplit(url)[:2]:
                raise PullFailed("The next page is on another host, which gets no key. Correct `pull.next`.")
            return link
        first = self._fill(pull.url, "url")
        query = f"{'&' if '?' in first else '?'}{pull.parameter}={quote(str(found), safe='')}"
        return first + query if pull.paging == "token" else first

    async def _page(self, url: str) -> tuple[list[Any], Any]:
        """Return the records of a page, and its whole answer."""
        status, content = await self._send(url)
        if status == HTTPStatus.UNAUTHORIZED and self._pull.login:  # the key expires during a long pull
            self._values["secret"] = await self._log_in()
            status, content = await self._send(url)
        if status in _EMPTY:
            return [], None
        if status != HTTPStatus.OK:
            raise PullFailed(f"The CRM responded with status {status}: {self._masked(content)}")
        if self._pull.format == "csv":
            return _rows(content), None
        try:
            answer = msgspec.json.decode(content)
        except (ValueError, RecursionError):
            raise PullFailed(f"The answer is no JSON: {self._masked(content)}") from None
        records = dig(answer, self._pull.records)
        if not isinstance(records, list):
            raise PullFailed(f"The answer has no list at `{self._pull.records}`: {self._masked(content)}")
        return records, answer

    async def _send(self, url: str) -> tuple[int, bytes]:
        headers = {name: self._fill(text, "header") for name, text in self._pull.headers.items()}
        return await self._request(self._pull.method, url, headers, self._fill(self._pull.body, "body"))

    async def _log_in(self) -> str:
        """Return an access token (RFC 6749, 5.1). Raises `PullFailed`."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        status, content = await self._request("POST", self._pull.login, headers, self._secret)
        try:
            return str(msgspec.json.decode(content)["access_token"])
        except (ValueError, KeyError, TypeError):
            text = (
                f"The login gave no access_token, status {status}. Check `pull.login` and `pull.secret_file`."
            )
            raise PullFailed(text) from None

    async def _request(self, method: str, url: str, headers: dict[str, str], body: str) -> tuple[int, bytes]:
        """Return status and body of the first answer that is not temporary. Raises `PullFailed`."""
        for tries in range(_TRIES):
            wait = 2.0**tries
            try:
                async with self._session.request(
                    method, url, headers=headers, data=body.encode() or None, allow_redirects=False
                ) as answer:
                    if answer.status not in _TEMPORARY:
                        return answer.status, await _read_body(answer)
                    problem = f"status {answer.status}"
                    wait = _delay(answer.headers.get("Retry-After", ""), wait)
            except (aiohttp.InvalidURL, aiohttp.ClientSSLError) as error:
                raise PullFailed(
                    f"{type(error).__name__}: correct `pull`, or the CRM's certificate."
                ) from None
            except (aiohttp.ClientError, TimeoutError) as error:
                problem = type(error).__name__
            if wait > _LONGEST_WAIT:
                break
            await asyncio.sleep(wait if tries < _TRIES - 1 else 0)
        raise PullFailed(f"The CRM does not answer: {problem}. Check that it can be reached, and pull again.")

    def _fill(self, text: str, place: str) -> str:
        """Insert the values into a text, encoded for the place where they are sent."""

        def value(name: str) -> str:
            found = self._values[name]
            encoded = {"url": quote(found, safe=""), "body": json.dumps(found)[1:-1]}
            return encoded.get(place, found)

        return PLACEHOLDER.sub(lambda hole: value(hole[1]), text)

    def _masked(self, content: bytes) -> str:
        """Return the beginning of an answer without numbers and keys."""
        text = content[:_LONGEST_REASON].decode(errors="replace")
        key = self._values["secret"]
        return blank_numbers(text.replace(key, "…") if key else text)


def _delay(retry_after: str, usual: float) -> float:
    """Return the seconds to wait: those that the CRM asks for (RFC 9110, 10.2.3), or else the usual ones."""
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        return parsedate_to_datetime(retry_after).timestamp() - wall_clock() / SECOND
    except ValueError:
        return usual


async def _read_body(answer: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for part in answer.content.iter_chunked(1 << 16):
        content += part
        if len(content) > _MOST_BYTES:
            raise PullFailed(f"The answer has more than {_MOST_BYTES >> 20} MiB. Ask for smaller pages.")
    return bytes(content)


def _read_file(path: Path) -> bytes:
    """Return the content of a file. Raises `PullFailed`, also if the CRM stopped writing it, which would hide its stops."""
    try:
        if wall_clock() - path.stat().st_mtime * SECOND > _OLDEST_FILE:
            raise PullFailed(f"{path} was not written for two days. Check the CRM's export.")
        return path.read_bytes()
    except OSError as error:
        raise PullFailed(f"{path}: {error.strerror}") from None


def _rows(content: bytes) -> list[Any]:
    """Return the rows of a CSV file by the names in its header. Raises `PullFailed`."""
    rows = list[Any]()
    try:
        text = content.decode("utf-8-sig")
        separator = max(SEPARATORS, key=text.partition("\n")[0].count)
        for row in csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True):
            if None in row or None in row.values():
                raise PullFailed(f"Row {len(rows) + 1} of the file has not as many cells as the header.")
            rows.append(row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise PullFailed(f"Row {len(rows) + 1} of the file cannot be read: {type(error).__name__}.") from None
    return rows
