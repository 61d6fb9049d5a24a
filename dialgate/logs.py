"""What the program says about itself: one event a line on stderr, JSON unless a person is watching.

No clear called number reaches a log line. Our own events never carry one; what libraries say, and every traceback, may
quote what a dialer sent, so all that looks like a number is blanked there.
"""

import logging
import re
import sys

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

# Seven digits or more, also as people write them and as a URL carries them.
_NUMBER = re.compile(r"(?:\+|%2B)?(?:\d[ ./()-]?){6,}\d", re.IGNORECASE | re.ASCII)


def blanked(text: str) -> str:
    return _NUMBER.sub("<number>", text)


def configure() -> None:
    """For the whole process: structlog's and the standard library's loggers both end up here."""
    person = sys.stderr.isatty()
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _blank_traceback,
    ]
    render: Processor = (
        structlog.dev.ConsoleRenderer() if person else structlog.processors.JSONRenderer(serializer=_json)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _blank_event],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(capture=True)


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
