"""Tests of files from exports and spreadsheets.

Valid files are read correctly. Damaged and malicious files are rejected as a whole, in limited memory, with a message
that contains no number.
"""

import random
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from dialgate.lists import tabular
from dialgate.lists.tabular import Hints, Layout, Unreadable

ROWS = [["nome", "telefono"], ["Niccolò", "0612345678"], ["Zoë", "0298765432"]]
TEXT = "".join(f"{';'.join(row)}\n" for row in ROWS)
HINTS = Hints()


def text_layout(**changes: Any) -> Layout:
    kept: dict[str, Any] = {
        "format": "text",
        "encoding": "utf-8",
        "separator": ";",
        "sheet": "",
        "header": ("nome", "telefono"),
        "number": 2,
    }
    return Layout(**(kept | changes))  # fmt: skip


@pytest.mark.parametrize(
    ("written", "layout"),
    [
        (TEXT.encode(), text_layout()),
        (TEXT.encode("utf-8-sig"), text_layout(encoding="utf-8-sig")),
        (TEXT.encode("windows-1252"), text_layout(encoding="windows-1252")),
        (TEXT.encode("utf-16"), text_layout(encoding="utf-16")),
        (TEXT.encode("utf-16-le"), text_layout(encoding="utf-16-le")),
        (TEXT.encode("utf-16-be"), text_layout(encoding="utf-16-be")),
        (TEXT.replace(";", "\t").encode(), text_layout(separator="\t")),
        (TEXT.replace(";", "|").replace("\n", "\r\n").encode(), text_layout(separator="|")),
        # a header without a known name: the column is detected by its numbers
        (TEXT.replace("telefono", "contatto").encode(), text_layout(header=("nome", "contatto"))),
        (TEXT.replace("telefono", "Numero di Telefono").encode(), text_layout(header=("nome", "Numero di Telefono"))),
    ],
    ids=range(10),
)  # fmt: skip
def test_encoding_separator_and_column_are_found(written: bytes, layout: Layout) -> None:
    table = tabular.read(BytesIO(written), "IT")
    assert table.layout == layout
    assert list(table.rows) == [(2, ROWS[1]), (3, ROWS[2])]


@pytest.mark.parametrize(
    ("written", "hints", "number", "first"),
    [
        ("a,0612345678\nb,0298765432\n", HINTS, 2, 1),
        ("0612345678,3\n0298765432,4\n", HINTS, 1, 1),
        ("telefono,cellulare\n12,3331234567\n", Hints(column="1"), 1, 2),
        ("telefono,mobile\n0612345678,yes\n", HINTS, 1, 2),
        ("telefono,cellulare\n12,3331234567\n", Hints(column="cellulare"), 2, 2),
        ("telefono,cellulare\n12,3331234567\n", Hints(column="2"), 2, 2),
        ("a:b\nc:0612345678\n", Hints(separator=":"), 2, 2),
        # A first row with a number is no header, even if a label is the name of a column.
        ("mobile;+393331234567\nfixed;+390612345678\n", HINTS, 2, 1),
        ("+393331234567;Tel.\n+390612345678;Tel.\n", HINTS, 1, 1),
        ("mobile;612345678\nfixed;+390612345678\n", HINTS, 2, 1),  # a lost zero: not a valid number
        ("mobile;+393331234567\n", Hints(column="2"), 2, 1),
    ],
)
def test_a_column_is_detected_by_its_content_unless_a_hint_names_it(
    written: str, hints: Hints, number: int, first: int
) -> None:
    table = tabular.read(BytesIO(written.encode()), "IT", hints)
    assert (table.layout.number, next(table.rows)[0]) == (number, first)


def workbook(*sheets: list[list[Any]], hidden: int = -1) -> bytes:
    book, file = Workbook(), BytesIO()
    assert book.active is not None
    book.active.title = "Contatti"
    for at, rows in enumerate(sheets):
        sheet = book.worksheets[at] if at < len(book.worksheets) else book.create_sheet()
        sheet.sheet_state = "hidden" if at == hidden else "visible"
        for row in rows:
            sheet.append(row)
    book.save(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("sheets", "hidden"), [(([], ROWS), -1), ((ROWS, []), -1), (([], ROWS), 0), ((ROWS, [], []), 1)]
)
def test_the_only_sheet_with_content_is_read(sheets: tuple[list[list[Any]], ...], hidden: int) -> None:
    assert read_whole(workbook(*sheets, hidden=hidden)) == len(ROWS) - 1


