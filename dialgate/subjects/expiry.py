"""Storage limitation (GDPR 5(1)(e)): what is past its time is found, and removed.

What permits a call is kept as proof for some years after it has ended; what forbids one is kept for as long as calls may
be made, for a consent that an export sends again must stay withdrawn. The decision log ends otherwise: its months' keys
are thrown away. What a legal hold keeps as evidence stays: entries, and the lists that the number is on.
"""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from msgspec import Struct

from dialgate.audit.legal_holds import UnderHold
from dialgate.config.configuration import Config
from dialgate.core.ledger_events import Entry, fold
from dialgate.core.local_time import day_in, rfc3339
from dialgate.core.model import DAY, Consent, Instant
from dialgate.store import CallList, Store
from dialgate.store.sqlite_subjects import SubjectStore
from dialgate.subjects import erasure, inventory

_AT_ONCE = 2_000  # entries, so that others who write get their turn
_KINDS = {"consent": "consents", "contract": "contracts", "request": "call_requests"}


class Removal(Struct, frozen=True, kw_only=True):
    """`count` of a kind whose use ended before `before`."""

    kind: str
    count: int
    before: str


class Retiring:
    def __init__(self, config: Config, store: Store, file: SubjectStore, held: UnderHold) -> None:
        self._config, self._store, self._file, self._held = config, store, file, held

    async def run(self, now: Instant, *, drop: bool) -> list[Removal]:
        """Every kind, also where there is nothing to remove."""
        days = self._config.settings.storage
        bounds = {
            "consents": now - days.consents_days * DAY,
            "contracts": now - days.contracts_days * DAY,
            "call_requests": now - days.call_requests_days * DAY,
            "lists": now - days.lists_days * DAY,
            "attempts": now - days.attempts_days * DAY,
            "lookups": now - days.lookups_days * DAY,
            "subject_requests": now - days.subject_requests_days * DAY,
            "restricted": now,
        }
        counts = await self._ledger(bounds, drop=drop)
        counts["lists"] = await self._lists(bounds["lists"], drop=drop)
        counts["attempts"] = await self._store.drop_attempts(bounds["attempts"], drop=drop)
        counts |= await self._file.expired(
            bounds["lookups"],
            bounds["subject_requests"],
            bounds["restricted"],
            drop=drop,
            stays=self._held.concerns,
        )
        return [
            Removal(kind=kind, count=counts[kind], before=rfc3339(before)) for kind, before in bounds.items()
        ]

    async def _ledger(self, bounds: dict[str, Instant], *, drop: bool) -> dict[str, int]:
        """Walks the ledger's oldest part: what was entered after every bound cannot have ended before it."""
        counts = dict.fromkeys(_KINDS.values(), 0)
        newest, seq = max(bounds[kind] for kind in counts), 0
        while entries := await self._store.since(seq, _AT_ONCE):
            seq = entries[-1].seq
            gone: list[Entry] = []
            for entry in entries:
                if entry.at < newest and erasure.basis_of(entry):
                    gone += await self._ended(entry, bounds)
            for entry in gone:
                counts[_KINDS[erasure.basis_of(entry).partition(":")[0]]] += 1
            if drop and gone:
                await self._store.remove([entry.seq for entry in gone])
            if entries[-1].at >= newest:
                break
        return counts

    async def _ended(self, first: Entry, bounds: dict[str, Instant]) -> list[Entry]:
        """All of a subject's that has, where this is the first thing that permits calls to it; else it was looked at."""
        if self._held.concerns(first.controller, first.subject):
            return []
        history = await self._store.history(first.subject)
        if next(each.seq for each in history if erasure.basis_of(each)) != first.seq:
            return []
        known, zone = fold(history), self._zone(first.controller)
        ended = {f"consent:{each.id}" for each in known.consents if 0 < _end(each) < bounds["consents"]}
        # A day more than the day it ends, wherever that is: rather too long than too short.
        day = day_in(zone, bounds["contracts"]) - timedelta(days=1)
        ended |= {f"contract:{each.id}" for each in known.contracts if each.ends and each.ends < day}
        before = bounds["call_requests"]
        ended |= {f"request:{each.id}" for each in known.requests if each.expires_at < before}
        return [entry for entry in history if erasure.basis_of(entry) in ended]

    def _zone(self, controller: str) -> str:
        owner = self._config.controllers.get(controller)
        return self._config.laws[owner.country].zone if owner else "UTC"

    async def _lists(self, before: Instant, *, drop: bool) -> int:
        """The numbers go; that there was such a list, and where it came from, stays on record."""
        folder = self._config.data / "lists"
        old = [
            folder / each.file
            for each in _retired(await self._store.lists(), before)
            if (folder / each.file).exists() and not self._evidence(folder / each.file)
        ]
        for file in old if drop else ():
            erasure.drop(Path(file))
        return len(old)

    def _evidence(self, file: Path) -> bool:
        return any(inventory.tag(file, number) >= 0 for number in self._held.numbers)


def _retired(lists: Iterable[CallList], before: Instant) -> list[CallList]:
    return [each for each in lists if 0 < each.retired_at < before]


def _end(consent: Consent) -> Instant:
    """When it ceased to permit calls; 0 where it has not."""
    return min((at for at in (consent.expires_at, consent.withdrawn_at, consent.voided_at) if at), default=0)
