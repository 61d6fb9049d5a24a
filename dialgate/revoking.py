"""Many revocations at once: the stops that another system, or a register, has kept until now.

A file is read to its end before anything is written, and one row that cannot be read refuses it whole, unless such rows are
to be left out. Then it is written in parts, each of which binds as soon as it is on the disk: a stop need not wait for its
neighbours, and a gate beside it is not kept from the ledger. Should it break off, the same file is imported again; who is
revoked already is not revoked twice.
"""

from array import array
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from typing import Final, Literal

from msgspec import Struct

from dialgate import bulk
from dialgate.calllist import RowProblem, number_of
from dialgate.keys import Keys, nonces
from dialgate.ledger import Draft, Revoked
from dialgate.masking import Masker
from dialgate.model import Instant, Known
from dialgate.store import Store
from dialgate.tabular import Table, Unreadable

AT_ONCE: Final = 32_768  # entries: what else is written waits meanwhile, a quarter of a second
_MOST: Final = 25_000_000  # numbers: a hundred bytes of memory each
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
    """What a file holds: digits of the E.164 form, and when each person said stop."""

    numbers: "array[int]"
    at: "array[int]"
    rows: int
    duplicates: int
    problems: int


def read(table: Table, home: str, now: Instant, note: Callable[[RowProblem], None]) -> Stops:
    """`note` is told of every row that says nothing that could be kept. Of two rows with one number the first counts.
    Raises `tabular.Unreadable`."""
    at, when_at = table.layout.number - 1, table.column(_AT_NAMES)
    numbers, instants, seen = array("Q"), array("q"), set[int]()
    rows = problems = 0
    for line, cells in table.rows:
        rows += 1
        try:
            number = int(number_of(cells[at] if at < len(cells) else "", home).removeprefix("+"))
            said = _instant(cells[when_at].strip(), now) if 0 <= when_at < len(cells) else now
        except ValueError as error:
            problems += 1
            note(RowProblem(line, str(error)))
            continue
        if number not in seen:
            if len(numbers) >= _MOST:
                raise Unreadable(f"The file has more than {_MOST:,} numbers; split it.")
            seen.add(number)
            numbers.append(number)
            instants.append(said)
    return Stops(numbers, instants, rows, rows - problems - len(numbers), problems)


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


async def write(store: Store, keys: Keys, order: Order, stops: Stops, done: Callable[[int], None]) -> int:
    """How many are revoked that were not before; `done` is told of rows as they are on the disk. Raises
    `StoreUnavailable`: then what was written stands."""
    return await bulk.write(store, _entries(store, keys, order, stops), done)


async def _entries(
    store: Store, keys: Keys, order: Order, stops: Stops
) -> AsyncIterator[tuple[list[Draft], int]]:
    fresh, seal, proof = nonces(), keys.ledger.seal, Masker(keys, order.owner).many(order.proof)
    for numbers, instants in _parts(stops):
        subjects = [keys.subject(order.owner, number) for number in numbers]
        drafts = [
            _draft(order, instants[at], subjects[at], seal(numbers[at], next(fresh)), proof(numbers[at]))
            for at in await _new(store, order, subjects)
        ]
        yield drafts, len(numbers)


async def _new(store: Store, order: Order, subjects: list[bytes]) -> list[int]:
    """The places of those that are not revoked yet, in the order of the store's index: neighbours are written together."""
    known = (await store.read(subjects)).known
    new = [at for at, held in enumerate(known) if not held.revocations or not _bound(held, order)]
    return sorted(new, key=subjects.__getitem__)


def _parts(stops: Stops) -> Iterator[tuple[list[str], Sequence[int]]]:
    for start in range(0, len(stops.numbers), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        yield [f"+{number}" for number in stops.numbers[some]], stops.at[some]


def _bound(known: Known, order: Order) -> bool:
    """Whether a stop holds that is as wide. One that was lifted does not."""
    return any(
        not held.lifted
        and (held.scope != "campaign" or (order.scope == "campaign" and held.campaign == order.campaign))
        for held in known.revocations
    )


def _draft(order: Order, at: Instant, subject: bytes, sealed: bytes, proof: str) -> Draft:
    return Draft(
        at=order.now,
        controller=order.owner,
        subject=subject,
        event=Revoked(at=at, scope=order.scope, campaign=order.campaign),
        actor=order.actor,
        channel=order.channel,
        proof=proof,
        sealed=sealed,
    )
