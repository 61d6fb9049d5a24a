"""Search for decisions in the logs, with the outcomes of their calls."""

from collections.abc import Callable, Collection, Iterator
from heapq import merge
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from dialgate.audit.number_history import Visibility
from dialgate.core.model import RESULT_RANK, Instant, Result
from dialgate.decision_log import span
from dialgate.decision_log.chains import Chains
from dialgate.decision_log.entry_columns import SEALED, Column, EntryColumns
from dialgate.decision_log.records import Reader, columns_of
from dialgate.decision_log.span import LogSpan

_RESULTS: tuple[Result, ...] = tuple(RESULT_RANK)
_RANKS = np.array(list(RESULT_RANK.values()), np.uint8)


class DecisionQuery(Struct, frozen=True, kw_only=True):
    """Search criteria. An empty criterion matches every record."""

    campaign: str = ""
    controller: str = ""
    verdict: str = ""
    code: str = ""  # a reason code, or the part of it before the dot
    client: str = ""
    shadow: bool = False  # only calls that were answered in shadow mode
    hashes: Collection[bytes] | None = None  # keyed hashes of one number
    agents: frozenset[bytes] | None = None  # the encrypted IDs of one agent
    list: str = ""
    caller_id: str = ""
    sees: Visibility = Visibility()  # apart from its times

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that `matching` reads."""
        return ("controller", *(["client"] if self.sees.client else []), *self._tests())

    @property
    def having(self) -> dict[str, Any]:
        """The values of columns that each match has."""
        values = {"campaign": self.campaign, "controller": self.controller}
        return {name: value for name, value in values.items() if value} | (
            {"allow": self.verdict == "allow"} if self.verdict else {}
        )

    def matching(self, decisions: EntryColumns) -> EntryColumns:
        """Return the decisions that match, apart from `hashes`."""
        masks = [decisions.column(name).where(test) for name, test in self._tests().items()]
        return decisions.select(np.logical_and.reduce([self.sees.mask(decisions), *masks]))

    def _tests(self) -> dict[str, Callable[[Any], bool]]:
        """Return the test of each column that has a criterion."""
        tests: dict[str, tuple[object, Callable[[Any], bool]]] = {
            "allow": (self.verdict, (self.verdict == "allow").__eq__),
            "controller": (self.controller, self.controller.__eq__),
            "campaign": (self.campaign, self.campaign.__eq__),
            "client": (self.client, self.client.__eq__),
            "shadow": (self.shadow, bool),
            "reasons": (self.code, lambda codes: any(_is(code, self.code) for code in codes.split())),
            "agent": (self.agents is not None, (self.agents or frozenset()).__contains__),
            "lists": (self.list, lambda lists: self.list in lists.split()),
            "caller_id": (self.caller_id, lambda number: number.removesuffix(SEALED) == self.caller_id),
        }
        return {name: test for name, (criterion, test) in tests.items() if criterion}


class Hit(Struct, frozen=True):
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
    shadow: bool  # the call was let through whatever the decision


def search(chains: Chains, query: DecisionQuery, within: LogSpan) -> Iterator[Hit]:
    """Yield the matching decisions from all chains, oldest first, or newest first for a search by number.

    Memory use is one byte for each log entry in `within`.
    """
    if query.hashes is not None:
        return _search_number(chains, query, query.hashes, within)
    hits = [_search_log(chains, reader, query, within) for reader in chains.readers.values()]
    return merge(*hits, key=lambda hit: (hit.at, hit.seq))


def _search_log(chains: Chains, reader: Reader, query: DecisionQuery, within: LogSpan) -> Iterator[Hit]:
    for decisions, results in with_results(chains, reader, within, query.columns):
        matching = query.matching(decisions)
        if len(matching.seqs):
            yield from _hits(matching, results.of(matching))


def with_results(
    chains: Chains, reader: Reader, within: LogSpan, names: Collection[str]
) -> Iterator[tuple[EntryColumns, "Results"]]:
    """Yield the decisions from one log with the columns `names`, in order, and the results of their calls."""
    results: Results | None = None
    for entries in span.columns_within(reader, within, names):
        if results is None and len(entries.seqs):
            results = Results(chains, int(entries.seqs[0]), int(entries.times[0]))
        if results is not None:
            yield entries.select(entries.is_decision), results


def _search_number(
    chains: Chains, query: DecisionQuery, hashes: Collection[bytes], within: LogSpan
) -> Iterator[Hit]:
    records = [
        record
        for _, record in chains.find_decisions(hashes)
        if within.first <= record.seq <= within.last and within.since <= record.at < within.until
    ]
    outcomes = chains.outcomes(records)
    for record in records:
        reported = (outcome.result for outcome in outcomes[record.id])
        result: Result = max(reported, key=lambda result: RESULT_RANK[result], default="pending")
        matching = query.matching(columns_of([record]))
        yield from _hits(matching, Column.of([result] * len(matching.seqs)))


class Results:
    """The reported results of calls, from entry `first` of one log on, which was written at `since`.

    A result may have been reported in another log. If several were reported for a call, the one that is highest in `RESULT_RANK`
    counts. They are read when they are first needed. Each log entry takes one byte of memory.
    """

    def __init__(self, chains: Chains, first: int, since: Instant) -> None:
        self._chains, self._first, self._since = chains, first, since
        self._places: NDArray[np.uint8] | None = None  # of each entry's result in `_RESULTS`

    def of(self, decisions: EntryColumns) -> Column:
        """Return the result of each call, `pending` if none was reported. The decisions must be of one log."""
        if self._places is None:
            self._places = self._read(decisions.log)
        indexes = decisions.seqs - self._first
        places = np.zeros(len(indexes), np.uint8)
        is_reported = indexes < len(self._places)
        places[is_reported] = self._places[indexes[is_reported]]
        return Column(_RESULTS, places)

    def _read(self, log: str) -> NDArray[np.uint8]:
        places = np.zeros(0, np.uint8)
        for reader in self._chains.readers.values():
            for reported in reader.results(log, first=span.begin(reader, LogSpan(since=self._since))):
                indexes, new = reported.decisions - self._first, reported.results.places_in(_RESULTS)
                order = np.lexsort((_RANKS[new], indexes))
                order = order[(indexes[order] >= 0) & (np.diff(indexes[order], append=-1) != 0)]
                indexes, new = indexes[order], new[order]  # of each call the last result of the highest rank
                missing = indexes.max(initial=-1) + 1 - len(places)
                if missing > 0:
                    places = np.append(places, np.zeros(max(missing, len(places)), np.uint8))
                is_stricter = _RANKS[new] >= _RANKS[places[indexes]]
                places[indexes[is_stricter]] = new[is_stricter]
        return places


def _is(code: str, asked: str) -> bool:
    return code == asked or code.partition(".")[0] == asked


def _hits(decisions: EntryColumns, results: Column) -> Iterator[Hit]:
    codes = decisions.column("reasons")
    return map(
        Hit,
        decisions.seqs.tolist(),
        (f"{decisions.log}-{seq}" for seq in decisions.seqs.tolist()),
        np.datetime_as_string(decisions.times.astype("M8[ms]"), timezone="UTC").tolist(),  # RFC 3339
        decisions.column("allow").map(lambda allow: "allow" if allow else "deny"),
        Column([codes_.split() for codes_ in codes.values], codes.codes),
        decisions.column("controller"),
        decisions.column("campaign"),
        decisions.column("caller_id").map(lambda name: "" if name.endswith(SEALED) else name),
        *(decisions.column(name) for name in ("basis", "client", "interface", "call_id")),
        results.map(lambda result: "" if result == "pending" else result),
        decisions.column("shadow"),
    )
