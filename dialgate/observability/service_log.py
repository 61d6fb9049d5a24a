"""The service log: one event per line on stderr, coloured on a terminal and otherwise JSON.

No line contains a called number. dialgate never puts one in an event. Messages from libraries and tracebacks may
quote a dialer's request, so everything that looks like a number is blanked in messages and tracebacks. An event about
a decision contains the `decision_id`.
"""

import logging
import os
import sys
from collections.abc import Mapping
from typing import Final

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from dialgate.config.log_settings import ServiceLog
from dialgate.crypto import masking

_ENVIRONMENT: Final = "DIALGATE_LOG"


class LogMisset(ValueError):
    """Raised if the environment variable DIALGATE_LOG is invalid. The message shows valid values."""


def configure(wanted: ServiceLog | None = None, environment: Mapping[str, str] = os.environ) -> None:
    """Configure logging in this process, for structlog and the standard library. Raises `LogMisset`.

    It may be called again with other settings.
    """
    wanted = _overridden(wanted or ServiceLog(), environment.get(_ENVIRONMENT, ""))
    coloured = wanted.format == "coloured" or (wanted.format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _blank_traceback,
    ]
    render: Processor = (
        structlog.dev.ConsoleRenderer(colors=True)
        if coloured
        else structlog.processors.JSONRenderer(serializer=_json)
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    _listen(wanted, [*shared, _blank_event], render)


def _listen(wanted: ServiceLog, foreign: list[Processor], render: Processor) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=foreign,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    logging.basicConfig(handlers=[handler], level=wanted.level.upper(), force=True)
    logging.captureWarnings(capture=True)
    for name in _LEVELLED:
        logging.getLogger(name).setLevel(logging.NOTSET)
    _LEVELLED.clear()
    for name, level in wanted.levels.items():
        logging.getLogger(name).setLevel(level.upper())
        _LEVELLED.add(name)


_LEVELLED: Final[set[str]] = set()  # modules with their own level, which the next `configure` resets


def _overridden(wanted: ServiceLog, text: str) -> ServiceLog:
    overrides: dict[str, object] = {}
    levels = dict[str, object](wanted.levels)
    for word in filter(None, map(str.strip, text.split(","))):
        name, is_level, level = word.partition("=")
        if is_level:
            levels[name] = level
        else:
            overrides["format" if word in {"json", "coloured", "auto"} else "level"] = word
    try:
        return msgspec.convert(
            {"format": wanted.format, "level": wanted.level, **overrides, "levels": levels}, ServiceLog
        )
    except msgspec.ValidationError as error:
        raise LogMisset(
            f"{_ENVIRONMENT}: {error}; use a value such as `json,info,dialgate.observed=debug`"
        ) from None


def _blank_traceback(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    if "exception" in event:
        event["exception"] = masking.blank_logged(event["exception"])
    return event


def _blank_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event["event"] = masking.blank_logged(str(event["event"]))
    return event


def _json(event: EventDict, **_: object) -> str:
    first = {name: event[name] for name in ("timestamp", "level", "event")}
    return msgspec.json.encode(first | dict(event), enc_hook=str).decode()
