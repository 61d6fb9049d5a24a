"""Tests that judging in columns gives the verdicts of single calls, and that reading in columns gives the cells of rows."""

import csv
import random
import re
import shutil
from collections.abc import Iterator
from io import BytesIO, StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import phonenumbers
import pytest

from dialgate.config import loader
from dialgate.core.ledger_events import Draft, Revoked
from dialgate.core.model import DAY, HOUR, Instant
from dialgate.crypto.keys import Keys
from dialgate.ledger.judge import Judge
from dialgate.ledger.scrub import verdict_now
from dialgate.lists import lost_zeros, number_set, tabular
from dialgate.lists.call_list import number_of, sha256_of
from dialgate.lists.manifest import Manifest, ManifestEntry
from dialgate.lists.number_column import read_column
from dialgate.lists.number_set import NumberSet
from dialgate.lists.snapshot import Consultation, Contents, State
from dialgate.runtime import csv_text
from dialgate.store.factory import open_store
from tests.lists.test_tabular import workbook
from tests.support import world
from tests.support.world import CONFIG, NOW

COUNTRIES = ("it", "fr", "es", "gb", "us", "de")
REGIONS = ("IT", "FR", "ES", "GB", "US", "DE", "VA", "SM", "AR", "MG", "BR", "RU", "GG", "CA")
# Invalid numbers, ranges of another country code, and the shortest and longest of all.
ODD = [39312, 33596123456, 3534812345, 390549886377, 393312, 999999999999999, 1000000]


