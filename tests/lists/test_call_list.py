"""Tests of call lists: every row is counted, an invalid file is refused as a whole, and messages contain no number."""

import re
from contextlib import closing
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialgate.core.model import Basis
from dialgate.lists import call_list, tabular
from dialgate.lists.call_list import BASES, RowProblem, Tally
from dialgate.lists.number_set import NumberSet

ROME, MILAN, MOBILE = 390612345678, 390298765432, 393331234567
# Seven or more digits in a row could be a number; fewer are a line or a count.
NUMBER = re.compile(r"\d{7}|\d[\d ./-]{7}\d")


def built(path: Path, text: str, basis: Basis = "directory") -> Tally:
    """Write `text` to a file, open it as the command and the server do, and build a call list from it."""
    file = path / "list.csv"
    file.write_text(text, "utf-8", newline="")
    with file.open("rb") as opened:
        table = tabular.read(opened, "IT")
        return call_list.build(table, path / "list.numbers", home="IT", basis=basis)


def read_bases(path: Path, tally: Tally) -> dict[int, Basis]:
    """Return the legal basis of each number in the number set that `built` wrote."""
    with closing(NumberSet.open(path / "list.numbers")) as numbers:
        return {int(item): tally.bases[numbers.tag(int(item))] for item in numbers.arrays()[0]}


BOTH: dict[int, Basis] = {ROME: "directory", MILAN: "directory"}
MIXED: dict[int, Basis] = {ROME: "consent", MILAN: "directory"}


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("+390612345678\n+390298765432\n", BOTH),
        ("0612345678\n0298765432", BOTH),
        ("06 1234 5678\r\n02-98765432\r\n", BOTH),
        ("0612345678\r0298765432\r", BOTH),
        ("\ufeff+390612345678\n+390298765432\n", BOTH),
        ("\ufeffNumero\n0612345678\n0298765432\n", BOTH),
        ("\n\nphone\n0612345678\n\n\n0298765432\n\n", BOTH),
        ("nome,TELEFONO\nRossi,0612345678\nVerdi,0298765432\n", BOTH),
        ("nome;telefono\nRossi, Mario;0612345678\nVerdi;0298765432\n", BOTH),
        ("nome\ttelephone\nRossi; Mario\t0612345678\nVerdi\t0298765432\n", BOTH),
        ('"nome";"msisdn"\r\n"Rossi; Mario";"+390612345678"\r\n"Verdi";"+390298765432"\r\n', BOTH),
        ('number,note\n0612345678,"two\nlines"\n0298765432,\n', BOTH),
        ("0612345678,Rossi\n0298765432,Verdi\n", BOTH),
        ("phone,0612345678\nmobile,0298765432\n", BOTH),  # no header: the first row contains a number
        ("number,basis\n0612345678,consent\n0298765432,\n", MIXED),
        ("Base_Giuridica;Tel\n Consent ;0612345678\ndirectory;0298765432\n", MIXED),
        ('"number";"basis"\n"0612345678";"consent"\n"0298765432";"directory"\n', MIXED),
        # the first of two rows with the same number counts
        ("number,basis\n0612345678,consent\n0298765432,directory\n+390612345678,contract\n", MIXED),
    ],
)
def test_a_list_is_read_in_the_formats_of_spreadsheets_and_exports(
    tmp_path: Path, text: str, numbers: dict[int, Basis]
) -> None:
    tally = built(tmp_path, text)
    assert read_bases(tmp_path, tally) == numbers
    assert (tally.accepted, tally.refused, tally.problems) == (2, 0, [])


def test_every_row_is_accepted_a_duplicate_or_refused(tmp_path: Path) -> None:
    text = "name,number,basis\na,0612345678,\nb,06 1234 5678,\nc,12,\nd,,consent\ne,333 1234567,marriage\nf\n"
    tally = built(tmp_path, text)
    assert (tally.rows, tally.accepted, tally.duplicates, tally.refused) == (6, 1, 1, 4)
    assert [(problem.line, problem.problem) for problem in tally.problems if "basis" in problem.problem] == [
        (6, "basis must be one of directory, consent, contract, request")
    ]
    assert [problem.line for problem in tally.problems] == [4, 5, 6, 7]


@pytest.mark.parametrize("place", ["Florida", "US-NX", "USA", "US"])
def test_a_row_whose_place_is_no_subdivision_is_refused(tmp_path: Path, place: str) -> None:
    tally = built(tmp_path, f"number,place\n0612345678,{place}\n0298765432,US-FL\n333 1234567,\n")
    ((line, problem),) = [(problem.line, problem.problem) for problem in tally.problems]
    assert line == 2
    assert re.match("place is not (an ISO 3166-2 code|a subdivision of US)", problem)
    assert sorted(tally.places) == ["", "US-FL"]


