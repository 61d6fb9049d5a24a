"""The options --since and --until of commands."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeAlias

import msgspec
import typer

from dialgate.core.model import Instant
from dialgate.interfaces.cli.options import Failure
from dialgate.runtime.terminal import MISUSE

Since: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help="Include only what happened at or after this time, for example 2026-11-24T10:00:00+01:00.",
    ),
]
Until: TypeAlias = Annotated[
    str, typer.Option(metavar="TIME", help="Include only what happened before this time.")
]


def instant(text: str, option: str) -> Instant | None:
    """Parse an instant. Return None for an empty string. Raises `Failure`."""
    if not text:
        return None
    try:
        at: datetime = msgspec.convert(text, Annotated[datetime, msgspec.Meta(tz=True)])
    except msgspec.ValidationError:
        raise Failure(
            "request.invalid",
            "Write the time with its UTC offset, as in 2026-11-24T10:00:00+01:00.",
            field=option,
            status=MISUSE,
        ) from None
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
