"""Numbers that were called before, in the store of a gate on its second day.

Each number has one to five attempts in the last 60 days, at most three of them in the last 30, so that no limit denies it. One
in twenty has a consent, and one in a hundred a revocation that was lifted.
"""

import asyncio
import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from dialgate.config import loader
from dialgate.core.ledger_events import ConsentGiven, Draft, Event, Lifted, Revoked
from dialgate.core.model import DAY, Attempt, Instant
from dialgate.crypto.keys import Keys
from dialgate.runtime.clock import wall_clock
from dialgate.store import Shared, Store
from dialgate.store.factory import open_store

_LOG: Final = "5ec0da70"  # of an earlier gate
_BASIS: Final = "directory:bench"  # the list of the calls to be measured
_MOST_ATTEMPTS: Final = 5
_BETWEEN: Final = 12 * DAY
_CONSENT_EVERY, _LIFT_EVERY = 20, 100
_FILLERS: Final = 390_200_000_000  # Milan's landlines: they are stored, but not called
_BATCH: Final = 100_000


def fill(config: Path, numbers: Sequence[int], count: int, controller: str, campaign: str) -> None:
    """Store `count` known numbers: `numbers`, and others. No gate may run. Raises `StoreUnavailable`."""
    asyncio.run(_fill(config, numbers, count, controller, campaign))


async def _fill(path: Path, numbers: Sequence[int], count: int, controller: str, campaign: str) -> None:
    config = loader.load(path)
    keys = Keys.open(config.data / "keys.json")
    digest = keys.keyed(controller).digest
    others = range(_FILLERS, _FILLERS + count - len(numbers))
    # In the order of the index by subject, so that SQLite writes each of its pages once.
    subjects = sorted(digest(b"+%d" % number) for number in itertools.chain(numbers, others))
    store, now = await open_store(config, keys), wall_clock()
    try:
        for batch in _attempts(subjects, campaign, now):
            await store.settle(_LOG, _MOST_ATTEMPTS * count, batch, ())
            if isinstance(store, Shared):  # which takes missing attempts for a sign that it is an older copy
                await store.acknowledge(_LOG, store.generation.number)
        await _enter(store, subjects, controller, now)
    finally:
        await store.close()


def _attempts(
    subjects: Sequence[bytes], campaign: str, now: Instant
) -> Iterator[list[tuple[bytes, Attempt]]]:
    """Yield the attempts in batches, those of a subject together, oldest first.

    Their sequence numbers are those of calls in the order of time: the last attempts of all numbers come after the ones before.
    """
    draw = random.Random(2)
    seqs = [itertools.count(turn * len(subjects) + 1) for turn in range(_MOST_ATTEMPTS)]
    batch: list[tuple[bytes, Attempt]] = []
    for subject in subjects:
        for turn in range(subject[0] % _MOST_ATTEMPTS, _MOST_ATTEMPTS):
            at = now - (_MOST_ATTEMPTS - turn) * _BETWEEN + draw.randrange(_BETWEEN - DAY)
            decision = f"{_LOG}-{next(seqs[turn])}"
            attempt = Attempt(decision=decision, at=at, campaign=campaign, basis=_BASIS)
            batch.append((subject, attempt))
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    yield batch


async def _enter(store: Store, subjects: Sequence[bytes], controller: str, now: Instant) -> None:
    def draft(subject: bytes, event: Event) -> Draft:
        return Draft(
            at=now - 90 * DAY,
            controller=controller,
            subject=subject,
            event=event,
            actor="bench",
            channel="web",
        )

    consents = [draft(subject, _consent(now)) for subject in subjects[::_CONSENT_EVERY]]
    for start in range(0, len(consents), _BATCH):
        await store.append(consents[start : start + _BATCH])
    lifted = subjects[1::_LIFT_EVERY]
    for start in range(0, len(lifted), _BATCH):
        some = lifted[start : start + _BATCH]
        revoked = await store.append([draft(subject, Revoked(at=now - 90 * DAY)) for subject in some])
        lifts = [Lifted(of=seq, ground="error", reason="another person's number") for seq in revoked]
        await store.append([draft(*pair) for pair in zip(some, lifts, strict=True)])


def _consent(now: Instant) -> ConsentGiven:
    return ConsentGiven(
        id="bench",
        collected_at=now - 90 * DAY,
        purposes=("sale",),
        call_types=("agent",),
        artefact="exports/bench",
        artefact_sha256="0" * 64,
    )
