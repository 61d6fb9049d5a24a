"""Instants as options of a command: from one on, and before another."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeAlias

import msgspec
import typer

from dialgate.core.model import Instant
from dialgate.interfaces.cli.options import Failure
from dialgate.runtime.terminal import MISUSE

Since: TypeAlias = Annotated[
    str, typer.Option(metavar="TIME", help="From this instant on: 2026-11-24T10:00:00+01:00.")
]
Until: TypeAlias = Annotated[str, typer.Option(metavar="TIME", help="Before this instant.")]


def instant(text: str, option: str) -> Instant | None:
    """None where nothing is given. Raises `Failure`."""
    if not text:
        return None
    try:
        at: datetime = msgspec.convert(text, Annotated[datetime, msgspec.Meta(tz=True)])
    except msgspec.ValidationError:
        raise Failure(
            "request.invalid",
            "Give an instant with its offset, as in 2026-11-24T10:00:00+01:00.",
            field=option,
            status=MISUSE,
        ) from None
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
