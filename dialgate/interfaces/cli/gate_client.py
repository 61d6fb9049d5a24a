"""Requests from commands to a running gate, over its socket in the data folder or over HTTP.

Commands do nothing that a client of the gate could not do. The same command works on the gate's machine, without a key, and
from anywhere else with `--url` and a key.
"""

import http.client
import inspect
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, Final, TypeAlias, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec
import typer
from msgspec import Struct

from dialgate.interfaces.cli.options import DEFAULT_CONFIG, ConfigPath, Failure, load_config
from dialgate.interfaces.http.local_socket import short_path
from dialgate.runtime.terminal import MISUSE, NO

T = TypeVar("T")
Command: TypeAlias = Callable[..., None]
Body: TypeAlias = Struct | Mapping[str, Any] | IO[bytes] | None

Url: TypeAlias = Annotated[
    str,
    typer.Option(
        envvar="DIALGATE_URL",
        help="URL of a gate elsewhere. Default: the gate of --config, over its local socket.",
    ),
]
KeyFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="File with the API key of the client as which the command asks. Default: the key in the environment variable DIALGATE_KEY. The local socket needs none.",
    ),
]
JSON: Final = "application/json"
_SECONDS: Final = 10.0
_LONG_SECONDS: Final = 3_600.0  # a large file takes minutes
_OK: Final = range(200, 300)
# Codes of requests that are wrong in whatever state the gate is.
_MISUSES: Final = ("request.", "auth.")


class _Problem(Struct):
    code: str
    message: str
    field: str = ""


class _Failed(Struct):
    error: _Problem


class GateUnreachable(Failure):
    """No gate answers."""


class GateClient:
    """A client of one gate. It connects anew for each request."""

    def __init__(self, config: Path, url: str = "", key_file: Path | None = None) -> None:
        self.config, self.url = config, url
        self._key_file = key_file

    def ask(
        self,
        method: str,
        path: str,
        kind: type[T],
        body: Body = None,
        *,
        query: Mapping[str, Any] | Iterable[tuple[str, str]] = (),
        media: str = JSON,
    ) -> T:
        """Send a request and return the response as `kind`. Raises `Failure`, with the error that the gate sent."""
        with self.open(method, path, body, query=query, media=media) as response:
            content = response.read()
        try:
            return msgspec.json.decode(content or b"null", type=kind)
        except msgspec.DecodeError:
            raise self._strange(response.status) from None

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        body: Body = None,
        *,
        query: Mapping[str, Any] | Iterable[tuple[str, str]] = (),
        media: str = JSON,
        accepted: Iterable[int] = (),
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request and yield the response, whose body is still to be read. Raises `Failure`.

        `body` is a struct or fields, sent as JSON, or a file. Statuses outside 2xx and `accepted` raise the error that the
        gate sent. Empty fields of `query` are left out.
        """
        pairs = query.items() if isinstance(query, Mapping) else query
        parameters = urlencode([(name, value) for name, value in pairs if value not in ("", None)])
        connection = self._connect(_SECONDS if not hasattr(body, "read") else _LONG_SECONDS)
        try:
            content, headers = _encode(body), {"Content-Type": media, **self._headers()}
            connection.request(method, f"{path}?{parameters}" if parameters else path, content, headers)
            connection.sock.settimeout(_LONG_SECONDS)
            response = connection.getresponse()
            if response.status not in _OK and response.status not in accepted:
                raise self._failure(response)
            yield response
        except (OSError, http.client.HTTPException) as error:
            raise GateUnreachable(
                "gate.unreachable", f"no response from {self._place}: {error}. {self._advice}"
            ) from None
        finally:
            connection.close()

    @property
    def _place(self) -> str:
        return self.url or f"the gate of {self.config}"

    @property
    def _advice(self) -> str:
        if self.url:
            return "Start that gate, or correct --url."
        return f"Start it with `dialgate serve --config {self.config}`, or name another gate with --url."

    def _headers(self) -> dict[str, str]:
        key = self._key_file.read_text("ascii") if self._key_file else os.environ.get("DIALGATE_KEY", "")
        return {"Authorization": f"Bearer {key.strip()}"} if key.strip() else {}

    def _connect(self, seconds: float) -> http.client.HTTPConnection:
        if not self.url:
            return _LocalConnection(load_config(self.config).data, seconds)
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Failure(
                "request.invalid",
                f"{self.url!r} is not an http:// or https:// URL. Example: http://127.0.0.1:8080",
                field="url",
                status=MISUSE,
            )
        if parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=seconds, context=context)
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=seconds)

    def _failure(self, response: http.client.HTTPResponse) -> Failure:
        try:
            error = msgspec.json.decode(response.read(), type=_Failed).error
        except msgspec.DecodeError:
            return self._strange(response.status)
        message = error.message
        if error.code == "auth.missing":
            message = "the gate requires a key. Use --key-file, or set DIALGATE_KEY"
        status = MISUSE if error.code.startswith(_MISUSES) else NO
        return Failure(error.code, message, field=error.field, status=status)

    def _strange(self, status: int) -> Failure:
        return Failure(
            "gate.unreachable",
            f"{self._place} responds with {status}, which is not a dialgate response. Check --url",
        )


class _LocalConnection(http.client.HTTPConnection):
    """A connection to the socket in a data folder."""

    def __init__(self, data: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._data = data

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with short_path(self._data) as path:
            self.sock.connect(str(path))


def asks_gate(command: Command) -> Command:
    """Return a command that has the options --config, --url and --key-file in the place of its parameter `gate`."""
    parameters = list(inspect.signature(command).parameters.values())
    options = [
        _option("config", ConfigPath, DEFAULT_CONFIG),
        _option("url", Url, ""),
        _option("key_file", KeyFile, None),
    ]

    def run(*arguments: Any, config: Path, url: str, key_file: Path | None, **others: Any) -> None:
        command(*arguments, gate=GateClient(config, url, key_file), **others)

    kept = [parameter for parameter in parameters if parameter.name != "gate"]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature([*kept, *options])  # type: ignore[attr-defined]
    return run


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def path_of(*parts: str) -> str:
    """Return an endpoint's path. Parts that a user typed are escaped."""
    return "/".join(quote(part, safe="/" if place == 0 else "") for place, part in enumerate(parts))


def _encode(body: Body) -> Any:
    return body if body is None or hasattr(body, "read") else msgspec.json.encode(body)
