"""Finding decisions in the log, each with what became of its call."""

from collections.abc import Callable, Collection, Iterator
from heapq import merge
from itertools import chain

from msgspec import Struct

from dialgate.core import local_time
from dialgate.core.model import RESULT_RANK, OutcomeRecord, Result
from dialgate.decision_log import span
from dialgate.decision_log.chains import Chains
from dialgate.decision_log.records import Reader, Record
from dialgate.decision_log.span import Span


class Query(Struct, frozen=True, kw_only=True):
    """What is empty asks for nothing. `code`: of any reason, or the part before its dot. `hashes`: of a number."""

    campaign: str = ""
    controller: str = ""
    verdict: str = ""
    code: str = ""
    client: str = ""
    hashes: Collection[bytes] | None = None

    def wants(self, record: Record) -> bool:
        return (
            (not self.campaign or record.facts.campaign.id == self.campaign)
            and (not self.controller or record.facts.controller.id == self.controller)
            and (not self.verdict or record.decision.allow == (self.verdict == "allow"))
            and (not self.client or record.client == self.client)
            and (not self.code or any(_is(reason.code, self.code) for reason in record.decision.reasons))
            and (self.hashes is None or record.number in self.hashes)
        )


class Hit(Struct, frozen=True, kw_only=True):
    """A decision in a line. `outcome` is the report that stands; empty where none was made."""

    seq: int
    decision_id: str
    at: str
    decision: str
    codes: list[str]
    controller: str
    campaign: str
    caller_id: str
    basis: str
    client: str
    interface: str
    call_id: str
    outcome: str


def search(chains: Chains, query: Query, within: Span) -> Iterator[Hit]:
    """Of every chain: oldest first; of one number newest first. A byte is remembered of each entry, whatever is found."""
    if query.hashes is not None:
        return _about(chains, query, query.hashes, within)
    found = [_found(chains, reader, query, within) for reader in chains.readers.values()]
    return merge(*found, key=lambda hit: (hit.at, hit.seq))


def _found(chains: Chains, reader: Reader, query: Query, within: Span) -> Iterator[Hit]:
    return (_hit(record, result) for record, result in stood(chains, reader, within, query.wants))


def stood(
    chains: Chains, reader: Reader, within: Span, wants: Callable[[Record], bool]
) -> Iterator[tuple[Record, Result]]:
    """The decisions of one chain, oldest first, each with the report on its call that stands; that may be in another."""
    entries = span.within(reader, within)
    begun = next(entries, None)
    if begun is None:
        return
    first, since = begun[0].seq, Span(since=begun[1].at)
    reports = (
        outcome
        for each in chains.readers.values()
        for outcome in each.outcomes(first=span.begin(each, since))
    )
    standing: Standing | None = None
    for _, record in chain([begun], entries):
        if isinstance(record, Record) and wants(record):
            standing = standing or Standing(reports, record.id.rpartition("-")[0], first)
            yield record, standing.of(record.seq)


def _about(chains: Chains, query: Query, hashes: Collection[bytes], within: Span) -> Iterator[Hit]:
    found = [
        record
        for _, record in chains.about(hashes)
        if query.wants(record)
        and within.first <= record.seq <= within.last
        and within.since <= record.at < within.until
    ]
    outcomes = chains.outcomes(found)
    for record in found:
        results = (outcome.result for outcome in outcomes[record.id])
        yield _hit(record, max(results, key=lambda result: RESULT_RANK[result], default="pending"))


class Standing:
    """Of several reports about one call of `log`, the one that stands: one byte for each entry from `first` on."""

    def __init__(self, outcomes: Iterator[OutcomeRecord], log: str, first: int) -> None:
        self._first = first
        self._results = bytearray()
        for outcome in outcomes:
            name, _, seq = outcome.decision.rpartition("-")
            place = int(seq) - first
            if name == log and place >= 0:
                self._report(place, outcome.result)

    def of(self, seq: int) -> Result:
        """`pending` where nothing was reported."""
        place = seq - self._first
        return _RESULTS[self._results[place]] if place < len(self._results) else "pending"

    def _report(self, place: int, result: Result) -> None:
        if place >= len(self._results):
            self._results.extend(bytes(place + 1 - len(self._results)))
        if RESULT_RANK[result] >= RESULT_RANK[_RESULTS[self._results[place]]]:
            self._results[place] = _RESULTS.index(result)


_RESULTS: tuple[Result, ...] = tuple(RESULT_RANK)


def _is(code: str, asked: str) -> bool:
    return code == asked or code.partition(".")[0] == asked


def _hit(record: Record, outcome: Result) -> Hit:
    facts, decision = record.facts, record.decision
    return Hit(
        seq=record.seq,
        decision_id=record.id,
        at=local_time.rfc3339(record.at),
        decision="allow" if decision.allow else "deny",
        codes=[reason.code for reason in decision.reasons],
        controller=facts.controller.id,
        campaign=facts.campaign.id,
        caller_id=record.caller_id,
        basis=decision.basis,
        client=record.client,
        interface=record.interface,
        call_id=record.call_id,
        outcome="" if outcome == "pending" else outcome,
    )
