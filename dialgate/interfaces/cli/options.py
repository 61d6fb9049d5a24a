"""Options that several commands share, and the error output.

Errors go to stderr. With `--json` they are written to stdout as an object in the format of the HTTP API.
"""

import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, TypeAlias

import typer

from dialgate.config import loader
from dialgate.config.configuration import Config, ConfigError
from dialgate.config.content_store import NotKept
from dialgate.config.controllers import ControllerFile
from dialgate.core.faults import Unavailable
from dialgate.core.refusal import Refused
from dialgate.runtime.extras import MissingExtra
from dialgate.runtime.terminal import MISUSE, NO, show_json

ConfigPath: TypeAlias = Annotated[
    Path,
    typer.Option("--config", envvar="DIALGATE_CONFIG", dir_okay=False, help="Gate configuration file."),
]
DEFAULT_CONFIG = Path("config/dialgate.yaml")
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
# The option for each request field, for error messages.
_OPTIONS = {"controller": "--controller", "campaign": "--campaign", "campaigns": "--campaign"}
_STDIN = "-"
# Keys of the context: unread lines, the number of lines read, and the parameters whose callbacks have not run.
_LINES, _USED, _PENDING = "dialgate.lines", "dialgate.taken", "dialgate.pending"


def number_given(ctx: typer.Context, param: typer.CallbackParam, value: str) -> str:
    """Return a parameter's phone number. For `-`, read the number from standard input. A Typer callback.

    Standard input keeps numbers out of `ps`, which shows arguments to every user of the machine. If standard input has
    more numbers than the command reads, the command fails, because ignoring a number could lose a revocation.
    """
    if value == _STDIN:
        value = _next_line(ctx)
    pending = ctx.meta.setdefault(
        _PENDING, [name for name in map(_number_parameter, ctx.command.params) if name]
    )
    pending.remove(str(param.name))
    if not pending and ctx.meta.get(_LINES):
        used, left = ctx.meta[_USED], len(ctx.meta[_LINES])
        raise typer.BadParameter(
            f"standard input has {used + left} numbers, but this command reads {used}. Nothing was done. "
            "Run it once for each number, or use a command that reads a file, such as `dialgate revoke import`"
        )
    return value


def numbers_given(values: list[str] | None) -> list[str] | None:
    """Return a parameter's phone numbers. For `-`, read every line of standard input. A Typer callback."""
    return _lines() if values == [_STDIN] else values


def _number_parameter(param: Any) -> str:
    """Return the parameter name if its callback is `number_given`, otherwise an empty string."""
    callback = getattr(param.callback, "__wrapped__", None)
    return str(param.name) if callback is number_given else ""


def _next_line(ctx: typer.Context) -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Number", hide_input=True, err=True))
    if _LINES not in ctx.meta:
        ctx.meta[_LINES] = _lines()
    lines = ctx.meta[_LINES]
    if not lines:
        raise typer.BadParameter(
            "standard input has fewer numbers than there are `-` arguments. Write one number per line"
        )
    ctx.meta[_USED] = ctx.meta.get(_USED, 0) + 1
    return str(lines.pop(0))


def _lines() -> list[str]:
    if sys.stdin.isatty():
        return [typer.prompt("Number", hide_input=True, err=True)]
    lines = [line.strip() for line in sys.stdin if line.strip()]
    if not lines:
        raise typer.BadParameter("standard input contains no numbers. Write one number per line")
    return lines


Number: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="The data subject's number, preferably with its country code (+39…). Use - to read it from standard input.",
        callback=number_given,
    ),
]


class Failure(Exception):
    """An error that ends a command, with an error code from the HTTP API. `status` is the exit code."""

    def __init__(self, code: str, message: str, *, field: str = "", status: int = NO) -> None:
        super().__init__(message)
        self.code, self.field, self.status = code, field, status


# What `failure_of` understands.
REPORTED: Final = (Failure, NotKept, Refused, Unavailable, OSError)


def program_name() -> str:
    """Return `dialgate`, or the path of this program if `dialgate` on PATH is a different one."""
    started = sys.argv[0]
    return started if Path(started).name == "dialgate" and shutil.which("dialgate") != started else "dialgate"


def load_config(path: Path) -> Config:
    try:
        return loader.load(path)
    except ConfigError as error:
        raise unusable(path, error) from None


def common_country(controllers: Iterable[ControllerFile]) -> str:
    """Return the country to which numbers without a country code belong, or "" if the controllers call several countries."""
    countries = {region for controller in controllers for region in controller.dial_regions().split()}
    return countries.pop() if len(countries) == 1 else ""


def unusable(path: Path, error: ConfigError, status: int = MISUSE) -> Failure:
    problems = "\n".join(f"  {problem}" for problem in error.problems)
    hint = "" if path.exists() else "\nName the configuration file with --config or DIALGATE_CONFIG."
    return Failure("config.invalid", f"{path} cannot be used:\n{problems}{hint}", status=status)


@contextmanager
def reporting(*, as_json: bool) -> Iterator[None]:
    """Report a failure in the block as text or JSON, and exit with its `status`. A file that cannot be used is one, too."""
    try:
        yield
    except REPORTED as error:
        fail(failure_of(error), as_json=as_json)


def failure_of(error: Exception) -> Failure:
    match error:
        case OSError(filename=None):  # such as a closed pipe
            raise error
        case OSError():
            return Failure("file.unusable", f"{error.filename}: {error.strerror}")
        case Failure():
            return error
        case MissingExtra():
            return Failure(error.code, error.message, status=MISUSE)
        case Refused():
            return Failure(error.code, error.message, field=error.field)
        case Unavailable():
            return Failure(f"{error.component}.unavailable", str(error))
        case _:  # NotKept
            return Failure("law.missing", str(error))


def error_body(failure: Failure) -> dict[str, Any]:
    return {"error": {"code": failure.code, "message": str(failure), "field": failure.field}}


def fail(failure: Failure, *, as_json: bool) -> NoReturn:
    if as_json:
        show_json(error_body(failure))
    else:
        field = f"{_OPTIONS.get(failure.field, failure.field)}: " if failure.field else ""
        typer.echo(f"{failure.code}: {field}{failure}", err=True)
    raise typer.Exit(failure.status)
