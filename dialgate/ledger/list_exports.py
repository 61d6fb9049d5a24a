"""Copies of call lists with a verdict on each row (scrubbing), and previews, which only count verdicts.

Passing on a scrubbed list can break the law (L. 5/2018 art. 1 c. 7). So each copy is recorded in the ledger with its actor
and its hash, and gets its final name only after that. A preview is recorded too.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Final, TypeVar

import numpy as np
from msgspec import Struct

from dialgate.config.clients import Client
from dialgate.core.ledger_events import Draft, Entry, Exported
from dialgate.core.model import DAY, Instant
from dialgate.core.reasons import REASONS
from dialgate.core.refusal import Refused
from dialgate.core.responses import when
from dialgate.core.text_formats import OptionalReasonCode, Timestamp
from dialgate.ledger.access import LedgerAccess
from dialgate.ledger.call_lists import CallListWriter
from dialgate.ledger.call_plans import CallPlan, CallPlans, PlanWriter, plan_of
from dialgate.ledger.event_drafts import instant
from dialgate.ledger.export_requests import PlanRequest, ScrubRequest
from dialgate.ledger.judge import Indexes, Judge, Summary, V
from dialgate.ledger.scrub import CountedVerdict, ScrubVerdict, counted_verdict, verdict_now
from dialgate.ledger.scrub_files import ScrubbedTable
from dialgate.ledger.view_schemas import HistoryEntry
from dialgate.ledger.views import history_entry
from dialgate.lists import lost_zeros, tabular
from dialgate.lists.number_column import NumberColumn, read_column

AnyVerdict = TypeVar("AnyVerdict", ScrubVerdict, CountedVerdict)
_FEWEST: Final = 50  # numbers. The counts of a shorter list would reveal the verdicts on single numbers
_PLANNED_AT_ONCE: Final = 1 << 16  # numbers: each known one may have a plan of its own, in 1 KB
_EXPORTS: Final = "exports"  # replaces the number in the subject of an entry


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


class ListOverlap(Struct, frozen=True):
    """Another list in force of the same controller, and how many numbers both have."""

    list: str
    numbers: int


class AnswersEnd(Struct, frozen=True):
    """How many numbers the registries' answers permit to call until `at`. Consult the registries again before then."""

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
    overlaps: tuple[ListOverlap, ...] = ()
    answers_end: tuple[AnswersEnd, ...] = ()


class Previews(Struct, frozen=True):
    previews: list[Preview]


class PlanReport(Struct, frozen=True, kw_only=True):
    """The plans that were made. Calls to a number are permitted at `at` (`now`), only `later`, or at no time before `until`.

    `seq`, `sha256` and `doubtful` are those of `Scrubbed`.
    """

    campaign: str
    at: Timestamp
    until: Timestamp
    rows: int
    now: int
    later: int
    never: int
    sha256: str
    seq: int
    doubtful: int = 0
    note: str = ""


