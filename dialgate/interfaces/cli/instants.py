"""The options --since and --until, and a parser for the time values in command options."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeAlias

import typer

from dialgate.core.model import Instant
from dialgate.interfaces.cli.options import Failure
from dialgate.runtime.terminal import MISUSE

Since: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help="Start of the period, for example 2026-11-24T10:00:00+01:00.",
    ),
]
Until: TypeAlias = Annotated[str, typer.Option(metavar="TIME", help="End of the period (exclusive).")]


def instant(text: str, option: str) -> Instant:
    """Parse a time with a UTC offset. Raises `Failure`."""
    try:
        return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    except (ValueError, TypeError):  # TypeError: it has no offset
        raise Failure(
            "request.invalid",
            "Write the time with its UTC offset, for example 2026-11-24T10:00:00+01:00.",
            field=option,
            status=MISUSE,
        ) from None


def optional_instant(text: str, option: str) -> Instant | None:
    return instant(text, option) if text else None
