"""Bulk import of revocations, for example from another system or a register.

Every row that contains a number is in force, whatever else is wrong with it (`stop_requests`). Rows without a number are
skipped and reported. The revocations are written in parts, so that gates can write in between. Each part is in force once it
is on disk. After an interruption, import the same file again. Revocations that are already in the ledger are then skipped.
"""

from array import array
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import suppress
from typing import Final, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from dialgate.core.ledger_events import Draft, Revoked
from dialgate.core.ledger_state import in_force
from dialgate.core.model import Instant, Revocation
from dialgate.crypto.keys import Keys, nonces
from dialgate.crypto.masking import Masker
from dialgate.ledger import bulk_writes, stop_requests
from dialgate.lists.call_list import RowProblem, number_of
from dialgate.lists.tabular import Table, Unreadable, cell
from dialgate.store import Ledger

_READ_AT_ONCE: Final = 32_768  # numbers hashed, and looked up, together
_MOST: Final = 25_000_000  # rows, at about 70 bytes of memory each
_AT_NAMES: Final = frozenset({"at", "revoked_at"})


class RevocationOrder(Struct, frozen=True, kw_only=True):
    """Values that apply to every row in an import.

    `owner` is a controller, or `*` for all controllers. `now` is the time at which the file arrived.
    """

    owner: str
    scope: Literal["campaign", "controller", "everyone"]
    campaign: str
    channel: str
    proof: str
    actor: str
    now: Instant


class Stops(Struct, frozen=True):
    """The unique numbers in a file (E.164 digits), with the latest revocation time of each, or 0 if the file has none.

    `problems` counts the rows without a number, and `first` is the first of them. `doubtful` counts the rows with several
    numbers that they can mean, for example because they may have lost a zero or a plus. `undated` counts the rows whose
    time cannot be read or lies in the future.
    """

    numbers: NDArray[np.uint64]
    at: NDArray[np.int64]
    rows: int
    duplicates: int
    problems: int
    first: RowProblem | None = None
    doubtful: int = 0
    undated: int = 0


def read(table: Table, home: str, now: Instant, note: Callable[[RowProblem], None]) -> Stops:
    """Read all rows and call `note` with each row without a number. Raises `tabular.Unreadable`."""
    at, when_at = table.layout.number - 1, table.column(_AT_NAMES)
    numbers, instants = array("Q"), array("q")
    rows = problems = doubtful = undated = 0
    bad: RowProblem | None = None
    for line, cells in table.rows:
        rows += 1
        try:
            found = _numbers(cells, at, home)
        except ValueError as error:
            problems += 1
            note(problem := RowProblem(line, str(error)))
            bad = bad or problem
            continue
        if len(numbers) >= _MOST:
            raise Unreadable(f"The file has more than {_MOST:,} rows; split it.")
        instant, is_certain = _instant(cell(cells, when_at).strip(), now)
        numbers.extend(int(number.removeprefix("+")) for number in found)
        instants.extend([instant] * len(found))
        doubtful += len(found) > 1
        undated += not is_certain
    every = np.frombuffer(numbers, np.uint64)
    in_order = np.argsort(every)
    unique, begins = np.unique(every[in_order], return_index=True)
    latest = np.maximum.reduceat(np.frombuffer(instants, np.int64)[in_order], begins) if numbers else begins
    duplicates = len(numbers) - len(unique)
    return Stops(unique, latest, rows, duplicates, problems, bad, doubtful, undated)


def _numbers(cells: list[str], at: int, home: str) -> Collection[str]:
    """Return all numbers that a row can mean. Raises `ValueError` if there is none.

    If the number column has none, for example in a row that is too short, other cells count.
    """
    try:
        return stop_requests.numbers(cell(cells, at), home)
    except ValueError:
        others = [_certain(text, home) for text in cells]
        if found := {number for number in others if number}:
            return found
        raise


def _certain(text: str, home: str) -> str:
    """Return the number in a cell if it has the usual form and one reading, or ""."""
    with suppress(ValueError):
        number = number_of(text, home)
        return number if number.startswith("+") else ""
    return ""


def _instant(text: str, now: Instant) -> tuple[Instant, bool]:
    """Return the time of a revocation, or 0 if the cell has none that can be read, and whether the cell is in order."""
    if not text:
        return 0, True
    instant = stop_requests.latest_instant(text, now)
    return instant, 0 < instant < now


async def new_entries(
    store: Ledger, keys: Keys, order: RevocationOrder, stops: Stops
) -> AsyncIterator[tuple[list[Draft], int]]:
    """Yield the revocations that the ledger does not have yet, in parts for `bulk_writes.write`.

    A revocation later than those in the ledger is recorded too. Otherwise a consent that was given before it could lift
    the earlier ones.
    """
    draft = _drafter(keys, order)
    for subjects, numbers, instants in _parts(keys, order, stops):
        revoked_at = await _revoked_at(store, order, subjects)
        yield (
            [
                draft(subject, f"+{number}", at or order.now)
                for subject, number, at in zip(subjects, numbers, instants, strict=True)
                if at > revoked_at.get(subject, -1)
            ],
            len(subjects),
        )


def _parts(
    keys: Keys, order: RevocationOrder, stops: Stops
) -> Iterator[tuple[list[bytes], list[int], list[Instant]]]:
    """Yield subjects, numbers and revocation times in parts, sorted as in the store's index."""
    subjects = bytearray()
    for start in range(0, len(stops.numbers), _READ_AT_ONCE):
        for number in stops.numbers[start : start + _READ_AT_ONCE].tolist():
            subjects += keys.subject(order.owner, f"+{number}")
    places = bulk_writes.in_order(subjects)
    rows = np.frombuffer(subjects, np.dtype((np.void, bulk_writes.SUBJECT_BYTES)))
    for start in range(0, len(places), bulk_writes.AT_ONCE):
        part = places[start : start + bulk_writes.AT_ONCE]
        yield rows[part].tolist(), stops.numbers[part].tolist(), stops.at[part].tolist()


async def _revoked_at(store: Ledger, order: RevocationOrder, subjects: list[bytes]) -> dict[bytes, Instant]:
    """Return the time of each subject's latest revocation in force with the channel and scope of the import, or -1.

    A revocation with a wider scope counts too. Revocations from other channels do not count: if one of those
    revocations proves to be an error and is lifted, the imported revocation must remain.
    """
    entered = list(await store.subjects_with_entries(subjects))
    states = (await store.read(entered)).known if entered else []
    return {
        subject: max(
            (revocation.at for revocation in state.revocations if _covers(revocation, order)), default=-1
        )
        for subject, state in zip(entered, states, strict=True)
    }


def _covers(revocation: Revocation, order: RevocationOrder) -> bool:
    return revocation.channel == order.channel and in_force(revocation, order.scope, order.campaign)


def _drafter(keys: Keys, order: RevocationOrder) -> Callable[[bytes, str, Instant], Draft]:
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
