"""What leaves the gate as a list: a file with a verdict on each row, and what of a list is callable, in figures.

To pass a scrubbed list on can itself break the law (L. 5/2018 art. 1 c. 7), so each is written down in the ledger, by whom
and of what, before the file is there to be taken: no entry, no file.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Final

from msgspec import Struct

from dialgate.config.clients import Client
from dialgate.core.ledger_events import Exported
from dialgate.core.model import Instant
from dialgate.core.reasons import REASONS
from dialgate.core.refusal import Refused
from dialgate.core.responses import when
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.scrub import AT_ONCE, Judge, Verdict
from dialgate.lists import tabular
from dialgate.lists.call_list import number_of

COLUMNS: Final = ("verdict", "code", "valid_until", "not_before")
# What a spreadsheet would work out when the file is opened. A plain number is left as it is.
_RISKY: Final = frozenset("=@+-\t\r")
_FORMULA: Final = re.compile(r"[=@\t\r]|[+-](?![\d ()./-]*\Z)")


class Order(Struct, frozen=True, kw_only=True):
    """`at`: the instant to judge at, 0 for now; `actor` and `proof`: who exports it and on what ground."""

    campaign: str
    at: Instant = 0
    actor: str = ""
    proof: str = ""


class Scrubbed(Struct, frozen=True, kw_only=True):
    """`seq`: the ledger entry of the export; `sha256`: of the file that was written."""

    campaign: str
    at: str
    rows: int
    allow: int
    later: int
    deny: int
    codes: dict[str, int]
    sha256: str
    seq: int


class Group(Struct, frozen=True):
    code: str
    text: str
    numbers: int


class Later(Struct, frozen=True):
    """So many may be called from `at` on, if nothing else changes."""

    at: str
    numbers: int


class Preview(Struct, frozen=True, kw_only=True):
    list: str
    campaign: str
    at: str
    numbers: int
    callable: int
    groups: tuple[Group, ...]
    later: tuple[Later, ...]


async def scrub(
    registrar: Registrar, client: Client, order: Order, file: IO[bytes], out: Path, hints: tabular.Hints
) -> Scrubbed:
    """The rows of `file` with a verdict each, as CSV in UTF-8. `out` is replaced whole, or left as it was. Raises `Refused`,
    `Unavailable`, and OSError where `out` cannot be written.
    """
    judge, home = await registrar.list_exports.judge(client, order.campaign, order.at)
    fresh = out.with_name(f"{out.name}.new")
    try:
        table = tabular.read(file, home, hints)
        with fresh.open("w", encoding="utf-8", newline="") as written:
            counts = await _written(judge, table, home, written)
        digest = _digest(fresh)
        told = Counter[str]()
        for verdict, rows in counts.items():
            told[verdict.word] += rows
        left = Exported(campaign=order.campaign, rows=counts.total(), allowed=told["allow"], sha256=digest)
        entry = await registrar.list_exports.exported(client, left, order.actor, order.proof)
        fresh.replace(out)
    except tabular.Unreadable as error:
        raise Refused("list.unreadable", str(error), "file") from error
    finally:
        judge.close()
        with suppress(FileNotFoundError):
            fresh.unlink()
    return Scrubbed(
        campaign=order.campaign,
        at=when(judge.at),
        rows=counts.total(),
        allow=told["allow"],
        later=told["later"],
        deny=told["deny"],
        codes=dict(_codes(counts)),
        sha256=digest,
        seq=entry.seq,
    )


async def _written(judge: Judge, table: tabular.Table, home: str, file: IO[str]) -> Counter[Verdict]:
    out = csv.writer(file, delimiter=table.layout.separator or ",", lineterminator="\n")
    if table.layout.header:
        out.writerow([*map(_inert, table.layout.header), *COLUMNS])
    counts = Counter[Verdict]()
    told: dict[Verdict, tuple[str, ...]] = {}
    width, at = len(table.layout.header), table.layout.number - 1
    for rows in table.pieces(AT_ONCE):
        verdicts = await judge.judge([_number(cells, at, home) for _, cells in rows])
        counts.update(verdicts)
        for (_, cells), verdict in zip(rows, verdicts, strict=True):
            words = told.get(verdict) or told.setdefault(verdict, verdict.told())
            padding = ("",) * (width - len(cells))
            out.writerow([*map(_inert, cells), *padding, *words])
    return counts


def _number(cells: list[str], at: int, home: str) -> str:
    """As a call would give it; what is no number is left as it is, and judged as that."""
    raw = cells[at].strip() if at < len(cells) else ""
    if raw.startswith("+"):
        return raw
    with suppress(ValueError):
        return number_of(raw, home)
    return raw


def _inert(cell: str) -> str:
    return f"'{cell}" if cell[:1] in _RISKY and _FORMULA.match(cell) else cell


def _codes(counts: Counter[Verdict]) -> Iterator[tuple[str, int]]:
    """Reasons with the rows that have them, the most frequent first."""
    codes = Counter[str]()
    for verdict, rows in counts.items():
        if verdict.code:
            codes[verdict.code] += rows
    yield from codes.most_common()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest: Any = sha256()
        while some := file.read(1 << 20):
            digest.update(some)
        return str(digest.hexdigest())


async def preview(
    registrar: Registrar, client: Client, name: str, order: Order, done: Callable[[int, int], None]
) -> Preview:
    """Of a loaded list for the order's campaign; `done` is told how many of how many are judged. Raises as `scrub` does."""
    judge, _ = await registrar.list_exports.judge(client, order.campaign, order.at)
    counts = Counter[Verdict]()
    try:
        total, numbers = await registrar.call_lists.numbers_of(client, name, order.campaign)
        for some in numbers:
            counts.update(await judge.judge(some))
            done(len(some), total)
    finally:
        judge.close()
    later = Counter[Instant]()
    for verdict, held in counts.items():
        if verdict.word == "later":
            later[verdict.not_before] += held
    return Preview(
        list=name,
        campaign=order.campaign,
        at=when(judge.at),
        numbers=counts.total(),
        callable=sum(held for verdict, held in counts.items() if verdict.word == "allow"),
        groups=tuple(Group(code, REASONS[code], held) for code, held in _codes(counts)),
        later=tuple(Later(when(at), held) for at, held in sorted(later.items())),
    )
