"""Lines that are read together mean the same as lines that are read singly."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registry_sync.formats.layout import LAYOUTS, FileLayout
from registry_sync.formats.table import TableFormat
from registry_sync.formats.text import FaultyFile

# Layouts, each with a valid line of their files.
VALID = (
    (FileLayout(country="IT", status=2, clear=("0",), listed=("1",)), "3312345678,0"),
    (FileLayout(country="FR", separator=";", number=2, status=1, clear=("N",), unknown=("?",)), "N;0612345678"),
    (FileLayout(country="HU", separator="none"), "06201234567"),
    (FileLayout(country="GB", line=r"0?[^0,\n][^,\n]*\r?\n?"), "07911123456"),
    (FileLayout(country="US", numbers="international"), "12015550123"),
    (FileLayout(country="DE", numbers="international", separator="tab", status=3, clear=("no",)), "4930123456\t\tno"),
)  # fmt: skip
STARTS = ("", "0", "00", "06", "8", "39", "0039", "44", "1", "49", "0049", " 0", "00390", "+")
NUMBERS = st.builds(
    "{}{}{}".format,
    st.sampled_from(STARTS),
    st.text("0123456789", max_size=14),
    st.sampled_from(("", " ", "\r", "  \r", "x", "\u0663", "\t")),
)
OTHERS = st.sampled_from(("0", "1", "N", " N ", "no", "?", "", "maybe", "a longer word", "0\r", "\0"))
LINES = st.builds(
    lambda separator, cells: separator.join(cells),
    st.sampled_from((",", ";", "\t")),
    st.lists(st.one_of(NUMBERS, OTHERS), min_size=1, max_size=3),
)


def outcome(path: Path, layout: FileLayout, text: str) -> tuple[list[tuple[int, int]], str]:
    path.write_bytes(text.encode())
    try:
        answer = TableFormat(layout).read_answer(path)
    except FaultyFile as fault:
        return [], str(fault)
    return list(zip(answer.numbers.tolist(), answer.statuses.tolist(), strict=True)), ""


@example(VALID[1], ["N\t;0612345678"], "\n")
@given(st.sampled_from(VALID), st.lists(LINES, max_size=4), st.sampled_from(("", "\n")))
def test_lines_read_together_mean_the_same_as_lines_read_singly(
    tmp_path_factory: pytest.TempPathFactory, valid: tuple[FileLayout, str], lines: list[str], end: str
) -> None:
    """A number with dashes is valid, too. It makes the reader read every whole line after the first singly."""
    layout, line = valid
    path = tmp_path_factory.mktemp("lines") / "answer.txt"
    rest = "\n".join([*[line] * 100, *lines]) + end  # most of the first lines must be valid
    texts = (f"{line}\n{second}\n{rest}" for second in (line, line.replace("123", "1-23")))
    together, singly = (outcome(path, layout, text) for text in texts)
    assert together == singly


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("name", "line", "bad"),
    [
        ("rpo", "3312345678,0", "6312345678,0"),
        ("rpo", "3312345678,0", "39331234567,0"),
        ("tps", "07911123456 ", "0791112345"),
    ],
)
def test_one_line_of_another_form_refuses_the_file(
    tmp_path: Path, name: str, line: str, bad: str, end: str
) -> None:
    text = f"{line}{end}" * 101
    numbers, fault = outcome(tmp_path / "answer.txt", LAYOUTS[name], text)
    assert (bool(numbers), bool(fault)) == ((False, True) if name == "tps" and end == "\n" else (True, False))
    _, fault = outcome(tmp_path / "answer.txt", LAYOUTS[name], f"{text}{bad}{end}{text}")
    assert "line 102" in fault or (name == "tps" and "line 1:" in fault)
