"""Files of consents, contracts or call requests, with one entry per row.

Columns are named after the request fields. `purposes`, `call_types` and `goods` may contain several words,
separated by spaces, `;` or `|`. Unknown columns are rejected: if `expires_at` were misspelt, the consents would
never expire. A file with an invalid row is rejected, unless `skip_bad` is set.
"""

import re
from collections import Counter
from functools import lru_cache
from itertools import chain
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from dialgate.config.validation_messages import PATTERNS
from dialgate.core.ledger_events import Draft
from dialgate.core.ledger_state import as_entry, find_outranked, find_repeated
from dialgate.crypto.masking import Masker, may_contain
from dialgate.ledger import entry_limit
from dialgate.ledger.event_drafts import Misstated, event_of
from dialgate.ledger.file_import import Columns, FileOrder, NumberEvent
from dialgate.ledger.request_fields import Field, fields_of
from dialgate.ledger.schemas import CallRequestRequest, ConsentRequest, ContractRequest, Request
from dialgate.lists.call_list import number_of
from dialgate.lists.tabular import Table, Unreadable, cell, column_name
from dialgate.store import Ledger

Ask: TypeAlias = ConsentRequest | ContractRequest | CallRequestRequest
KINDS: Final[dict[str, type[Ask]]] = {
    "consent": ConsentRequest,
    "contract": ContractRequest,
    "call_request": CallRequestRequest,
}
# Fields that are the same for all rows, and the origin, which has a structure that does not fit into a cell.
_NOT_COLUMNS: Final = frozenset({"number", "controller", "actor", "channel", "origin"})
_WORDS: Final = re.compile(r"[\s;|,]+")
_PARTS: Final = re.compile(r"[;|]")
_FIELD: Final = re.compile(r"\$\.(\w+)")
_FIELDS: Final = {kind: {field.name: field for field in fields_of(kind)} for kind in KINDS.values()}


@lru_cache  # most rows of a file have the same purposes and call types
def _choices(text: str) -> list[str]:
    return [word for word in _WORDS.split(text) if word]


def _texts(text: str) -> list[str]:
    return [word for part in _PARTS.split(text) if (word := part.strip())]


# Of each kind, the columns whose cells may contain several words.
_SPLIT: Final = {
    kind: {
        name: _choices if field.shape == "choices" else _texts
        for name, field in fields.items()
        if field.shape in {"choices", "texts"}
    }
    for kind, fields in _FIELDS.items()
}


class EntryFile(Struct, frozen=True):
    """The kind of a file of entries. `sectors` contains the sectors that a contract may name. Implements `FileKind`."""

    kind: type[Ask]
    sectors: tuple[str, ...]

    @property
    def is_lenient(self) -> bool:
        return False

    def columns(self, table: Table) -> Columns:
        return [(table.layout.number - 1, "number"), *_columns(table, self.kind)]

    def read(
        self, cells: list[str], columns: Columns, order: FileOrder, masker: Masker
    ) -> tuple[list[NumberEvent], tuple[str, ...]]:
        (number, _), *fields = columns
        e164 = number_of(cell(cells, number), order.home)
        values: dict[str, Any] = {"number": e164}
        split = _SPLIT[self.kind]
        for at, name in fields:
            if at < len(cells) and (text := cells[at].strip()):
                values[name] = split[name](text) if name in split else text
        ask = msgspec.convert(values, self.kind, strict=False)
        if may_contain(chain(cells[:number], cells[number + 1 :]), e164):
            ask = masker.mask(ask, e164)
        return [NumberEvent(e164, event_of(ask, order.now, self.sectors), ask.proof)], ()

    def problem(self, error: ValueError) -> str:
        if isinstance(error, Misstated):
            return f"`{error.field}`: {error}"
        if isinstance(error, msgspec.ValidationError):
            match = _FIELD.search(str(error))
            if match:
                format_ = _cell_format(_FIELDS[self.kind][match[1]])
                return f"`{match[1]}` cannot be read{format_ and f': {format_}'}"
            missing = re.search(r"required field `(\w+)`", str(error))
            return f"`{missing[1]}` is missing" if missing else "the row cannot be read"
        return str(error)

    @staticmethod
    async def new(store: Ledger, part: list[Draft], counts: Counter[str]) -> list[Draft]:
        histories = await store.histories([draft.subject for draft in part])
        drafts_of = Counter(draft.subject for draft in part)
        new: list[Draft] = []
        for draft in part:
            history = histories.get(draft.subject)
            if history is None:
                new.append(draft)
                if drafts_of[draft.subject] > 1:
                    histories[draft.subject] = [as_entry(draft, [])]
            elif find_repeated(history, draft) is None:
                if entry_limit.is_full(history):
                    counts["over_limit"] += 1
                    continue
                history.append(as_entry(draft, history))
                new.append(draft)
                counts["outranked"] += bool(find_outranked(history, draft.event))
        return new


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
