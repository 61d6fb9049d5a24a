"""What the program says about itself: one event a line on stderr, JSON unless a person is watching.

No clear called number reaches a log line. Our own events never carry one; what libraries say, and every traceback, may
quote what a dialer sent, so all that looks like a number is blanked there. What is about one decision carries its
`decision_id`, by which the record is found.
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
from dialgate.crypto import redaction

_ENVIRONMENT: Final = "DIALGATE_LOG"
_FEWEST = 7  # digits: fewer are taken for ports, sizes and line numbers


class LogMisset(ValueError):
    """The environment's DIALGATE_LOG cannot be read. The text says how to write it."""


def blanked(text: str) -> str:
    return redaction.blanked(text, "<number>", _FEWEST)


def configure(wanted: ServiceLog | None = None, environment: Mapping[str, str] = os.environ) -> None:
    """For the whole process: structlog's and the standard library's loggers both end up here. May be called again. Raises
    `LogMisset`.
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


_LEVELLED: Final[set[str]] = set()  # modules with a level of their own, to be let go when it is set anew


def _overridden(wanted: ServiceLog, text: str) -> ServiceLog:
    given: dict[str, object] = {}
    levels = dict[str, object](wanted.levels)
    for word in filter(None, map(str.strip, text.split(","))):
        name, is_level, level = word.partition("=")
        if is_level:
            levels[name] = level
        else:
            given["format" if word in {"json", "coloured", "auto"} else "level"] = word
    try:
        return msgspec.convert(
            {"format": wanted.format, "level": wanted.level, **given, "levels": levels}, ServiceLog
        )
    except msgspec.ValidationError as error:
        raise LogMisset(f"{_ENVIRONMENT}: {error}; write it as `json,info,dialgate.observed=debug`") from None


def _blank_traceback(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    if "exception" in event:
        event["exception"] = blanked(event["exception"])
    return event


def _blank_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event["event"] = blanked(str(event["event"]))
    return event


def _json(event: EventDict, **_: object) -> str:
    first = {name: event[name] for name in ("timestamp", "level", "event")}
    return msgspec.json.encode(first | dict(event), enc_hook=str).decode()
