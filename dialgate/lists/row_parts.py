"""Rows in parts: as lines of text that need no parsing, or as cells."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import Final

from msgspec import Struct

from dialgate.runtime import csv_text

_CHARACTERS: Final = 1 << 22  # of a part
_LONGEST_PLAIN: Final = 1_000  # characters of a line, so neither its cells nor their number can be too many
_SEPARATORS: Final = ",;\t|"
_FORMULA: Final = "=@-\uff1d\uff20\uff0b\uff0d"  # and a plus sign: see `csv_text`


class PlainLines(Struct, frozen=True):
    """Rows of a text file without quotation marks."""

    texts: list[str]
    separator: str

    def __len__(self) -> int:
        return len(self.texts)

    def cells(self, at: int) -> list[str]:
        """Return the cells of a column, "" where a row is shorter."""
        separator, splits = self.separator, at + 1
        try:
            return [text.split(separator, splits)[at] for text in self.texts]
        except IndexError:
            return [(text.split(separator, splits) + [""] * splits)[at] for text in self.texts]

    def csv(self, ends: Sequence[str], separator: str, width: int, plus: int) -> Iterator[str]:
        """Yield each row as `csv_text.line` writes it, padded to `width` cells, and what ends it.

        `plus` counts the cells that begin with a plus sign and may, because they are numbers.
        """
        text = "\n".join(("", *self.texts))
        signs = text.count("\n+") + text.count(f"{separator}+")
        starts = (f"{before}{sign}" for sign in _FORMULA for before in ("\n", separator))
        if (
            separator != self.separator
            or signs != plus
            or any(map(text.__contains__, (*starts, *_SEPARATORS.replace(separator, ""))))
        ):
            return ParsedRows([text.split(self.separator) for text in self.texts]).csv(
                ends, separator, width, plus
            )
        if not width:
            return (f"{text}{separator}{end}" for text, end in zip(self.texts, ends, strict=True))
        return (
            f"{text}{separator * max(1, width - text.count(separator))}{end}"
            for text, end in zip(self.texts, ends, strict=True)
        )


class ParsedRows(Struct, frozen=True):
    """Rows of any file."""

    rows: list[list[str]]

    def __len__(self) -> int:
        return len(self.rows)

    def cells(self, at: int) -> list[str]:
        return [row[at] if at < len(row) else "" for row in self.rows]

    def csv(self, ends: Sequence[str], separator: str, width: int, plus: int) -> Iterator[str]:  # noqa: ARG002 - as `PlainLines`
        for row, end in zip(self.rows, ends, strict=True):
            padded = (*row, *("",) * (width - len(row)))
            yield f"{csv_text.line(padded, separator, keep_numbers=True)}{separator}{end}"


def plain_lines(text: TextIOWrapper, separator: str) -> Generator[PlainLines | None, None, None]:
    """Yield the lines that are not empty, in parts. None is the last item if only `csv` can split the rest into cells."""
    rest, mark = "", "\ufeff"
    try:
        while block := text.read(_CHARACTERS):
            body, _, rest = (rest + block.removeprefix(mark)).rpartition("\n")
            mark = ""
            yield (lines := _plain(body, separator))
            if lines is None:
                return
            if len(rest) > _LONGEST_PLAIN:
                yield None
                return
        yield _plain(rest, separator)
    finally:
        with suppress(ValueError):  # the caller closes the file, and may have done so already
            text.detach()


def _plain(body: str, separator: str) -> PlainLines | None:
    lines = body.replace("\r\n", "\n").split("\n")
    if '"' in body or "\r" in body.replace("\r\n", "") or max(map(len, lines)) > _LONGEST_PLAIN:
        return None
    texts = [line for line in lines if line[:1] == "+" or line.replace(separator, "").strip()]
    return PlainLines(texts, separator)
