"""The files that a scrub writes: the rows of a list with their verdicts, as CSV or as XLSX.

CSV is for other programs: it keeps each cell as it was, and Excel shows a number such as +39… as 3.9E+11. XLSX is for people: it has
every number in E.164, every cell as text, and a sentence beside the reason code. In CSV, the sentences took a tenth of the time.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
from msgspec import Struct

from dialgate.core.refusal import Refused
from dialgate.ledger.judge import Indexes
from dialgate.ledger.scrub import ScrubVerdict
from dialgate.lists.call_list import sha256_of
from dialgate.lists.number_column import NumberColumn
from dialgate.lists.tabular import Table
from dialgate.runtime import csv_text
from dialgate.runtime.extras import require
from dialgate.texts import LANGUAGES, texts_in

Form: TypeAlias = Literal["csv", "xlsx"]
MEDIA: Final[dict[Form, str]] = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_COLUMNS: Final = ("verdict", "code", "valid_until", "not_before")
_SHEET_COLUMNS: Final = ("verdict", "code", "reason", "valid_until", "not_before")
_MOST_ROWS: Final = 1 << 20  # of a sheet
_MARK: Final = "\ufeff"  # without it, Excel reads UTF-8 as the encoding of its country
_WIDTH: Final = 22  # characters; E.164 has 16, a time 20


class ScrubbedTable(Struct, frozen=True):
    """The rows of a file with their verdicts. `judged` has the index of each row's verdict in `verdicts`."""

    table: Table
    column: NumberColumn
    verdicts: Sequence[ScrubVerdict]
    judged: Indexes

    def write(self, path: Path, form: Form, country: str) -> str:
        """Write the file and return its hash. The sentences are in the language of `country`, or in English.

        Raises `MissingExtra`, `OSError`, and `Refused` if a sheet cannot hold the rows.
        """
        return self._write_xlsx(path, country) if form == "xlsx" else self._write_csv(path)

    def _write_csv(self, path: Path) -> str:
        header, separator, digest = self.table.layout.header, self.table.layout.separator or ",", sha256()
        cells = (csv_text.line(verdict.cells(), separator) for verdict in self.verdicts)
        ends = np.array([f"{separator}{own}\n" for own in cells], object)

        def texts() -> Iterator[str]:
            yield _MARK + (csv_text.line((*header, *_COLUMNS), separator) + "\n" if header else "")
            start = 0
            for part in self.table.parts():
                rows = slice(start, start + len(part))
                yield part.csv(ends[self.judged[rows]].tolist(), len(header), self.column.plain[rows])
                start += len(part)

        with path.open("wb") as file:
            for text in texts():
                content = text.encode()
                digest.update(content)
                file.write(content)
        return digest.hexdigest()

    def _write_xlsx(self, path: Path, country: str) -> str:
        require("xlsx", "Writing a spreadsheet")
        import xlsxwriter  # noqa: PLC0415 - in an extra

        header = self.table.layout.header
        if len(self.judged) + bool(header) > _MOST_ROWS:
            text = f"A spreadsheet has at most {_MOST_ROWS:,} rows. Ask for CSV, or split the list."
            raise Refused("request.invalid", text, "format")
        # A row is written as soon as the next one begins, so memory is limited.
        options = {"constant_memory": True, "tmpdir": str(path.parent)}
        with xlsxwriter.Workbook(str(path), options) as book:
            sheet = book.add_worksheet()
            sheet.freeze_panes(int(bool(header)), 0)
            sheet.set_column(0, len(header) + len(_SHEET_COLUMNS) - 1, _WIDTH)
            sheet.ignore_errors({"number_stored_as_text": f"A1:XFD{_MOST_ROWS}"})
            for at, row in enumerate(self._sheet_rows(country)):
                for place, cell in enumerate(row):
                    sheet.write_string(at, place, cell)
        return sha256_of(path)

    def _sheet_rows(self, country: str) -> Iterator[Sequence[str]]:
        header, place = self.table.layout.header, self.table.layout.number - 1
        if header:
            yield (*header, *_SHEET_COLUMNS)
        reasons = texts_in(next((name for name in LANGUAGES if name == country.lower()), "en")).reasons
        cells = [verdict.cells() for verdict in self.verdicts]
        ends = [(word, code, reasons.get(code, ""), *times) for word, code, *times in cells]
        judged = zip(self.column.numbers.tolist(), self.judged.tolist(), strict=True)
        for part in self.table.parts():
            columns = part.columns()
            width = len(header) or len(columns)
            for texts, (number, verdict) in zip(zip(*columns, strict=True), judged, strict=False):
                row = [*texts, *("",) * (width - len(texts))]
                while len(row) > width and not row[-1]:
                    row.pop()
                if number:
                    row[place] = f"+{number}"
                yield (*row, *ends[verdict])