@pytest.mark.parametrize("hidden", [-1, 0, 1])
def test_a_second_sheet_with_content_is_refused_and_not_left_out(hidden: int) -> None:
    with pytest.raises(Unreadable, match=r"2 sheets of the spreadsheet have content; save each as a file"):
        read_whole(workbook(ROWS, [["0612345679"]], hidden=hidden))


@pytest.mark.parametrize(
    ("written", "places"),
    [
        ("telefono,name,cellulare\n0612345678,a,3331234567\n", "1 (`telefono`), 3 (`cellulare`)"),
        ("telefono,cellulare\n12,3331234567\n", "1 (`telefono`), 2 (`cellulare`)"),
        ("telefono,cellulare\n0612345678,\n", "1 (`telefono`), 2 (`cellulare`)"),  # numbers may follow
        ("0612345678;0612345677;0612345676\n", "1, 2, 3"),
        ("home,office\n0612345678,0612345679\n", "1, 2"),
        ("0612345678;a;\n0612345677;b\n0612345676;c;0612345679\n", "1, 3"),
    ],
)
def test_columns_that_may_both_have_the_number_are_never_chosen_silently(written: str, places: str) -> None:
    with pytest.raises(tabular.SeveralColumns) as refused:
        tabular.read(BytesIO(written.encode()), "IT")
    assert str(refused.value) == (
        f"More than one column may hold the number: {places}. Set `column` (option --column), for example to 1."
    )


def test_a_spreadsheet_is_read_like_any_list() -> None:
    """Telephone numbers may be stored as numbers or as text. A formula has its saved value."""
    book = change_part(
        "sheet1.xml",
        lambda body: body.replace(b'"B5"><f>', b'"B5" t="str"><f>').replace(b"<v />", b"<v>0312345678</v>"),
        [
            ["Nome", "Telefono"], ["Niccolò", "0612345678"], [], ["Zoë", 3331234567], ["x", '=B2&""'],
            [True, date(2026, 1, 2)], [datetime(2026, 1, 2, 3, 4), 2.5],  # noqa: DTZ001 - a cell has no zone
        ],
    )  # fmt: skip
    table = tabular.read(BytesIO(book), "IT")
    assert table.layout == Layout(
        format="xlsx", encoding="", separator="", sheet="Contatti", header=("Nome", "Telefono"), number=2
    )
    assert list(table.rows) == [
        (2, ["Niccolò", "0612345678"]), (4, ["Zoë", "3331234567"]), (5, ["x", "0312345678"]),
        (6, ["True", "2026-01-02 00:00:00"]), (7, ["2026-01-02 03:04:00", "2.5"]),
    ]  # fmt: skip


def change_part(
    part: str, change: Callable[[bytes], bytes], rows: list[list[Any]] = ROWS, name: str = ""
) -> bytes:
    """Return a small workbook with one part rewritten and, with `name`, renamed."""
    written = BytesIO()
    with (
        zipfile.ZipFile(BytesIO(workbook(rows))) as old,
        zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for item in old.namelist():
            body, is_part = old.read(item), item.endswith(part)
            new.writestr((is_part and name) or item, change(body) if is_part else body)
    return written.getvalue()


def bomb() -> bytes:
    """Return a workbook whose sheet has a comment with 64 MiB of blanks. The compressed file is smaller than 100 KiB."""
    return change_part(
        "sheet1.xml", lambda body: body.replace(b"</row>", b"<!--" + b" " * (1 << 26) + b"--></row>", 1)
    )


def lying(claimed: int) -> bytes:
    """Return a zip bomb that states an unpacked size of `claimed` bytes in the central directory, which readers use."""
    raw = bytearray(bomb())
    at = raw.rindex(b"PK\x01\x02", 0, raw.rindex(b"sheet1.xml"))
    raw[at + 24 : at + 28] = claimed.to_bytes(4, "little")
    return bytes(raw)


ENTITIES = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
)
DOCTYPE = '<?xml version="1.0" encoding="UTF-16BE"?><!DOCTYPE x><x/>'