def numbers_of(rng: random.Random, count: int) -> list[int]:
    """Return valid and invalid numbers of several countries, with duplicates."""
    examples = [
        int(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))
        for region in REGIONS
        for kind in phonenumbers.PhoneNumberType.values()
        if (number := phonenumbers.example_number_for_type(region, kind))
    ]
    drawn = [rng.choice(examples) for _ in range(count)]
    return [number // (tail := 10 ** rng.randrange(5)) * tail + rng.randrange(tail) for number in drawn] + ODD


def write_answers(folder: Path, rng: random.Random, numbers: list[int], now: Instant = NOW) -> None:
    """Publish answers of a registry that is asked, and of two full lists: one with tags, one without."""
    asked = [
        Consultation(
            id=f"at-{at}", submitted_at=at, answered_at=at + HOUR, imported_at=at + HOUR, receipt="", request_sha256="0" * 64,
            answer_sha256="0" * 64, lines=1, listed=1, clear=0,
        )
        for at in (now - 20 * DAY, now - DAY)
    ]  # fmt: skip
    states = tuple(State(answer=answer, consultation=at) for at in (0, 1) for answer in ("listed", "clear"))
    coverage = ("44", "441", "4477", "1", "1212", "49")
    full: dict[str, Any] = {
        "controller": "", "mode": "full_list", "coverage": coverage, "covered_by": (0, 1, 0, 1, 0, 1),
        "consultations": tuple(asked),
    }  # fmt: skip
    contents = (
        Contents(
            registry="rpo", controller="acme", mode="answers", consultations=tuple(asked), states=states
        ),
        Contents(registry="tps", states=states, **full),
        Contents(registry="us_dnc", states=states[2:3], **full),
    )
    entries = []
    for content in contents:
        path = folder / f"{content.registry}.numbers"
        held = number_set.distinct(np.array(rng.sample(numbers, len(numbers) // 2), np.uint64))
        tags = (
            np.array([rng.randrange(len(states)) for _ in held], np.uint16)
            if len(content.states) > 1
            else None
        )
        number_set.write(path, [held], meta=msgspec.json.encode(content), tags=tags)
        entries.append(
            ManifestEntry(
                registry=content.registry, controller=content.controller, mode=content.mode, file=path.name,
                sha256=NumberSet.open(path).sha256, numbers=len(held),
            )
        )  # fmt: skip
    manifest = Manifest(version="0" * 16, published_at=now - DAY, files=tuple(entries))
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))


@pytest.mark.parametrize("seed", range(4))
async def test_a_number_has_the_verdict_of_a_call_to_it(
    tmp_path: Path, seed: int, store_settings: dict[str, Any]
) -> None:
    rng = random.Random(seed)
    path = world.write_folder(
        tmp_path, accept_drafts=[name.upper() for name in COUNTRIES[1:5]], **store_settings
    )
    for country in COUNTRIES:
        shutil.copy(CONFIG / "countries" / f"{country}.yaml", tmp_path / "countries")
    config = loader.load(path)
    numbers = numbers_of(rng, 1_500)
    for name in ("lists", "snapshots"):
        (config.data / name).mkdir(parents=True)
    write_answers(config.data / "snapshots", rng, numbers)
    keys = Keys.open(config.data / "keys.json")
    store = await open_store(config, keys)
    for name, tags in (("plain", 1), ("tagged", 3)):
        listed = tuple(f"+{number}" for number in {*rng.sample(numbers, len(numbers) // 2)})
        bases = (("directory",), ("consent", "directory", "contract"))[tags > 1]
        held = number_set.distinct(np.array([int(number) for number in listed], np.uint64))
        record = world.write_list(
            config.data / "lists", listed[:1], id=name, bases=bases[:1], file=f"{name}.numbers"
        )
        number_set.write(
            config.data / "lists" / record.file, [held], meta=b"{}",
            tags=np.array([rng.randrange(tags) for _ in held], np.uint16) if tags > 1 else None,
        )  # fmt: skip
        sha256 = sha256_of(config.data / "lists" / record.file)
        await store.add_list(msgspec.structs.replace(record, bases=bases, sha256=sha256, numbers=len(held)))
    revoked = rng.sample(numbers, 200)
    owners = ("acme", "*")
    await store.append(
        [
            Draft(
                at=NOW - HOUR, controller=owners[at % 2], subject=keys.subject(owners[at % 2], f"+{number}"),
                event=Revoked(at=NOW - HOUR), actor="anna", channel="web",
            )
            for at, number in enumerate(revoked)
        ]
    )  # fmt: skip
    whole, single = (Judge(config, store, keys, "acme-fibre", NOW, NOW + 1, verdict_now) for _ in range(2))
    await whole.open()
    await single.open()
    rng.shuffle(numbers)
    judged = await whole.judge(np.array(numbers, np.uint64))
    expected = await single.judge_singly([f"+{number}" for number in numbers])
    verdicts = [whole.verdicts[index] for index in judged]
    assert verdicts == [single.verdicts[index] for index in expected]
    codes = {verdict.code for verdict in verdicts}
    assert {"number.invalid", "revocation.revoked", "registry.listed", "list.unknown"} <= codes, codes
    whole.close()
    single.close()
    await store.close()


PLAIN = re.compile(r"\+[1-9][0-9]{6,14}")
CELLS = (
    "+390612345678",
    "+39 06 1234",
    "-5",
    "+39331234567",
    "+03933123456",
    "+3933312345678901",
    "+393331234567890",
    "+393312a4567",
    "Rossi",
    "",
    " ",
    "=1",
    "@x",
    "\uff0b1",
    "Via Roma, 1",
    "a|b",
    "caffè",
    "+1",
    "-",
    "x\ty",
)


@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("separator", [";", ",", "\t"])
def test_lines_without_quotation_marks_are_written_as_their_cells(separator: str, quoted: bool) -> None:
    rng = random.Random(f"{separator}{quoted}")
    for _ in range(150):
        cells = CELLS[: rng.choice((4, 11, len(CELLS)))]
        rows = [
            [rng.choice(cells).replace(separator, "") for _ in range(rng.randrange(1, 4))] for _ in range(6)
        ]
        rows[0][0] = "+390612345678"
        ends = [rng.choice(("\n", "\r\n")) for _ in range(7)]
        lines = zip([["number", "a"], *rows], ends, strict=True)
        text = "".join(f"{separator.join(row)}{end}" for row, end in lines)
        text = text[: len(text) - rng.randrange(2)] + f'"x y"{separator}1' * quoted
        table = tabular.read(BytesIO(text.encode()), "FR", tabular.Hints(separator=separator, column="1"))
        kept = [
            row
            for row in csv.reader(StringIO(text, newline=""), delimiter=separator)
            if any(map(str.strip, row))
        ]
        parts = list(table.parts())
        for at in range(3):
            cells_read = [part.cell(row, at) for part in parts for row in range(len(part))]
            assert cells_read == [tabular.cell(row, at) for row in kept[1:]]
            numbers = np.concatenate([part.numbers(at) for part in parts]).tolist()
            assert numbers == [int(cell) if PLAIN.fullmatch(cell) else 0 for cell in cells_read]
        width, plain = len(table.layout.header), iter(read_column(table, "FR").plain)
        written = "".join(
            part.csv([f"{separator}E\n"] * len(part), width, np.array([*islice(plain, len(part))], np.bool_))
            for part in parts
        )
        padded = [[*row, *[""] * (width - len(row))] for row in kept[1:]]
        assert written == "".join(
            f"{csv_text.line(row, separator, keep_numbers=True)}{separator}E\n" for row in padded
        )


FILES = (
    [
        "+393331234567",
        "0612345678",
        "331234567",
        "x",
        "",
        "112",
        "00393331234567",
        "+39 333 1234568",
        "=A1",
        "+39333\n4",
    ],
    ["612345678", "3331234567", "331234567", "+393331234567"],  # a column that lost its zeros
    ["0612345678", "331234567", "+39612345678", "\uff0b393331234567", "+3933312345678901"],
    [331234567, 393331234567, 3331234567, "+393331234567", 2.5, True],  # cells stored as numbers
)


@pytest.mark.parametrize("cells", FILES)
@pytest.mark.parametrize("home", ["IT", "FR", "IT ES"])
def test_a_column_has_the_numbers_of_its_rows(cells: list[Any], home: str) -> None:
    files = [workbook([["number", "x"], *([cell, "x"] for cell in cells)])]
    if all(isinstance(cell, str) for cell in cells):
        files.append("".join(f'"{cell}";x\n' for cell in ["number", *cells]).encode())
        files.append("".join(f"{cell};x\n" for cell in ["number", *cells] if "\n" not in cell).encode())
    for file in files:
        table = tabular.read(BytesIO(file), home)
        column = read_column(table, home)
        read = [column.others.get(at, f"+{number}") for at, number in enumerate(column.numbers.tolist())]
        rows = [tabular.cell(row, 0) for _, row in table.rows]
        assert read == list(numbers_in(rows, home))
        assert column.doubtful == sum(isinstance(cell, lost_zeros.DoubtfulCell) for cell in rows)


def numbers_in(cells: list[str], home: str) -> Iterator[str]:
    for cell in cells:
        if isinstance(cell, lost_zeros.DoubtfulCell):
            yield ""
            continue
        try:
            yield number_of(cell, home)
        except ValueError:
            yield cell.strip()
