"""Storage limitation (GDPR 5(1)(e)): removal of data after its retention period.

Entries that permit calls are kept as proof for several years after they end. Entries that forbid calls are never
removed. Otherwise a client could import a withdrawn consent again, and the consent would permit calls again. Entries,
requests and lists with a number under a legal hold are kept. This module does not change the decision log. Data in the log
becomes unreadable when the keys of its month are destroyed.
"""

import asyncio
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

from msgspec import Struct

from dialgate.audit.legal_holds import UnderHold
from dialgate.config.configuration import Config
from dialgate.core.ledger_events import (
    CallRequested,
    ConsentGiven,
    ConsentsVoided,
    ConsentWithdrawn,
    ContractEnded,
    ContractMade,
    Entry,
    Event,
)
from dialgate.core.ledger_state import fold
from dialgate.core.local_time import day_in, rfc3339
from dialgate.core.model import DAY, Consent, Instant, Known
from dialgate.ledger.dead_letters import DeadLetters
from dialgate.store import Store
from dialgate.store.subjects import SubjectStore
from dialgate.subjects import erasure, inventory
from dialgate.subjects.consent_proofs import ConsentProofs

_BATCH = 512  # entries per read, so that a gate on the same event loop waits usually a few ms
_KINDS = {"consent": "consents", "contract": "contracts", "request": "call_requests"}


class Removal(Struct, frozen=True, kw_only=True):
    """The number of items of one kind whose retention period is over.

    An item is counted if it ended, or was last used, before the time in `before`.
    """

    kind: str
    count: int
    before: str


