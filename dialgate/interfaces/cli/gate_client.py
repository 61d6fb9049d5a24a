"""Requests from commands to a running gate, over its socket in the data folder or over HTTP.

These commands do nothing that another client of the gate could not do. The same command works on the gate's machine, without a
key, and from anywhere else with `--url` and a key. Commands on this machine's files, such as `log verify` and `backup`, work without a gate.
"""

import http.client
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, Final, TypeAlias, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import typer
from msgspec import Struct

from dialgate.interfaces.cli.options import DEFAULT_CONFIG, ConfigPath, Failure, load_config
from dialgate.runtime.gate_address import GateAddress
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
        help="File with the API key of the client as which the command asks. With --url, the default is the key in the environment variable DIALGATE_KEY. The local socket needs none.",
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

    def send(
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
            return self.decode(response.status, response.read(), kind)

    def decode(self, status: int, content: bytes, kind: type[T]) -> T:
        """Return a body as `kind`. Raises `Failure`, with the error that the gate sent."""
        if status not in _OK:
            raise self._failure(status, content)
        try:
            return msgspec.json.decode(content or b"null", type=kind)
        except msgspec.DecodeError:
            raise self._strange(status) from None

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
        address = self._address()
        try:
            connection = address.connection(_SECONDS if not hasattr(body, "read") else _LONG_SECONDS)
        except ValueError as error:
            raise Failure("request.invalid", str(error), field="url", status=MISUSE) from None
        try:
            content, headers = _encode(body), {"Content-Type": media, **address.headers}
            connection.request(method, f"{path}?{parameters}" if parameters else path, content, headers)
            connection.sock.settimeout(_LONG_SECONDS)
            response = connection.getresponse()
            if response.status not in _OK and response.status not in accepted:
                raise self._failure(response.status, response.read())
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

    def _address(self) -> GateAddress:
        key = os.environ.get("DIALGATE_KEY", "") if self.url else ""
        if self._key_file:
            key = self._key_file.read_text("ascii")
        data = Path() if self.url else load_config(self.config).data
        return GateAddress(data, self.url, key.strip())

    def _failure(self, status: int, content: bytes) -> Failure:
        try:
            error = msgspec.json.decode(content, type=_Failed).error
        except msgspec.DecodeError:
            return self._strange(status)
        message = error.message
        if error.code == "auth.missing":
            message = "the gate requires a key. Use --key-file, or set DIALGATE_KEY"
        code = MISUSE if error.code.startswith(_MISUSES) else NO
        return Failure(error.code, message, field=error.field, status=code)

    def _strange(self, status: int) -> Failure:
        return Failure(
            "gate.unreachable",
            f"{self._place} responds with {status}, which is not a dialgate response. Check --url",
        )


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


@contextmanager
def misuse_of(*codes: str) -> Iterator[None]:
    """Let errors with these codes end the command as a misuse."""
    try:
        yield
    except Failure as failure:
        failure.status = MISUSE if failure.code in codes else failure.status
        raise


def path_of(*parts: str) -> str:
    """Return an endpoint's path. Parts that a user typed are escaped."""
    return "/".join(quote(part, safe="/" if place == 0 else "") for place, part in enumerate(parts))


def _encode(body: Body) -> Any:
    return body if body is None or hasattr(body, "read") else msgspec.json.encode(body)
