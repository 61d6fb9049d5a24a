"""CSV that a spreadsheet opens without running a cell as a formula, whatever separator its country uses."""

import re
from collections.abc import Iterable
from typing import Final

# Spreadsheets drop line feeds, returns and tabs before a formula, and some accept full-width signs. A plain number is safe.
_FORMULA: Final = re.compile(r"[=@\t\r\n\uff1d\uff20]|[+\-\uff0b\uff0d](?![\d ()./-]*\Z)")
# The separators of all countries: `;` separates columns where the comma is the decimal mark.
_QUOTED: Final = re.compile(r'[,;\t|"\r\n]')


def line(cells: Iterable[object], separator: str) -> str:
    """Return a row without its line break."""
    return separator.join(_quoted(_inert(str(cell)), separator) for cell in cells)


def _inert(cell: str) -> str:
    return f"'{cell}" if _FORMULA.match(cell) else cell


def _quoted(cell: str, separator: str) -> str:
    if _QUOTED.search(cell) or separator in cell:
        return '"' + cell.replace('"', '""') + '"'
    return cell