class ListExports:
    def __init__(self, access: LedgerAccess, call_lists: CallListWriter) -> None:
        self._access, self._call_lists = access, call_lists

    async def scrub(
        self, client: Client, ask: ScrubRequest, file: IO[bytes], out: Path, hints: tabular.Hints
    ) -> Scrubbed:
        """Write the rows of `file` with their verdicts to `out`.

        `out` is replaced completely or not at all. Raises `Refused`, `Unavailable`, `MissingExtra`, and `OSError` if `out`
        cannot be written.
        """
        judge, home = await self.judge(client, ask.campaign, verdict_now, requested_time(ask.at))
        fresh = out.with_name(f"{out.name}.new")
        try:
            table = tabular.read(file, home, hints)
            column = read_column(table, home)
            judged = await judge.judge(column.numbers)
            rows = list(column.others)
            judged[rows] = await judge.judge_singly(list(column.others.values()))
            scrubbed = ScrubbedTable(table, column, judge.verdicts, judged)
            digest = scrubbed.write(fresh, ask.format, self._access.line(client, ask.campaign).home)
            counts = judge.counts(judged)
            words = _words(counts)
            event = Exported(
                campaign=ask.campaign, rows=counts.total(), allowed=words["allow"], sha256=digest
            )
            seq = await self._record(client, "export", event, ask.proof, ask.actor)
            fresh.replace(out)
        finally:
            judge.close()
            fresh.unlink(missing_ok=True)
        return Scrubbed(
            campaign=ask.campaign,
            at=when(judge.at),
            rows=counts.total(),
            allow=words["allow"],
            later=words["later"],
            deny=words["deny"],
            codes=dict(_codes(counts)),
            sha256=digest,
            seq=seq,
            doubtful=column.doubtful,
            note=lost_zeros.summary(column.doubtful),
        )

    async def preview(self, client: Client, name: str, campaign: str, at: Instant) -> Preview:
        """Count the verdicts on a loaded list for one campaign, and record that. Raises `Refused` and `Unavailable`."""
        judge, _ = await self.judge(client, campaign, counted_verdict, at)
        try:
            numbers = await self._call_lists.numbers_of(client, name, campaign)
            if len(numbers) < _FEWEST:
                raise _too_short()
            counts = judge.counts(await judge.judge(numbers))
        finally:
            judge.close()
        can_call = _words(counts)["allow"]
        event = Exported(campaign=campaign, rows=len(numbers), allowed=can_call, sha256="")
        await self._record(client, "preview", event, name)
        later, ends = Counter[Instant](), Counter[Instant]()
        for verdict, count in counts.items():
            if verdict.word == "later":
                later[verdict.not_before] += count
            if verdict.answers_end:
                ends[verdict.answers_end] += count
        return Preview(
            list=name,
            campaign=campaign,
            at=when(judge.at),
            numbers=len(numbers),
            callable=can_call,
            groups=tuple(ExportGroup(code, REASONS[code], count) for code, count in _codes(counts)),
            later=tuple(Later(when(at), count) for at, count in sorted(later.items())),
            overlaps=tuple(
                ListOverlap(*pair)
                for pair in await self._call_lists.overlaps(client, name, campaign, numbers)
            ),
            answers_end=tuple(AnswersEnd(when(at), count) for at, count in sorted(ends.items())),
        )

    async def plan(
        self, client: Client, ask: PlanRequest, rows: IO[bytes] | str, out: Path, hints: tabular.Hints
    ) -> PlanReport:
        """Write the plans of the numbers in a file, or of a loaded list, to `out`. Raises as `scrub` does.

        `out` must not be shown to anyone unless this returns.
        """
        at = requested_time(ask.at)
        judge, home = await self.judge(client, ask.campaign, plan_of, at, ask.days * DAY)
        head = CallPlans(ask.campaign, when(judge.at), when(judge.until), [])
        counts = Counter[str]()
        try:
            if isinstance(rows, str):
                held = await self._call_lists.numbers_of(client, rows, ask.campaign)
                column = NumberColumn(held, np.ones(len(held), np.bool_), {}, 0)
            else:
                column = read_column(tabular.read(rows, home, hints), home)
            with out.open("wb") as opened:
                writer = PlanWriter(opened, ask.format, head, judge.until)
                async for numbers, judged in _plan_parts(judge, column):
                    for plan, number in judge.counts(judged).items():
                        counts[plan.opens] += number
                    kept = zip(numbers, judged.tolist(), strict=True)
                    is_kept = [not ask.now or plan.opens == "now" for plan in judge.verdicts]
                    writer.write((pair for pair in kept if is_kept[pair[1]]), judge.verdicts)
                    judge.forget_verdicts()
                digest = writer.close()
        finally:
            judge.close()
        total, why = counts.total(), ask.proof or (rows if isinstance(rows, str) else "")
        event = Exported(campaign=ask.campaign, rows=total, allowed=total - counts["never"], sha256=digest)
        seq = await self._record(client, "plan", event, why, ask.actor)
        return PlanReport(
            campaign=ask.campaign,
            at=head.at,
            until=head.until,
            rows=total,
            now=counts["now"],
            later=counts["later"],
            never=counts["never"],
            sha256=digest,
            seq=seq,
            doubtful=column.doubtful,
            note=lost_zeros.summary(column.doubtful),
        )

    async def judge(
        self, client: Client, campaign: str, summary: Summary[V], at: Instant = 0, period: Instant = 1
    ) -> tuple[Judge[V], str]:
        """Return an open `Judge` for a campaign, and the country for numbers without a country code.

        Calls are judged at `at`, or now if `at` is 0, and until `period` later. Close the judge after use. Raises `Refused`
        and `Unavailable`.
        """
        access, line = self._access, self._access.line(client, campaign)
        at = at or access.clock()
        judge = Judge(access.config, access.store, access.keys, campaign, at, at + period, summary)
        await judge.open()
        return judge, line.dial_region or line.home

    async def exported_ledger(self, client: Client) -> None:
        """Record, for each controller, that the ledger was exported with clear numbers. Raises `StoreUnavailable`."""
        rows = await self._access.store.ping()
        event = Exported(campaign="", rows=rows, allowed=0, sha256="")
        await self._access.store.append(
            [self._draft(owner, event, client.name, "ledger", "export") for owner in client.controllers]
        )

    async def exports(self, client: Client) -> list[HistoryEntry]:
        """Return the recorded exports and previews, oldest first."""
        entries: list[Entry] = []
        for name in client.controllers:
            entries += await self._access.store.history(self._access.keys.subject(name, _EXPORTS))
        return [history_entry(entry) for entry in sorted(entries, key=lambda entry: entry.seq)]

    async def _record(
        self, client: Client, channel: str, event: Exported, proof: str, actor: str = ""
    ) -> int:
        """Record an export in the ledger, and return the id of its entry. Raises `StoreUnavailable`."""
        owner = self._access.line(client, event.campaign).controller.id
        return (await self._access.write(self._draft(owner, event, client.actor(actor), proof, channel))).seq

    def _draft(self, owner: str, event: Exported, actor: str, proof: str, channel: str) -> Draft:
        return Draft(
            at=self._access.clock(),
            controller=owner,
            subject=self._access.keys.subject(owner, _EXPORTS),
            event=event,
            actor=actor,
            channel=channel,
            proof=proof,
        )