class RetentionRun:
    def __init__(
        self,
        config: Config,
        store: Store,
        file: SubjectStore,
        holds: UnderHold,
        letters: DeadLetters,
        proofs: ConsentProofs,
    ) -> None:
        self._config, self._store, self._file, self._holds = config, store, file, holds
        self._letters, self._proofs = letters, proofs

    async def run(self, now: Instant, *, drop: bool) -> list[Removal]:
        """Count the items of each kind whose retention period is over. With `drop`, remove them."""
        days = self._config.storage(now)
        bounds = {
            "consents": now - days.consents_days * DAY,
            "contracts": now - days.contracts_days * DAY,
            "call_requests": now - days.call_requests_days * DAY,
            "lists": now - days.lists_days * DAY,
            "attempts": now - self._config.attempts_kept,
            "lookups": now - days.lookups_days * DAY,
            "dead_letters": now - days.dead_letters_days * DAY,
            "subject_requests": now - days.subject_requests_days * DAY,
            "restricted": now,
            "proof_files": now - DAY,
        }
        proofs = await asyncio.to_thread(self._proofs.files.uploaded_before, bounds["proof_files"])
        counts, requested_at = await self._ledger(bounds, now, proofs, drop=drop)
        # An attempt shows that a call request is used up, so it is kept until the request expires.
        bounds["attempts"] = min(bounds["attempts"], requested_at)
        counts["lists"] = await self._lists(bounds["lists"], drop=drop)
        counts["attempts"] = await self._store.drop_attempts(bounds["attempts"], drop=drop)
        counts["dead_letters"] = self._letters.expire(bounds["dead_letters"], drop=drop)
        counts |= await self._file.count_expired(
            bounds["lookups"],
            bounds["subject_requests"],
            bounds["restricted"],
            drop=drop,
            stays=self._holds.concerns,
        )
        counts["proof_files"] = await self._proofs.count_unused(proofs, bounds["proof_files"], drop=drop)
        return [
            Removal(kind=kind, count=counts[kind], before=rfc3339(before)) for kind, before in bounds.items()
        ]

    async def _ledger(
        self, bounds: dict[str, Instant], now: Instant, proofs: set[str], *, drop: bool
    ) -> tuple[dict[str, int], Instant]:
        """Count the ledger entries of each kind that ended before the time in `bounds` for that kind.

        With `drop`, remove the counted entries. Also return the time of the oldest call request that has not expired, or
        `now`. Remove the files that another entry names from `proofs`.
        """
        counts, seq, requested_at = dict.fromkeys(_KINDS.values(), 0), 0, now
        while entries := await self._store.since(seq, _BATCH):
            seq = entries[-1].seq
            ended: list[Entry] = []
            for entry in entries:
                if isinstance(entry.event, CallRequested) and entry.event.expires_at > now:
                    requested_at = min(requested_at, entry.event.requested_at)
                if self._may_reveal_end(entry, bounds):
                    ended += await self._find_ended(entry, bounds)
            if proofs:
                removed = {entry.seq for entry in ended}
                proofs -= self._proofs.files.named_in(entry for entry in entries if entry.seq not in removed)
            for entry in ended:
                counts[_kind_of(erasure.basis_of(entry))] += 1
            if drop and ended:
                await self._store.remove([entry.seq for entry in ended])
        return counts, requested_at

    def _may_reveal_end(self, entry: Entry, bounds: dict[str, Instant]) -> bool:
        """Return whether the subject's history must be read because an item may have ended before the time in `bounds`.

        An item entered before the latest of these times can have ended in any way. One entered later has ended only if
        it was imported with its end. Testing the entry for that costs far less than reading the history of every subject.
        """
        if entry.at < max(bounds[kind] for kind in _KINDS.values()):
            return bool(erasure.basis_of(entry))
        match entry.event:
            case ConsentGiven(expires_at=end):
                return 0 < end < bounds["consents"]
            case ConsentWithdrawn(at=end) | ConsentsVoided(before=end):
                return end < bounds["consents"]
            case ContractMade(ends=date() as day) | ContractEnded(ends=day):
                return day < self._contract_bound(entry.controller, bounds)
            case CallRequested(expires_at=end):
                return end < bounds["call_requests"]
            case _:
                return False

    async def _find_ended(self, first: Entry, bounds: dict[str, Instant]) -> list[Entry]:
        """Return a subject's entries that ended before the time in `bounds`.

        Return an empty list if the subject is under a legal hold. Also return an empty list if `first` is not the
        subject's first entry that may reveal an end. The caller passes every such entry, so this check counts each
        subject only once.
        """
        if self._holds.concerns(first.controller, first.subject):
            return []
        history = await self._store.history(first.subject)
        revealing = (entry.seq for entry in history if self._may_reveal_end(entry, bounds))
        if next(revealing, 0) != first.seq:  # 0: just erased
            return []
        # In a thread: the history of a number that many people share can take a second.
        ended = await asyncio.to_thread(self._ended, history, first.controller, bounds)
        removed = [entry for entry in history if erasure.basis_of(entry) in ended]
        kept = [entry for entry in history if erasure.basis_of(entry) not in ended]
        # An end can be dated before the beginning. If only the end remained, it would not end the item if a client sent that
        # again. So such an item is kept.
        ended &= self._stated_ends(fold([*kept, *removed]), first.controller, bounds)
        return [entry for entry in removed if erasure.basis_of(entry) in ended]

    def _ended(self, history: list[Entry], controller: str, bounds: dict[str, Instant]) -> set[str]:
        """Return the legal bases on which no call can have been based since the time in `bounds`.

        The end that the ledger states does not suffice. It may have been entered long after its date, and until then
        calls may have been based on the item.
        """
        ended = self._stated_ends(fold(history), controller, bounds)
        changes = list(_without_repeats(history)) if ended else []
        oldest = min((bounds[_kind_of(basis)] for basis in ended), default=0)
        for count, (entry, following) in enumerate(pairwise(changes), 1):
            if entry.at < following.at >= oldest:  # all entries of an import have the same time
                former = changes[:count]
                times = {kind: max(before, entry.at) for kind, before in bounds.items()}
                over = self._stated_ends(fold(former), controller, times)
                in_use = ended.intersection(map(erasure.basis_of, former)) - over
                ended -= {basis for basis in in_use if bounds[_kind_of(basis)] <= following.at}
        return ended

    def _stated_ends(self, known: Known, controller: str, bounds: dict[str, Instant]) -> set[str]:
        """Return the legal bases whose stated end is before the time in `bounds`."""
        ended = {
            f"consent:{consent.id}" for consent in known.consents if 0 < _end(consent) < bounds["consents"]
        }
        day = self._contract_bound(controller, bounds)
        ended |= {
            f"contract:{contract.id}" for contract in known.contracts if contract.ends and contract.ends < day
        }
        before = bounds["call_requests"]
        return ended | {f"request:{request.id}" for request in known.requests if request.expires_at < before}

    def _contract_bound(self, controller: str, bounds: dict[str, Instant]) -> date:
        """Return the day before which a contract must have ended.

        This adds one day to the term, because the contract may end in another time zone.
        """
        owner = self._config.controllers.get(controller)
        zone = self._config.laws[owner.country].zone if owner else "UTC"
        return day_in(zone, bounds["contracts"]) - timedelta(days=1)

    async def _lists(self, before: Instant, *, drop: bool) -> int:
        """Count the lists retired before `before` whose files still exist. With `drop`, delete these files.

        The lists' records are kept.
        """
        folder = self._config.data / "lists"
        lists = await self._store.lists()
        files = (folder / record.file for record in lists if 0 < record.retired_at < before)
        old = [file for file in files if file.exists() and not self._is_evidence(file)]
        for file in old if drop else ():
            file.unlink(missing_ok=True)
        return len(old)

    def _is_evidence(self, file: Path) -> bool:
        return any(inventory.tag(file, number) >= 0 for number in self._holds.numbers)


def _kind_of(basis: str) -> str:
    return _KINDS[basis.partition(":")[0]]


def _without_repeats(history: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the entries that differ from the previous entry of the same type and ID.

    A client may send the same consents every night for years.
    """
    newest: dict[tuple[type[Event], str], Event] = {}
    for entry in history:
        key = type(entry.event), getattr(entry.event, "id", "")
        if newest.get(key) != entry.event:
            newest[key] = entry.event
            yield entry


def _end(consent: Consent) -> Instant:
    """Return the time at which the consent ceased to permit calls, or 0 if it still permits them."""
    return min((at for at in (consent.expires_at, consent.withdrawn_at, consent.voided_at) if at), default=0)
