"""Bulk import of consents, contracts or call requests from a file with one entry per row.

Columns are named after the request fields. `purposes`, `call_types` and `goods` may contain several words,
separated by spaces, `;` or `|`. Unknown columns are rejected: if `expires_at` were misspelt, the consents would
never expire.

The whole file is read before anything is written. A file with an invalid row is rejected, unless `skip_bad`
is set. The entries are then written in parts. After an interruption, import the same file again: entries that
are already in the ledger are not written again.
"""

import re
from array import array
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import chain, groupby
from mmap import ACCESS_READ, mmap
from typing import IO, Any, Final, TypeAlias, cast

import msgspec
from msgspec import Struct

from dialgate.config.validation_messages import PATTERNS
from dialgate.core.ledger_events import CallRequested, ConsentGiven, ContractMade, Draft
from dialgate.core.ledger_state import as_entry, find_outranked, find_repeated
from dialgate.core.model import Instant, Known
from dialgate.crypto.keys import Keys, nonces
from dialgate.crypto.masking import Masker, may_contain
from dialgate.ledger import bulk_writes, entry_limit
from dialgate.ledger.event_drafts import Misstated, event_of
from dialgate.ledger.request_fields import Field, fields_of
from dialgate.ledger.schemas import CallRequestRequest, ConsentRequest, ContractRequest, Request
from dialgate.lists import lost_zeros
from dialgate.lists.call_list import RowProblem, number_of
from dialgate.lists.tabular import Table, Unreadable, cell, column_name
from dialgate.runtime.process_pool import spread
from dialgate.store import Ledger

_DRAFTED_AT_ONCE: Final = 4_096  # rows
Ask: TypeAlias = ConsentRequest | ContractRequest | CallRequestRequest
_Event: TypeAlias = ConsentGiven | ContractMade | CallRequested
KINDS: Final[dict[str, type[Ask]]] = {
    "consent": ConsentRequest,
    "contract": ContractRequest,
    "call_request": CallRequestRequest,
}
# Fields that are the same for all rows, and the origin, which has a structure that does not fit into a cell.
_NOT_COLUMNS: Final = frozenset({"number", "controller", "actor", "channel", "origin"})
_WORDS: Final = re.compile(r"[\s;|,]+")
_PARTS: Final = re.compile(r"[;|]")
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Draft).decode
_FIELD: Final = re.compile(r"\$\.(\w+)")
_FIELDS: Final = {kind: {field.name: field for field in fields_of(kind)} for kind in KINDS.values()}


class ImportOrder(Struct, frozen=True, kw_only=True):
    """Values that apply to every row in an import.

    `sectors` contains the sectors that a contract may name. `now` is the time at which the file arrived.
    """

    kind: type[Ask]
    controller: str
    home: str
    sectors: tuple[str, ...]
    channel: str
    proof: str
    actor: str
    now: Instant


class Drafted(Struct, frozen=True):
    """The entries from one part of a file, concatenated.

    `ends` contains the end offset of each entry in `entries`.
    """

    subjects: bytes
    entries: bytes
    ends: list[int]
    problems: list[RowProblem]
    doubtful: list[RowProblem]