async def _plan_parts(
    judge: Judge[CallPlan], column: NumberColumn
) -> AsyncIterator[tuple[list[str], Indexes]]:
    """Yield the numbers with the indexes of their plans in parts, in order."""
    others = np.array(sorted(column.others), np.int64)
    for start in range(0, len(column.numbers), _PLANNED_AT_ONCE):
        part = column.numbers[start : start + _PLANNED_AT_ONCE]
        judged, numbers = await judge.judge(part), [f"+{number}" for number in part.tolist()]
        rows = others[np.searchsorted(others, start) : np.searchsorted(others, start + len(part))] - start
        for row in rows.tolist():
            numbers[row] = column.others[start + row]
        judged[rows] = await judge.judge_singly([numbers[row] for row in rows.tolist()])
        yield numbers, judged


def requested_time(at: datetime | None) -> Instant:
    """Return the time for which an export is requested, or 0 for now. Raises `Refused`."""
    return instant(at, "at") if at else 0


def _words(counts: Counter[AnyVerdict]) -> Counter[str]:
    words = Counter[str]()
    for verdict, rows in counts.items():
        words[verdict.word] += rows
    return words


def _codes(counts: Counter[AnyVerdict]) -> Iterator[tuple[str, int]]:
    """Yield each reason code with its number of rows, the most frequent first."""
    codes = Counter[str]()
    for verdict, rows in counts.items():
        if verdict.code:
            codes[verdict.code] += rows
    yield from codes.most_common()


def _too_short() -> Refused:
    text = f"A preview needs a list of at least {_FEWEST} numbers. Simulate calls to single numbers with `POST /v1/simulate`."
    return Refused("list.too_short", text, "id", 409)
