"""Formats for queries and answers: the Italian registry's format, or a layout in the settings."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Final, Protocol

from registry_sync.config import QueriedRegistry, QueryFormatName
from registry_sync.formats import rpo
from registry_sync.formats.number_files import NumberFile
from registry_sync.formats.table import TableFormat
from registry_sync.formats.text import Mask, Numbers, Progress, no_progress


class QueryFormat(Protocol):
    """The functions that read and write queries and answers in one format.

    `read_request` and `read_answer` start a progress bar with `progress`. They raise FaultyFile and OSError.
    """

    def is_queryable(self, numbers: Numbers) -> Mask:
        """Return a mask of the E.164 numbers that the registry covers."""

    def request_text(self, numbers: Numbers, since: date | None = None, /) -> bytes: ...

    def read_request(self, path: Path, progress: Progress = no_progress) -> NumberFile: ...

    def read_answer(self, path: Path, progress: Progress = no_progress) -> NumberFile: ...


_WITHOUT_LAYOUT: Final[Mapping[QueryFormatName, QueryFormat]] = {"rpo": rpo}


def query_format(settings: QueriedRegistry) -> QueryFormat:
    return TableFormat(settings.used_layout) if settings.used_layout else _WITHOUT_LAYOUT[settings.format]