def test_a_number_has_the_basis_and_the_place_of_its_row(tmp_path: Path) -> None:
    text = "number,basis,place\n0612345678,consent,us-fl\n0298765432,,US-FL\n333 1234567,directory,\n"
    tally = built(tmp_path, text)
    with closing(NumberSet.open(tmp_path / "list.numbers")) as numbers:
        tags = [numbers.tag(number) for number in (ROME, MILAN, MOBILE)]
    assert [(tally.bases[tag], tally.stated[tag], tally.places[tag]) for tag in tags] == [
        ("consent", False, "US-FL"), ("directory", False, "US-FL"), ("directory", True, ""),
    ]  # fmt: skip


@pytest.mark.parametrize("rows", ["US-WY US-FL", "US-FL US-WY", "US-WY US-FL US-FL", " US-WY US-FL"])
def test_a_number_with_two_places_is_refused(tmp_path: Path, rows: str) -> None:
    places = rows.split(" ")
    lines = [f"0612345678,{place}" for place in places]
    tally = built(tmp_path, "\n".join(["number,place", "0298765432,US-NY", *lines]))
    assert list(read_bases(tmp_path, tally)) == [MILAN]
    assert (tally.accepted, tally.duplicates, tally.refused) == (1, len(places) - 1, 1)
    assert [problem.problem for problem in tally.problems] == [
        "has two different places on the list; correct one of its rows"
    ]


def test_a_later_row_of_a_number_states_its_place(tmp_path: Path) -> None:
    tally = built(tmp_path, "number,place\n0612345678,\n0612345678,US-FL\n0612345678,\n")
    assert (tally.accepted, tally.duplicates, tally.places) == (1, 2, ("US-FL",))


@pytest.mark.parametrize(
    "text",
    [
        "Telefono 1;basis\n0612345678;consent\n",
        "sep=;\ntelefono;basis\n0612345678;consent\n",
        "List of 2026;;\ntelefono;base giuridica;x\n0612345678;consent;y\n",
        "telefono;x;basis\n0298765432;y;consent\ntelefono;basis;x\n0612345678;consent;\n",
        "number;x\nnumber;place\n0612345678;US-FL\n",
    ],
)
def test_a_header_in_another_row_is_not_skipped(tmp_path: Path, text: str) -> None:
    """If the header were skipped, every basis would be lost, and consents would count as directory entries."""
    with pytest.raises(
        call_list.CallListUnreadable,
        match=r"^Line \d looks like the header, because it contains the column name (basis|base giuridica|place)\.",
    ):
        built(tmp_path, text)


def test_a_repeated_header_is_a_refused_row(tmp_path: Path) -> None:
    tally = built(tmp_path, "number;basis\n0612345678;consent\nnumber;basis\n0298765432;\n")
    assert (read_bases(tmp_path, tally), tally.refused) == (MIXED, 1)


def test_a_list_has_a_limited_number_of_places(tmp_path: Path) -> None:
    places = (f"DE-{first}{second}{third}" for first, second, third in product("ABCDEFGHIJKLMNOP", repeat=3))
    rows = [f"06{10_000_000 + at},{place}" for at, place in enumerate([*places, "DE-99"])]
    tally = built(tmp_path, "\n".join(["number,place", *rows]))
    assert (tally.accepted, len(tally.places)) == (4_096, 4_096)
    assert [problem.problem for problem in tally.problems] == [
        "place: a list may have at most 4,096 different places; split the list"
    ]


def test_only_the_first_hundred_problems_are_reported_and_all_are_counted(tmp_path: Path) -> None:
    tally = built(tmp_path, "0612345678\n" + "x\n" * 101)
    assert (tally.refused, len(tally.problems), tally.problems[-1].line) == (101, 100, 101)


