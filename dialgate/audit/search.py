"""Search for decisions in the logs, with the outcomes of their calls."""

from collections.abc import Callable, Collection, Iterator
from heapq import merge
from itertools import chain, starmap

from msgspec import Struct

from dialgate.core import local_time
from dialgate.core.decision_ids import log_of
from dialgate.core.model import RESULT_RANK, OutcomeRecord, Result
from dialgate.decision_log import span
from dialgate.decision_log.chains import Chains
from dialgate.decision_log.records import Reader, Record
from dialgate.decision_log.span import LogSpan


class DecisionQuery(Struct, frozen=True, kw_only=True):
    """Search criteria. An empty criterion matches every record."""

    campaign: str = ""
    controller: str = ""
    verdict: str = ""
    code: str = ""  # a reason code, or the part of it before the dot
    client: str = ""
    hashes: Collection[bytes] | None = None  # keyed hashes of one number

    def matches(self, record: Record) -> bool:
        return (
            (not self.campaign or record.facts.campaign.id == self.campaign)
            and (not self.controller or record.facts.controller.id == self.controller)
            and (not self.verdict or record.decision.allow == (self.verdict == "allow"))
            and (not self.client or record.client == self.client)
            and (not self.code or any(_is(reason.code, self.code) for reason in record.decision.reasons))
            and (self.hashes is None or record.number in self.hashes)
        )


class Hit(Struct, frozen=True, kw_only=True):
    """A decision as one output line. `outcome` is empty if no outcome was reported."""

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


def search(chains: Chains, query: DecisionQuery, within: LogSpan) -> Iterator[Hit]:
    """Yield the matching decisions from all chains, oldest first, or newest first for a search by number.

    Memory use is one byte for each log entry in `within`.
    """
    if query.hashes is not None:
        return _search_number(chains, query, query.hashes, within)
    hits = [
        starmap(_hit, with_results(chains, reader, within, query.matches))
        for reader in chains.readers.values()
    ]
    return merge(*hits, key=lambda hit: (hit.at, hit.seq))


def with_results(
    chains: Chains, reader: Reader, within: LogSpan, matches: Callable[[Record], bool]
) -> Iterator[tuple[Record, Result]]:
    """Yield the matching decisions from one chain, oldest first, each with the result of the call.

    The result may have been reported in another chain.
    """
    entries = span.within(reader, within)
    first_entry = next(entries, None)
    if first_entry is None:
        return
    first, since = first_entry[0].seq, LogSpan(since=first_entry[1].at)
    reports = (
        outcome
        for reporting in chains.readers.values()
        for outcome in reporting.outcomes(first=span.begin(reporting, since))
    )
    results: Results | None = None
    for _, record in chain([first_entry], entries):
        if isinstance(record, Record) and matches(record):
            results = results or Results(reports, log_of(record.id), first)
            yield record, results.result_of(record.seq)


def _search_number(
    chains: Chains, query: DecisionQuery, hashes: Collection[bytes], within: LogSpan
) -> Iterator[Hit]:
    records = [
        record
        for _, record in chains.find_decisions(hashes)
        if query.matches(record)
        and within.first <= record.seq <= within.last
        and within.since <= record.at < within.until
    ]
    outcomes = chains.outcomes(records)
    for record in records:
        results = (outcome.result for outcome in outcomes[record.id])
        yield _hit(record, max(results, key=lambda result: RESULT_RANK[result], default="pending"))


class Results:
    """The reported result of each call in `log`, from entry `first` on. Each log entry takes one byte of memory.

    If several results were reported for a call, the one that is highest in `RESULT_RANK` counts.
    """

    def __init__(self, outcomes: Iterator[OutcomeRecord], log: str, first: int) -> None:
        self._first = first
        self._results = bytearray()
        for outcome in outcomes:
            name, _, seq = outcome.decision.rpartition("-")
            index = int(seq) - first
            if name == log and index >= 0:
                self._set(index, outcome.result)

    def result_of(self, seq: int) -> Result:
        """Return a call's result, or `pending` if no result was reported."""
        index = seq - self._first
        return _RESULTS[self._results[index]] if index < len(self._results) else "pending"

    def _set(self, index: int, result: Result) -> None:
        if index >= len(self._results):
            self._results.extend(bytes(index + 1 - len(self._results)))
        if RESULT_RANK[result] >= RESULT_RANK[_RESULTS[self._results[index]]]:
            self._results[index] = _RESULTS.index(result)


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
