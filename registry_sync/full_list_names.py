"""The parser for the names of the files that a full-list registry publishes.

A file name contains the version date and sometimes the area.
"""

import re
from collections.abc import Iterator
from datetime import date

from registry_sync.config import FullListRegistry
from registry_sync.formats import dnc
from registry_sync.full_list_areas import File, version_instant

_DATE = r"(?<![0-9])(?P<year>\d{4})-?(?P<month>\d\d)-?(?P<day>\d\d)(?![0-9])"
_ANY_NAME = re.compile(rf".*{_DATE}.*\.(?:txt|csv|zip)", re.ASCII)


def parse_name(name: str, settings: FullListRegistry, zone: str) -> Iterator[File]:
    """Parse a file name, and yield one `File` for each subscribed area that the file contains.

    Yield nothing for a name that the registry does not use. `zone` is the time zone of the dates in the names, or empty
    for formats without a layout.
    """
    if settings.format == "us_dnc":
        parsed = dnc.parse_name(name)
        if parsed and parsed.prefix in settings.coverage:
            yield File(name, parsed.prefix, version_instant(parsed.version), is_change=parsed.is_change)
        return
    match = _pattern(settings).fullmatch(name)
    if match is None:
        return
    try:
        version = date(*(int(match[part]) for part in ("year", "month", "day")))
    except ValueError:
        return
    area = match.groupdict().get("area")
    for prefix in settings.coverage:
        if area is None or prefix == f"{_country_code(settings)}{area}":
            yield File(name, prefix, version_instant(version, zone))


def _pattern(settings: FullListRegistry) -> re.Pattern[str]:
    if not settings.file_name:
        return _ANY_NAME
    code = _country_code(settings)
    areas = "|".join(prefix.removeprefix(code) for prefix in settings.coverage)
    text = re.escape(settings.file_name).replace(r"\*", ".*")
    text = text.replace(re.escape("{date}"), _DATE).replace(re.escape("{area}"), f"(?P<area>{areas})")
    return re.compile(text, re.ASCII)


def _country_code(settings: FullListRegistry) -> str:
    assert settings.plan is not None, "the configuration was checked"
    return settings.plan.country_code
