"""Many consents, contracts or call requests at once: a file with a row each, its columns named as the fields of the
request. `purposes`, `call_types` and `goods` take several words, parted by blanks, `;` or `|`.

The file is read to its end before anything is written, and one row that cannot be taken refuses it whole, unless such rows
are to be left out; then it is read once more and written in parts. A column that is no field is refused, for a misspelt
`expires_at` would be a consent without an end. Broken off, the same file is imported again: what stands in the ledger as it
stands in the file is not entered twice.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeAlias, cast

import msgspec
from msgspec import Struct

from dialgate import bulk
from dialgate.calllist import RowProblem, number_of
from dialgate.events import Misstated, event_of
from dialgate.keys import Keys, nonces
from dialgate.ledger import CallRequested, ConsentGiven, ContractMade, Draft
from dialgate.masking import Masker
from dialgate.model import Instant, Known
from dialgate.requests import CallRequestRequest, ConsentRequest, ContractRequest
from dialgate.store import Store
from dialgate.tabular import Table, Unreadable

AT_ONCE: Final = 8_192  # entries: what else is written waits meanwhile
Ask: TypeAlias = ConsentRequest | ContractRequest | CallRequestRequest
_Event: TypeAlias = ConsentGiven | ContractMade | CallRequested
KINDS: Final[dict[str, type[Ask]]] = {
    "consent": ConsentRequest,
    "contract": ContractRequest,
    "call_request": CallRequestRequest,
}
# Where the rest of a row comes from: who enters it, and the origin of what others collected, which no row can tell.
_NOT_COLUMNS: Final = frozenset({"number", "controller", "actor", "channel", "origin"})
_SEVERAL: Final = frozenset({"purposes", "call_types"})
_WORDS: Final = re.compile(r"[\s;|,]+")
_PARTS: Final = re.compile(r"[;|]")
_FIELD: Final = re.compile(r"\$\.(\w+)")


class Order(Struct, frozen=True, kw_only=True):
    """What every row says alike. `sectors`: those of the country. `now`: when the file came in."""

    kind: type[Ask]
    controller: str
    home: str
    sectors: tuple[str, ...]
    channel: str
    proof: str
    actor: str
    now: Instant


class Tally(Struct):
    rows: int = 0
    problems: int = 0


class _Row(Struct, frozen=True):
    number: str
    ask: Ask


def rows(table: Table, order: Order, tally: Tally, note: Callable[[RowProblem], None]) -> Iterator[_Row]:
    """Those that can be taken; `note` is told of every other one. Raises `Unreadable`."""
    fields = _columns(table, order.kind)
    for line, cells in table.rows:
        tally.rows += 1
        try:
            yield _row(cells, table.layout.number - 1, fields, order)
        except ValueError as error:  # msgspec's too
            tally.problems += 1
            note(RowProblem(line, _problem(error)))


def columns(kind: type[Ask]) -> list[str]:
    """Those that a file may have beside the number's; the first are needed."""
    return [name for name in kind.__struct_fields__ if name not in _NOT_COLUMNS]


def _columns(table: Table, kind: type[Ask]) -> list[tuple[int, str]]:
    known = columns(kind)
    names = [re.sub(r"[\s.-]+", "_", name.strip().lower()) for name in table.layout.header]
    if not names:
        raise Unreadable(f"The file has no header; name its columns: number, {', '.join(known)}.")
    odd = [
        str(place)
        for place, name in enumerate(names, 1)
        if name not in known and place != table.layout.number
    ]
    if odd or len(set(names)) < len(names):
        which = f"Column {', '.join(odd)}" if odd else "One of two columns with the same name"
        raise Unreadable(
            f"{which} is not to be taken; leave it out, or name it as one of: {', '.join(known)}."
        )
    return [(at, name) for at, name in enumerate(names) if at != table.layout.number - 1]


def _row(cells: Sequence[str], number: int, fields: list[tuple[int, str]], order: Order) -> _Row:
    e164 = number_of(cells[number] if number < len(cells) else "", order.home)
    given: dict[str, Any] = {
        name: _value(name, cell, order.kind)
        for at, name in fields
        if at < len(cells) and (cell := cells[at].strip())
    }
    given["number"] = e164
    ask: Ask = msgspec.convert(given, order.kind, strict=False)
    event_of(ask, order.now, order.sectors)
    return _Row(e164, ask)


def _value(name: str, cell: str, kind: type[Ask]) -> str | list[str]:
    if name in _SEVERAL:
        return [word for word in _WORDS.split(cell) if word]
    if name == "goods" and kind is not CallRequestRequest:
        return [word for part in _PARTS.split(cell) if (word := part.strip())]
    return cell


def _problem(error: ValueError) -> str:
    """Without what stood in the cell."""
    if isinstance(error, Misstated):
        return f"`{error.field}`: {error}"
    if isinstance(error, msgspec.ValidationError):
        named = _FIELD.search(str(error))
        if named:
            return f"its `{named[1]}` cannot be read"
        missing = re.search(r"required field `(\w+)`", str(error))
        return f"it has no `{missing[1]}`" if missing else "it cannot be read"
    return str(error)


async def write(
    store: Store, keys: Keys, order: Order, taken: Iterator[_Row], done: Callable[[int], None]
) -> int:
    """How many are new; `done` is told of rows as they are on the disk. Raises `StoreUnavailable`: then what was written
    stands."""
    return await bulk.write(store, _entries(store, keys, order, taken), done)


async def _entries(
    store: Store, keys: Keys, order: Order, taken: Iterator[_Row]
) -> AsyncIterator[tuple[list[Draft], int]]:
    fresh = nonces()
    while part := list(islice(taken, AT_ONCE)):
        yield await _drafts(store, keys, order, part, fresh), len(part)


async def _drafts(
    store: Store, keys: Keys, order: Order, part: list[_Row], fresh: Iterator[bytes]
) -> list[Draft]:
    masker = Masker(keys, order.controller)
    subjects = [keys.subject(order.controller, row.number) for row in part]
    known: Mapping[bytes, Known] = dict(zip(subjects, (await store.read(subjects)).known, strict=True))
    drafts = []
    for subject, row in sorted(zip(subjects, part, strict=True), key=lambda pair: pair[0]):
        ask = masker.masked(row.ask, row.number)
        event = cast("_Event", event_of(ask, order.now, order.sectors))
        if _named(known[subject], ask.id) and await _stands(store, subject, event):
            continue
        drafts.append(
            Draft(
                at=order.now,
                controller=order.controller,
                subject=subject,
                event=event,
                actor=order.actor,
                channel=order.channel,
                proof=ask.proof or masker.text(order.proof, row.number),
                sealed=keys.ledger.seal(row.number, next(fresh)),
            )
        )
    return drafts


def _named(known: Known, name: str) -> bool:
    held = ({each.id for each in kind} for kind in (known.consents, known.contracts, known.requests))
    return any(name in names for names in held)


async def _stands(store: Store, subject: bytes, event: _Event) -> bool:
    """The newest entry of this kind and id says the same."""
    newest: _Event | None = None
    for entry in await store.history(subject):
        held = entry.event
        if isinstance(held, _Event) and type(held) is type(event) and held.id == event.id:
            newest = held
    return newest == event
