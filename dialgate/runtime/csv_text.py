"""CSV that a spreadsheet opens without running a cell as a formula, whatever separator its country uses."""

import re
from collections.abc import Iterable
from typing import Final

# Spreadsheets drop line feeds, returns and tabs before a formula, and some accept full-width signs.
_FORMULA: Final = re.compile(r"[=@+\-\t\r\n\uff1d\uff20\uff0b\uff0d]")
_NUMBER: Final = re.compile(r"[+\-][\d ()./-]*")
# The separators of all countries: `;` separates columns where the comma is the decimal mark.
_QUOTED: Final = re.compile(r'[,;\t|"\r\n]')


def table(rows: Iterable[Iterable[object]]) -> str:
    """Return rows with commas and the line breaks of RFC 4180, each cell as in `line`."""
    return "".join(f"{line(row, ',')}\r\n" for row in rows)


def line(cells: Iterable[object], separator: str, *, keep_numbers: bool = False) -> str:
    """Return a row without its line break.

    A text that could be a formula gets an apostrophe. With `keep_numbers`, a plain number such as +39… gets none, so that
    other programs can read it.
    """
    texts = (
        _inert(cell, keep_numbers=keep_numbers) if isinstance(cell, str) else str(cell) for cell in cells
    )
    return separator.join(_quoted(text, separator) for text in texts)


def _inert(cell: str, *, keep_numbers: bool) -> str:
    is_safe = not _FORMULA.match(cell) or (keep_numbers and _NUMBER.fullmatch(cell))
    return cell if is_safe else f"'{cell}"


def _quoted(cell: str, separator: str) -> str:
    if _QUOTED.search(cell) or separator in cell:
        return '"' + cell.replace('"', '""') + '"'
    return cell