class ImportedRows:
    """The entries from the valid rows, in an unnamed temporary file, and the counts of other rows.

    `problems` counts the invalid rows, and `doubtful` those whose number may have lost a zero or a plus.
    """

    def __init__(self, spool: IO[bytes]) -> None:
        self.rows = self.problems = self.outranked = self.doubtful = self.over_limit = 0
        self.first: RowProblem | None = None
        self._spool = spool
        self._subjects, self._ends = bytearray(), array("Q")

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, drafted: Drafted) -> None:
        begin = self._ends[-1] if self._ends else 0
        self._spool.write(drafted.entries)
        self._subjects += drafted.subjects
        self._ends.extend([begin + end for end in drafted.ends])
        self.problems += len(drafted.problems)
        self.first = self.first or next(iter(drafted.problems), None)
        self.doubtful += len(drafted.doubtful)
        self.rows += len(drafted.ends) + len(drafted.problems) + len(drafted.doubtful)

    def parts(self) -> Iterator[list[Draft]]:
        """Yield the entries in parts, each with all entries about its numbers. The entries about a number are in order."""
        part: list[Draft] = []
        for _, drafts in groupby(self._drafts(), key=lambda draft: draft.subject):
            part += drafts
            if len(part) >= bulk_writes.AT_ONCE:
                yield part
                part = []
        if part:
            yield part

    def _drafts(self) -> Iterator[Draft]:
        self._spool.flush()
        with mmap(self._spool.fileno(), 0, access=ACCESS_READ) as data:
            for at in bulk_writes.in_order(self._subjects).tolist():
                yield _decode(data[self._ends[at - 1] if at else 0 : self._ends[at]])


def read_rows(
    table: Table, keys: Keys, order: ImportOrder, imported: ImportedRows, note: Callable[[RowProblem], None]
) -> None:
    """Read all rows into `imported` and call `note` with each invalid row. Raises `Unreadable`."""
    drafter = Drafter(keys, order, _columns(table, order.kind), table.layout.number - 1)
    for drafted in spread(drafter, table.chunks(_DRAFTED_AT_ONCE)):
        imported.add(drafted)
        for problem in drafted.problems + drafted.doubtful:
            note(problem)


class Drafter:
    """A converter from rows to entries.

    `fields` maps column positions to field names. `number` is the position of the number column.
    """

    def __init__(self, keys: Keys, order: ImportOrder, fields: list[tuple[int, str]], number: int) -> None:
        self._from = (keys, order, fields, number)
        self._fresh, self._masker = nonces(), Masker(keys, order.controller)
        self._proof = self._masker.many(order.proof)

    def __reduce__(self) -> tuple[object, ...]:
        return Drafter, self._from  # a copy in another process gets new nonces

    def __call__(self, rows: Sequence[tuple[int, list[str]]]) -> Drafted:
        subjects, entries, ends = bytearray(), bytearray(), list[int]()
        problems, doubtful = list[RowProblem](), list[RowProblem]()
        for line, cells in rows:
            try:
                draft = self._draft(cells)
            except lost_zeros.LostDigits as error:
                doubtful.append(RowProblem(line, str(error)))
                continue
            except ValueError as error:  # includes msgspec.ValidationError
                problems.append(RowProblem(line, _problem(error, self._from[1].kind)))
                continue
            subjects += draft.subject
            entries += _encode(draft)
            ends.append(len(entries))
        return Drafted(bytes(subjects), bytes(entries), ends, problems, doubtful)

    def _draft(self, cells: list[str]) -> Draft:
        keys, order, fields, number = self._from
        e164, ask = _row(cells, number, fields, order)
        if may_contain(chain(cells[:number], cells[number + 1 :]), e164):
            ask = self._masker.mask(ask, e164)
        return Draft(
            at=order.now,
            controller=order.controller,
            subject=keys.subject(order.controller, e164),
            event=event_of(ask, order.now, order.sectors),
            actor=order.actor,
            channel=order.channel,
            proof=ask.proof or self._proof(e164),
            sealed=keys.ledger.seal(e164, next(self._fresh)),
        )


def columns(kind: type[Ask]) -> list[str]:
    """Return the columns that a file may have, apart from the number column."""
    return [name for name in _FIELDS[kind] if name not in _NOT_COLUMNS]


def columns_by_need(kind: type[Ask]) -> tuple[list[str], list[str]]:
    """Return the required and the optional columns, apart from the number column."""
    fields = [_FIELDS[kind][name] for name in columns(kind)]
    fields.sort(key=lambda field: field.name in Request.__struct_fields__)  # the kind's own fields first
    required, optional = (
        [field.name for field in fields if field.required is need] for need in (True, False)
    )
    return required, optional


