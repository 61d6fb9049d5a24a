"""Scrubbing of call lists: files with a verdict on each row, and previews that only count verdicts.

Passing on a scrubbed list can break the law (L. 5/2018 art. 1 c. 7). Each export is therefore recorded in the
ledger, with its actor and the hash of the file. The file gets its final name only after this entry is
written.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from msgspec import Struct, structs

from dialgate.config.clients import Client
from dialgate.core.ledger_events import Exported
from dialgate.core.model import Instant
from dialgate.core.reasons import REASONS
from dialgate.core.refusal import Refused
from dialgate.core.responses import when
from dialgate.core.text_formats import OptionalReasonCode, Timestamp
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.scrub import AT_ONCE, Judge, ScrubVerdict
from dialgate.lists import lost_zeros, tabular
from dialgate.lists.call_list import number_of, sha256_of
from dialgate.runtime import csv_text

_FEWEST: Final = 10  # numbers in a group of a shown preview
COLUMNS: Final = ("verdict", "code", "valid_until", "not_before")


class ScrubOrder(Struct, frozen=True, kw_only=True):
    """The parameters for a scrub.

    `at` is the time at which the calls would be made, or 0 for now. `proof` states why the list is exported.
    """

    campaign: str
    at: Instant = 0
    actor: str = ""
    proof: str = ""


class Scrubbed(Struct, frozen=True, kw_only=True):
    """The result of a scrub.

    `seq` is the id of the ledger entry that records the export. `sha256` is the hash of the exported file. `doubtful`
    counts the rows that are denied because Excel may have dropped a zero or a plus.
    """

    campaign: str
    at: Timestamp
    rows: int
    allow: int
    later: int
    deny: int
    codes: dict[str, int]
    sha256: str
    seq: int
    doubtful: int = 0
    note: str = ""


class ExportGroup(Struct, frozen=True):
    code: OptionalReasonCode
    text: str
    numbers: int


class Later(Struct, frozen=True):
    """The number of calls that become lawful at time `at`, if nothing else changes."""

    at: Timestamp
    numbers: int


class Preview(Struct, frozen=True, kw_only=True):
    list: str
    campaign: str
    at: Timestamp
    numbers: int
    callable: int
    groups: tuple[ExportGroup, ...]
    later: tuple[Later, ...]


class Previews(Struct, frozen=True):
    previews: list[Preview]


async def scrub(
    registrar: Registrar, client: Client, order: ScrubOrder, file: IO[bytes], out: Path, hints: tabular.Hints
) -> Scrubbed:
    """Write the rows of `file` with their verdicts to `out`, as CSV in UTF-8.

    `out` is replaced completely or not at all. Raises `Refused`, `Unavailable`, and `OSError` if `out` cannot
    be written.
    """
    judge, home = await registrar.list_exports.judge(client, order.campaign, order.at)
    fresh = out.with_name(f"{out.name}.new")
    try:
        table = tabular.read(file, home, hints)
        with fresh.open("w", encoding="utf-8", newline="") as csv_file:
            counts, doubtful = await _write(judge, table, home, csv_file)
        digest = sha256_of(fresh)
        words = Counter[str]()
        for verdict, rows in counts.items():
            words[verdict.word] += rows
        event = Exported(campaign=order.campaign, rows=counts.total(), allowed=words["allow"], sha256=digest)
        entry = await registrar.list_exports.exported(client, event, order.actor, order.proof)
        fresh.replace(out)
    except tabular.Unreadable as error:
        raise Refused("list.unreadable", str(error), "file") from error
    finally:
        judge.close()
        fresh.unlink(missing_ok=True)
    return Scrubbed(
        campaign=order.campaign,
        at=when(judge.at),
        rows=counts.total(),
        allow=words["allow"],
        later=words["later"],
        deny=words["deny"],
        codes=dict(_codes(counts)),
        sha256=digest,
        seq=entry.seq,
        doubtful=doubtful,
        note=lost_zeros.summary(doubtful),
    )


async def _write(
    judge: Judge, table: tabular.Table, home: str, file: IO[str]
) -> tuple[Counter[ScrubVerdict], int]:
    """Write the rows, and return the count of each verdict and of the doubtful cells."""
    separator = table.layout.separator or ","
    if table.layout.header:
        file.write(csv_text.line((*table.layout.header, *COLUMNS), separator) + "\n")
    counts = Counter[ScrubVerdict]()
    cached: dict[ScrubVerdict, tuple[str, ...]] = {}
    width, at, doubtful = len(table.layout.header), table.layout.number - 1, 0
    for rows in table.chunks(AT_ONCE):
        verdicts = await judge.judge([_number(cells, at, home) for _, cells in rows])
        counts.update(verdicts)
        doubtful += sum(isinstance(tabular.cell(cells, at), lost_zeros.DoubtfulCell) for _, cells in rows)
        for (_, cells), verdict in zip(rows, verdicts, strict=True):
            words = cached.get(verdict) or cached.setdefault(verdict, verdict.cells())
            padding = ("",) * (width - len(cells))
            file.write(csv_text.line((*cells, *padding, *words), separator, keep_numbers=True) + "\n")
    return counts, doubtful


def _number(cells: list[str], at: int, home: str) -> str:
    """Return the number of a row in E.164, or the unchanged cell if it is not a number.

    Return "", which is denied, if the number may have lost a zero or a plus.
    """
    raw = tabular.cell(cells, at)
    if isinstance(raw, lost_zeros.DoubtfulCell):
        return ""
    raw = raw.strip()
    if raw.startswith("+"):
        return raw
    with suppress(ValueError):
        return number_of(raw, home)
    return raw


def _codes(counts: Counter[ScrubVerdict]) -> Iterator[tuple[str, int]]:
    """Yield each reason code with its number of rows, the most frequent first."""
    codes = Counter[str]()
    for verdict, rows in counts.items():
        if verdict.code:
            codes[verdict.code] += rows
    yield from codes.most_common()


async def preview(registrar: Registrar, client: Client, name: str, order: ScrubOrder) -> Preview:
    """Count the verdicts on a loaded list for one campaign. Raises `Refused` and `Unavailable`."""
    judge, _ = await registrar.list_exports.judge(client, order.campaign, order.at)
    counts = Counter[ScrubVerdict]()
    try:
        _, parts = await registrar.call_lists.numbers_of(client, name, order.campaign)
        for part in parts:
            counts.update(await judge.judge(part))
    finally:
        judge.close()
    later = Counter[Instant]()
    for verdict, count in counts.items():
        if verdict.word == "later":
            later[verdict.not_before] += count
    return Preview(
        list=name,
        campaign=order.campaign,
        at=when(judge.at),
        numbers=counts.total(),
        callable=sum(count for verdict, count in counts.items() if verdict.word == "allow"),
        groups=tuple(ExportGroup(code, REASONS[code], count) for code, count in _codes(counts)),
        later=tuple(Later(when(at), count) for at, count in sorted(later.items())),
    )


def merge_small_groups(preview: Preview) -> Preview:
    """Merge results that fewer than 10 numbers have, including "callable", into one group without a code.

    Otherwise a list of made-up numbers and one real number would reveal the verdict on that number.
    """
    few = sum(group.numbers for group in preview.groups if group.numbers < _FEWEST)
    groups = [group for group in preview.groups if group.numbers >= _FEWEST]
    can_call = preview.callable if preview.callable >= _FEWEST else 0
    few += preview.callable - can_call
    if few:
        groups.append(ExportGroup("", "results with fewer than 10 numbers each", few))
    later = tuple(time for time in preview.later if time.numbers >= _FEWEST)
    return structs.replace(preview, callable=can_call, groups=tuple(groups), later=later)