@pytest.mark.parametrize("basis", BASES)
def test_a_list_with_one_legal_basis_is_written_without_tags(tmp_path: Path, basis: Basis) -> None:
    """The basis is set for the list, or is the same in every row. The basis of an invalid row does not count."""
    for text in (
        "0612345678\n0298765432\n",
        f"number,basis\n0612345678,{basis}\n0298765432,{basis}\n12,request\n",
    ):
        tally = built(tmp_path, text, basis if "basis" not in text else "directory")
        assert tally.bases == (basis,)
        with closing(NumberSet.open(tmp_path / "list.numbers")) as numbers:
            assert numbers.arrays()[1] is None
        assert read_bases(tmp_path, tally) == {ROME: basis, MILAN: basis}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "The file has no rows; send one number per row."),
        ("\ufeff", "The file has no rows; send one number per row."),
        ("\r\n\r\n", "The file has no rows; send one number per row."),
        ("numero;nome\r\n", "The file has no rows; send one number per row."),
        ("nome,indirizzo\nRossi,via 1\n", "No row has a valid telephone number (rows: 2). Line 1: "),
        ("number,basis\n0612345678,marriage\n",
         "No row has a valid telephone number (rows: 1). Line 2: basis must be one of directory, consent, contract, request."),
        ("number\n0612345678\n" + "9" * (1 << 20) + "\n", "Line 3 is not CSV (field larger than field limit (131072))"),
        ('0612345678\n"0298765432\n0612345679\n', "Line 3 is not CSV (unexpected end of data); check for an unclosed quotation mark"),
        ('0612345678\n"0298765432"1\n', "Line 2 is not CSV ("),
    ],
    ids=range(9),
)  # fmt: skip
def test_an_invalid_file_is_refused_and_nothing_is_written(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(tabular.Unreadable) as refused:
        built(tmp_path, text)
    assert str(refused.value).startswith(expected)
    assert NUMBER.search(str(refused.value)) is None
    assert not (tmp_path / "list.numbers").exists()


def test_a_line_end_within_a_row_does_not_split_the_row() -> None:
    """A row from a JSON array can contain a line break. The whole list must be refused."""
    for row in ("0612345678\n0298765432", "0612345678\r0298765432"):
        with pytest.raises(tabular.Unreadable, match="contains a line break"):
            tabular.from_lines([row])


_CELL = st.one_of(
    st.sampled_from([str(ROME), "+390612345678", "06/12345678", "12", "0612345678 ext 12", "+3906\uff112345678", "", '"']),
    st.text('0123456789+;," \u0661', max_size=24),
)  # fmt: skip


@given(st.lists(st.tuples(_CELL, st.sampled_from(["", *BASES, "0612345678"])), max_size=8))
def test_no_message_contains_a_number_and_the_counts_add_up(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    """For any rows: accepted, duplicate, refused and doubtful rows add up to all rows, and no message contains a number."""
    path = tmp_path_factory.mktemp("list")
    texts: list[str] = []
    try:
        tally = built(path, "number;basis\n" + "".join(f"{number};{basis}\n" for number, basis in rows))
    except tabular.Unreadable as refused:
        texts = [str(refused)]
    else:
        texts = [problem.problem for problem in tally.problems]
        assert tally.rows == tally.accepted + tally.duplicates + tally.refused + tally.doubtful
        assert sum(tally.reasons.values()) == tally.refused + tally.doubtful
        assert len(read_bases(path, tally)) == tally.accepted
        assert all(isinstance(problem, RowProblem) for problem in tally.problems)
    assert not any(NUMBER.search(text.replace("131072", "")) for text in texts)


@pytest.mark.parametrize(
    ("text", "basis", "bases", "stated", "unstated"),
    [
        ("0612345678\n3331234567\n3331234567\n", "directory", ("directory",), (False,), 1),
        ("number,basis\n0612345678,\n3331234567,directory\n", "directory", ("directory", "directory"), (False, True), 0),
        ("number,basis\n0612345678,directory\n3331234567,directory\n", "consent", ("directory",), (True,), 0),
        ("number,basis\n0612345678,\n3331234567,consent\n", "directory", ("directory", "consent"), (False, False), 0),
        ("3331234567\n", "consent", ("consent",), (False,), 0),
        # A number that is rejected because of two places counts nowhere.
        ("number,place\n0612345678,\n3331234567,IT-RM\n3331234567,IT-MI\n", "directory", ("directory",), (False,), 0),
    ],
)  # fmt: skip
def test_a_mobile_is_in_the_directory_only_if_its_own_row_says_so(
    tmp_path: Path, text: str, basis: Basis, bases: tuple[Basis], stated: tuple[bool], unstated: int
) -> None:
    file = tmp_path / "list.csv"
    file.write_text(text)
    with file.open("rb") as opened:
        table = tabular.read(opened, "IT")
        tally = call_list.build(
            table, tmp_path / "set", home="IT", basis=basis, stated_kinds={"mobile"}, note=lambda _: None
        )
    assert (tally.bases, tally.stated, tally.unstated) == (bases, stated, unstated)