def _columns(table: Table, kind: type[Ask]) -> list[tuple[int, str]]:
    known = columns(kind)
    names = [column_name(title) for title in table.layout.header]
    if not names:
        raise Unreadable(
            f"The file has no header. Add a first row with the column names: number, {', '.join(known)}."
        )
    odd = [
        str(place)
        for place, name in enumerate(names, 1)
        if name not in known and place != table.layout.number
    ]
    if odd or len(set(names)) < len(names):
        which = f"Column {', '.join(odd)}" if odd else "One of two columns with the same name"
        raise Unreadable(f"{which} is not allowed. Remove it, or rename it to one of: {', '.join(known)}.")
    return [(at, name) for at, name in enumerate(names) if at != table.layout.number - 1]


def _row(
    cells: Sequence[str], number: int, fields: list[tuple[int, str]], order: ImportOrder
) -> tuple[str, Ask]:
    e164 = number_of(cell(cells, number), order.home)
    values: dict[str, Any] = {
        name: _value(name, text, order.kind) for at, name in fields if (text := cell(cells, at).strip())
    }
    values["number"] = e164
    return e164, msgspec.convert(values, order.kind, strict=False)


def _value(name: str, text: str, kind: type[Ask]) -> str | list[str]:
    match _FIELDS[kind][name].shape:
        case "choices":
            return [word for word in _WORDS.split(text) if word]
        case "texts":
            return [word for part in _PARTS.split(text) if (word := part.strip())]
        case _:
            return text


def _problem(error: ValueError, kind: type[Ask]) -> str:
    """Describe what is wrong with a row, without quoting its cells."""
    if isinstance(error, Misstated):
        return f"`{error.field}`: {error}"
    if isinstance(error, msgspec.ValidationError):
        match = _FIELD.search(str(error))
        if match:
            format_ = _cell_format(_FIELDS[kind][match[1]])
            return f"`{match[1]}` cannot be read{format_ and f': {format_}'}"
        missing = re.search(r"required field `(\w+)`", str(error))
        return f"`{missing[1]}` is missing" if missing else "the row cannot be read"
    return str(error)


def _cell_format(field: Field) -> str:
    """Return a hint on how to write a column's cells, or an empty string if any text is valid."""
    match field.shape:
        case "instant":
            return "write it as 2026-11-24T10:00:00+01:00"
        case "day":
            return "write it as 2026-11-24"
        case "choices":
            return f"one or more of {', '.join(field.choices)}"
        case _:
            return PATTERNS.get(field.pattern, "")


async def new_entries(store: Ledger, imported: ImportedRows) -> AsyncIterator[tuple[list[Draft], int]]:
    """Yield the entries that the ledger does not have yet, in parts for `bulk_writes.write`."""
    for part in imported.parts():
        subjects = list(await store.subjects_with_entries([draft.subject for draft in part]))
        known = dict(zip(subjects, (await store.read(subjects)).known, strict=True)) if subjects else {}
        new: list[Draft] = []
        for subject, drafts in groupby(part, key=lambda draft: draft.subject):
            rows = list(drafts)
            held = known.get(subject, Known())
            if len(rows) == 1 and _is_free(held, cast("_Event", rows[0].event).id):
                new += rows
                continue
            history = await store.history(subject) if subject in known else []
            for draft in rows:
                if find_repeated(history, draft) is not None:
                    continue
                if entry_limit.is_full(history):
                    imported.over_limit += 1
                    continue
                history.append(as_entry(draft, history))
                new.append(draft)
                imported.outranked += bool(find_outranked(history, draft.event))
        yield new, len(part)


def _is_free(known: Known, name: str) -> bool:
    """Return whether an entry with this id can be entered without a look at the number's other entries."""
    groups = (known.consents, known.contracts, known.requests)
    ids = [item.id for group in groups for item in group]
    return len(ids) < entry_limit.MOST and name not in ids