def styles(size: int) -> bytes:
    """Return a workbook with `size` bytes of different cell formats."""
    formats = b"".join(b'<xf numFmtId="%d" fontId="%d"/>' % (n % 997, n) for n in range(size // 32))
    return change_part(
        "styles.xml",
        lambda body: re.sub(
            rb"<cellXfs.*?</cellXfs>", b"<cellXfs>" + formats + b"</cellXfs>", body, flags=re.DOTALL
        ),
    )


def distant_cells() -> bytes:
    """Return a workbook whose second cell is the last that a sheet can have."""
    return change_part("sheet1.xml", lambda body: body.replace(b'r="B3"', b'r="XFD1048576"'))


HOSTILE: list[tuple[str, Callable[[], bytes], str]] = [
    ("cut short", lambda: workbook(ROWS)[:-300], "is damaged, protected or incomplete"),
    ("half", lambda: workbook(ROWS)[:2000], "is damaged, protected or incomplete"),
    ("a zip of another kind", lambda: change_part("workbook.xml", lambda _: b"<x/>"), "is damaged, protected or incomplete"),
    ("no sheet", lambda: change_part("sheet1.xml", lambda _: b""), "is damaged, protected or incomplete"),
    ("sheet breaks off", lambda: change_part("sheet1.xml", lambda body: body[:-60]), "is damaged, protected or incomplete"),
    ("zip bomb", bomb, "is too large when unpacked"),
    ("zip bomb that lies", lambda: lying(1000), "is damaged, protected or incomplete"),
    ("entities", lambda: change_part("sheet1.xml", lambda body: ENTITIES + body.replace(b"0612345678", b"&b;")), "is damaged, protected or incomplete"),
    ("a sheet in UTF-16", lambda: change_part("sheet1.xml", lambda body: body.decode().encode("utf-16")), "is damaged, protected or incomplete"),
    ("a workbook in UTF-16", lambda: change_part("workbook.xml", lambda _: DOCTYPE.encode("utf-16-be")), "is damaged, protected or incomplete"),
    ("a spreadsheet of another format", lambda: change_part("workbook.xml", lambda body: body, name="xl/workbook.bin"), "is damaged, protected or incomplete"),
    ("styles of 16 MB", lambda: styles(16 << 20), "is too large when unpacked"),
    ("a theme of 5 MB", lambda: change_part("theme1.xml", lambda b: b + random.Random(1).randbytes(5 << 20)), "is too large when unpacked"),
    ("a cell of 1 MB", lambda: change_part("sheet1.xml", lambda body: re.sub(
        rb'<c r="B2".*?</c>', b'<c r="B2" t="inlineStr"><is><t>' + b"9" * (1 << 20) + b"</t></is></c>", body)),
     "Line 2 has a cell with more than 32,767 characters"),
    ("too many columns", lambda: b"1," * 2000, "Line 1 has more than 1,024 columns"),
    ("a text cell of 1 MB", lambda: b"0612345678\n" + b"9" * (1 << 20), "Line 2 is not CSV"),
    ("a text cell of 100 KB", lambda: b"0612345678\n" + b"9" * 100_000, "Line 2 has a cell with more than 32,767 characters"),
    ("no line end", lambda: b"9" * (1 << 22), "Line 1 has more than"),
    ("a quotation mark left open", lambda: b'number\n"0612345678\n' + b"1\n" * 100_000, "is not CSV"),
    ("binary", lambda: bytes(range(256)) * 64, "is not text"),
    ("old Excel", lambda: b"\xd0\xcf\x11\xe0" + bytes(4096), "an old or protected Excel file"),
    ("gzip", lambda: b"\x1f\x8b" + bytes(64), "packed with gzip"),
]  # fmt: skip


def read_whole(written: bytes) -> int:
    return sum(1 for _ in tabular.read(BytesIO(written), "IT").rows)


@pytest.mark.parametrize(("made", "expected"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_a_hostile_or_damaged_file_is_refused_with_a_message(
    made: Callable[[], bytes], expected: str
) -> None:
    with pytest.raises(Unreadable) as refused:
        read_whole(made())
    assert expected in str(refused.value)
    assert re.fullmatch(r"[A-Z].*\.", str(refused.value))
    assert not re.search(r"\d{7}", str(refused.value))


@pytest.mark.parametrize("name", [*tabular.ENCODINGS, "UTF8", "latin-1", "cp1252"])
def test_encoding_from_the_short_list_is_used(name: str) -> None:
    table = tabular.read(BytesIO(TEXT.encode(name, "replace")), "IT", Hints(encoding=name, column="2"))
    assert [row[1] for _, row in table.rows] == ["0612345678", "0298765432"]


@pytest.mark.parametrize(
    ("hints", "expected"),
    [
        (Hints(encoding="klingon"), "Unknown encoding"),
        (Hints(encoding="zip"), "Unknown encoding"),
        (Hints(encoding="utf-7"), "use one of utf-8, utf-8-sig, utf-16"),
        (Hints(encoding="punycode"), "Unknown encoding"),
        (Hints(encoding="unicode_escape"), "Unknown encoding"),
        (Hints(encoding="../x"), "Unknown encoding"),
        (Hints(separator=";;"), "one character"),
        (Hints(column="cellulare"), "The file has no such column"),
        (Hints(column="3"), "The file has no such column"),
        (Hints(column="0"), "The file has no such column"),
    ],
)
def test_a_hint_that_matches_nothing_is_refused(hints: Hints, expected: str) -> None:
    with pytest.raises(Unreadable, match=expected):
        tabular.read(BytesIO(TEXT.encode()), "IT", hints)


READ = """
import resource, sys
from pathlib import Path
from dialgate.lists import tabular
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), -1))
try:
    print(sum(1 for _ in tabular.read(Path(sys.argv[1]).open("rb"), "IT").rows))
except tabular.Unreadable as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda: lying(1000), "incomplete"),
        (lambda: b"9" * (1 << 28), "Line 1 has more than"),
        (lambda: b"+390612345678,Rossi\n" * (1 << 19), str(1 << 19)),
    ],
    ids=["bomb", "one line of 256 MiB", "half a million rows"],
)
def test_the_content_of_a_file_does_not_affect_memory_use(
    tmp_path: Path, made: Callable[[], bytes], expected: str
) -> None:
    """Reading the file may add at most 128 MiB to the memory that the process uses after its imports."""
    file = tmp_path / "list"
    file.write_bytes(made())
    begun = subprocess.run(
        [sys.executable, "-c", "import re,python_calamine,dialgate.lists.tabular;print(re.search(r'VmPeak:\\s+(\\d+)', open('/proc/self/status').read())[1])"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    room = (int(begun.stdout) << 10) + (1 << 27)
    done = subprocess.run(
        [sys.executable, "-c", READ, file, str(room)], check=True, capture_output=True, text=True
    )
    assert expected in done.stdout


BULKY = {
    "long cells": b"+390612345678," + b"x" * 30_000 + b"\n",
    "a thousand empty cells": b"+390612345678" + b"," * 1_000 + b"\n",
}


@pytest.mark.parametrize("kind", BULKY)
def test_a_part_of_long_or_wide_rows_has_fewer_rows(kind: str) -> None:
    """The memory for one part is limited, whatever the rows contain."""
    parts = list(tabular.read(BytesIO(BULKY[kind] * 1_500), "IT").parts())
    assert sum(map(len, parts)) == 1_500
    assert len(parts) > 2


@pytest.mark.parametrize("quote", ["", '"'])
def test_columns_of_rows_of_different_lengths_are_filled_with_empty_cells(quote: str) -> None:
    rows = f"number;a;b\n+390612345678;{quote}x{quote}\n+390612345679;y;;z\n+390612345670\n"
    (part,) = (part for part in tabular.read(BytesIO(rows.encode()), "IT").parts() if len(part))
    _, *others = part.columns()
    assert others == [["x", "y", ""], ["", "", ""], ["", "z", ""]]
