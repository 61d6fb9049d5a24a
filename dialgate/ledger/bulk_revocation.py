"""Many revocations at once: the stops that another system, or a register, has kept until now.

A file is read to its end before anything is written, and one row that cannot be read refuses it whole, unless such rows are
to be left out. Then it is written in parts, each of which binds as soon as it is on the disk: a stop need not wait for its
neighbours, and a gate beside it is not kept from the ledger. Should it break off, the same file is imported again; who is
revoked already is not revoked twice.
"""

from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from typing import Final, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from dialgate.core.ledger_events import Draft, Revoked, binds
from dialgate.core.model import Instant
from dialgate.crypto.keys import Keys, nonces
from dialgate.crypto.masking import Masker
from dialgate.ledger import bulk_writes
from dialgate.lists.call_list import RowProblem, number_of
from dialgate.lists.tabular import Table, Unreadable
from dialgate.store import Ledger

AT_ONCE: Final = 32_768  # entries: what else is written waits meanwhile, a quarter of a second
_MOST: Final = 25_000_000  # rows: some seventy bytes of memory each
_AT_NAMES: Final = frozenset({"at", "revoked_at"})


class Order(Struct, frozen=True, kw_only=True):
    """What every row of the file says alike. `owner`: the controller, or `*` for every one. `now`: when it came in."""

    owner: str
    scope: Literal["campaign", "controller", "everyone"]
    campaign: str
    channel: str
    proof: str
    actor: str
    now: Instant


class Stops(Struct, frozen=True):
    """What a file holds: digits of the E.164 form, each once, and when each person said stop. `first` of the problems."""

    numbers: "NDArray[np.uint64]"
    at: "NDArray[np.int64]"
    rows: int
    duplicates: int
    problems: int
    first: RowProblem | None = None


def read(table: Table, home: str, now: Instant, note: Callable[[RowProblem], None]) -> Stops:
    """`note` is told of every row that says nothing that could be kept. Of two rows with one number the first counts.
    Raises `tabular.Unreadable`.
    """
    at, when_at = table.layout.number - 1, table.column(_AT_NAMES)
    numbers, instants = array("Q"), array("q")
    rows = problems = 0
    bad: RowProblem | None = None
    for line, cells in table.rows:
        rows += 1
        try:
            number = number_of(cells[at] if at < len(cells) else "", home)
            said = _instant(cells[when_at].strip(), now) if 0 <= when_at < len(cells) else now
        except ValueError as error:
            problems += 1
            note(problem := RowProblem(line, str(error)))
            bad = bad or problem
            continue
        if len(numbers) >= _MOST:
            raise Unreadable(f"The file has more than {_MOST:,} rows; split it.")
        numbers.append(int(number.removeprefix("+")))
        instants.append(said)
    different, first = np.unique(np.frombuffer(numbers, np.uint64), return_index=True)
    said_at = np.frombuffer(instants, np.int64)[first]
    return Stops(different, said_at, rows, len(numbers) - len(different), problems, bad)


def _instant(text: str, now: Instant) -> Instant:
    if not text:
        return now
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("its instant cannot be read; write it with an offset, as RFC 3339 does") from None
    if at.tzinfo is None:
        raise ValueError("its instant has no offset from UTC")
    instant = round(at.timestamp() * 1_000)
    if not 0 <= instant <= now:
        raise ValueError("its instant lies in the future, or before 1970")
    return instant


async def write(store: Ledger, keys: Keys, order: Order, stops: Stops, done: Callable[[int], None]) -> int:
    """How many are revoked that were not before; `done` is told of rows as they are on the disk. Raises
    `StoreUnavailable`: then what was written stands.
    """
    return await bulk_writes.write(store, _entries(store, keys, order, stops), done)


async def _entries(
    store: Ledger, keys: Keys, order: Order, stops: Stops
) -> AsyncIterator[tuple[list[Draft], int]]:
    draft = _drafter(keys, order)
    for subjects, numbers, instants in _parts(keys, order, stops):
        bound = await _bound(store, order, subjects)
        yield (
            [
                draft(subject, f"+{number}", at)
                for subject, number, at in zip(subjects, numbers, instants, strict=True)
                if subject not in bound
            ],
            len(subjects),
        )


def _parts(keys: Keys, order: Order, stops: Stops) -> Iterator[tuple[list[bytes], list[int], list[Instant]]]:
    """Subjects, their numbers, and when each said stop."""
    subjects = bytearray()
    for start in range(0, len(stops.numbers), AT_ONCE):
        for number in stops.numbers[start : start + AT_ONCE].tolist():
            subjects += keys.subject(order.owner, f"+{number}")
    places, each = (
        bulk_writes.in_order(subjects),
        np.frombuffer(subjects, np.dtype((np.void, bulk_writes.SUBJECT_BYTES))),
    )
    for start in range(0, len(places), AT_ONCE):
        some = places[start : start + AT_ONCE]
        yield each[some].tolist(), stops.numbers[some].tolist(), stops.at[some].tolist()


async def _bound(store: Ledger, order: Order, subjects: list[bytes]) -> set[bytes]:
    """Of whom a stop holds that is as wide. One that was lifted does not."""
    held = list(await store.subjects_with_entries(subjects))
    known = (await store.read(held)).known if held else []
    return {
        subject for subject, each in zip(held, known, strict=True) if binds(each, order.scope, order.campaign)
    }


def _drafter(keys: Keys, order: Order) -> Callable[[bytes, str, Instant], Draft]:
    seal, fresh, proof = keys.ledger.seal, nonces(), Masker(keys, order.owner).many(order.proof)
    now, owner, actor, channel = order.now, order.owner, order.actor, order.channel
    scope, campaign = order.scope, order.campaign

    def draft(subject: bytes, number: str, at: Instant) -> Draft:
        return Draft(
            at=now,
            controller=owner,
            subject=subject,
            event=Revoked(at=at, scope=scope, campaign=campaign),
            actor=actor,
            channel=channel,
            proof=proof(number),
            sealed=seal(number, next(fresh)),
        )

    return draft
