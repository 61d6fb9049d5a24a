"""Text files with a configured layout: full lists, queries to registries and their answers.

A file is accepted as a whole or not at all. Errors name the file, the line, and the reason, but never a
telephone number.
"""

from datetime import date
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np

from dialgate.core.numbering_plan import NumberingPlan, is_valid, numbering_plan
from registry_sync.formats import text
from registry_sync.formats.layout import Column, FileLayout
from registry_sync.formats.line_reader import SEPARATOR_OF, InvalidLine, LineReader, Rows
from registry_sync.formats.number_files import LISTED, FullFile, NumberFile, without_repetitions
from registry_sync.formats.text import FaultyFile, Mask, Numbers

# A file for another country, or a wrong column, contains few valid numbers. A registry may list some numbers that are not in use.
_SAMPLE: Final = 100
_LEAST_VALID: Final = 0.5
_STATUS_BITS: Final = np.uint64(2)


class TableFormat:
    """A reader and writer for files with a given layout."""

    def __init__(self, layout: FileLayout) -> None:
        self._layout = layout
        plan = numbering_plan(layout.country)
        assert plan is not None, "`layout.find_problems` checks the country"
        self._plan: NumberingPlan = plan

    # ---- full lists --------------------------------------------------------------------------------------------------

    def read_list(self, path: Path, version: date, progress: text.Progress = text.no_progress) -> FullFile:
        """Read a full list with the version date `version`. Raises FaultyFile and OSError."""
        sha256_, rows = self._read(path, progress, self._layout, version)
        lines, (numbers, statuses, days) = len(rows.numbers), rows
        listed = statuses == LISTED
        if self._layout.date is None:
            numbers = numbers if listed.all() else numbers[listed]
            numbers.sort()
            return FullFile(sha256_, lines, without_repetitions(numbers))
        order = np.lexsort((days[listed], numbers[listed]))
        numbers, days = numbers[listed][order], days[listed][order]
        is_last = np.append(numbers[1:] != numbers[:-1], np.True_)[: len(numbers)]
        return FullFile(sha256_, lines, numbers[is_last], days[is_last])

    # ---- queries and answers -----------------------------------------------------------------------------------------

    def is_queryable(self, numbers: Numbers) -> Mask:
        """Return, for each E.164 number, whether the registry covers it.

        A covered number has the country code of the layout's country, a length that is valid in that country, and no
        excluded beginning.
        """
        mask = np.zeros(len(numbers), np.bool_)
        for length in self._plan.lengths:
            mask |= numbers // np.uint64(10**length) == int(self._plan.country_code)
        for beginning in self._layout.excluded:
            prefix = self._plan.country_code + beginning
            for length in range(len(beginning), max(self._plan.lengths) + 1):
                mask &= numbers // np.uint64(10 ** (length - len(beginning))) != int(prefix)
        return mask

    def request_text(self, numbers: Numbers, since: date | None = None, /) -> bytes:
        """Return the text of a query about E.164 numbers.

        If `since` is given, the query asks which numbers were disconnected on or after that day.
        """
        names, layout = self._layout.request, self._layout
        day = since.strftime(layout.date_format) if since else ""
        rows = [self._format_number(number) for number in numbers.tolist()]
        if names:
            rows = [
                SEPARATOR_OF[self._layout.separator].join(
                    number if name == layout.number else day if name == layout.date else str(at)
                    for name in names
                )
                for at, number in enumerate(rows, 1)
            ]
            rows.insert(0, SEPARATOR_OF[self._layout.separator].join(names))
        return "".join(f"{row}\r\n" for row in rows).encode(self._layout.encoding)

    def read_request(self, path: Path, progress: text.Progress = text.no_progress) -> NumberFile:
        """Read a query file. Raises FaultyFile and OSError.

        A query has no statuses, so every status in the result is 0.
        """
        return self._read_sorted(path, progress, self._request_layout, has_statuses=False)

    def read_answer(self, path: Path, progress: text.Progress = text.no_progress) -> NumberFile:
        """Read an answer file. Raises FaultyFile and OSError."""
        has_statuses = self._layout.status is not None
        file = self._read_sorted(path, progress, self._layout, has_statuses=has_statuses)
        return file._replace(only_clear=not has_statuses)

    @cached_property
    def _request_layout(self) -> FileLayout:
        layout = self._layout
        separator = layout.separator if layout.request else "none"
        number: Column = layout.number if layout.request else 1
        return FileLayout(
            country=layout.country,
            numbers=layout.numbers,
            encoding=layout.encoding,
            separator=separator,
            header=bool(layout.request),
            number=number,
        )

    def _format_number(self, number: int) -> str:
        digits = str(number)
        if self._layout.numbers == "international":
            return digits
        return self._plan.written + digits[len(self._plan.country_code) :]

    # ---- reading -----------------------------------------------------------------------------------------------------

    def _read_sorted(
        self, path: Path, progress: text.Progress, layout: FileLayout, *, has_statuses: bool
    ) -> NumberFile:
        """Read a query or an answer. Without statuses, every status in the result is 0."""
        sha256_, rows = self._read(path, progress, layout)
        keys, lines = rows.numbers, len(rows.numbers)
        if has_statuses:
            # Number and status in one integer: a single sort in place, which needs no further memory.
            keys <<= _STATUS_BITS
            keys |= rows.statuses
        keys.sort()
        keys = without_repetitions(keys)
        statuses = np.zeros(len(keys), np.uint8)
        if has_statuses:
            np.bitwise_and(keys, (1 << int(_STATUS_BITS)) - 1, out=statuses, casting="unsafe")
            keys >>= _STATUS_BITS
        first_line = 2 if layout.header else 1
        return NumberFile(
            path.name,
            sha256_,
            keys,
            statuses,
            lines,
            first_line,
            lambda: self._read(path, text.no_progress, layout)[1].numbers,
        )

    def _read(
        self, path: Path, progress: text.Progress, layout: FileLayout, version: date | None = None
    ) -> tuple[str, Rows]:
        """Return the file's hash, and its rows in their order. Raises FaultyFile and OSError."""
        total = sha256()
        # They grow in place. A list of arrays would be copied in the end.
        numbers, statuses, days = bytearray(), bytearray(), bytearray()
        reader = LineReader(layout, self._plan, version)
        for chunk in text.read_chunks(path, total.update, progress):
            try:
                for part in reader.read(chunk):
                    numbers.extend(part.numbers.data)
                    statuses.extend(part.statuses.data)
                    days.extend(part.days.data)
            except InvalidLine as fault:
                raise FaultyFile(f"{path.name}, line {reader.line:,}: {fault}") from None
        rows = Rows(
            np.frombuffer(numbers, np.uint64),
            np.frombuffer(statuses, np.uint8),
            np.frombuffer(days, np.int32),
        )
        if not len(rows.numbers):
            raise FaultyFile(f"{path.name}: the file is empty")
        sample = rows.numbers[:_SAMPLE].tolist()
        if sum(map(is_valid, sample)) < _LEAST_VALID * len(sample):
            raise FaultyFile(
                f"{path.name}: most of its first {len(sample)} numbers are not valid. Check `country`, `number` and"
                " `numbers` in the layout"
            )
        return total.hexdigest(), rows
