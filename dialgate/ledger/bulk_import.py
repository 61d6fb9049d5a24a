"""Files of consents, contracts or call requests, with one entry per row.

Columns are named after the request fields. `purposes`, `call_types` and `goods` may contain several words,
separated by spaces, `;` or `|`. Unknown columns are rejected: if `expires_at` were misspelt, the consents would
never expire. A file with an invalid row is rejected, unless `skip_bad` is set.
"""

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from itertools import repeat
from types import GenericAlias
from typing import Any, ClassVar, Final, TypeAlias, get_type_hints

import msgspec
from msgspec import Struct, structs

from dialgate.config.validation_messages import PATTERNS
from dialgate.core.ledger_events import Event
from dialgate.core.ledger_state import as_entry, find_outranked, find_repeated
from dialgate.core.model import Instant
from dialgate.crypto.masking import EXEMPT, Masker, may_contain
from dialgate.ledger import entry_limit
from dialgate.ledger.event_drafts import EVENT_OF, Misstated, stated_fields, statement
from dialgate.ledger.file_import import Cells, Columns, FileOrder, RowEvents
from dialgate.ledger.request_fields import Field, fields_of
from dialgate.ledger.schemas import CallRequestRequest, ConsentRequest, ContractRequest, Request
from dialgate.lists.call_list import number_of
from dialgate.lists.tabular import Table, Unreadable, column_name
from dialgate.store import Ledger
from dialgate.store.encoded_entries import EncodedEntry

Ask: TypeAlias = ConsentRequest | ContractRequest | CallRequestRequest
KINDS: Final[dict[str, type[Ask]]] = {
    "consent": ConsentRequest,
    "contract": ContractRequest,
    "call_request": CallRequestRequest,
}
# Fields that are the same for all rows, and the origin, which has a structure that does not fit into a cell.
_NOT_COLUMNS: Final = frozenset({"number", "controller", "actor", "channel", "origin"})
_encoder: Final = msgspec.json.Encoder()
_decode: Final = msgspec.json.Decoder(Event).decode
_WORDS: Final = re.compile(r"[\s;|,]+")
_PARTS: Final = re.compile(r"[;|]")
_FIELDS: Final = {kind: {field.name: field for field in fields_of(kind)} for kind in KINDS.values()}
# Of each kind, the types of whole columns, and the columns that can contain the number.
_TYPES: Final = {
    kind: {
        name: GenericAlias(list, (hint,)) for name, hint in get_type_hints(kind, include_extras=True).items()
    }
    for kind in KINDS.values()
}
_DEFAULTS: Final = {
    kind: {field.name: field.default for field in structs.fields(EVENT_OF[kind])} for kind in KINDS.values()
}
_TEXTS: Final = {
    kind: {name for name, field in fields.items() if field.shape in {"text", "texts"}} - EXEMPT
    for kind, fields in _FIELDS.items()
}


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

    is_lenient: ClassVar[bool] = False

    def columns(self, table: Table) -> Columns:
        return [(table.layout.number - 1, "number"), *_columns(table, self.kind)]

    def read(self, cells: Cells, columns: Columns, order: FileOrder, masker: Masker) -> RowEvents:
        """Compose the JSON of the events from that of their fields. Each different cell of a column is read once."""
        (number, _), *named = columns
        numbers = [
            text if is_valid else number_of(text, order.home)
            for text, is_valid in zip(cells.column(number), cells.is_valid, strict=True)
        ]
        texts = {name: cells.column(at) for at, name in named}
        distinct = {name: list(dict.fromkeys(column)) for name, column in texts.items()}
        values = {name: self._values(name, column) for name, column in distinct.items()}
        for name, field in _FIELDS[self.kind].items():
            if field.required and name != "number" and None in values.get(name, [None]):
                raise ValueError(f"`{name}` is missing")
        event = EVENT_OF[self.kind]
        members = {
            name: self._members(name, values[name], order.now)
            for name in stated_fields(self.kind)
            if name in texts
        }

        def column(name: str, words: list[str]) -> Iterable[str]:
            if len(words) == len(cells):
                return words  # no cell occurs twice
            return map(dict(zip(distinct[name], words, strict=True)).__getitem__, texts[name])

        in_order = [column(name, members[name]) for name in event.__struct_fields__ if name in members]
        begin, end = [f'{{"type":"{event.__struct_config__.tag}"'] * len(cells), ["}"] * len(cells)
        events = list(map("".join, zip(begin, *in_order, end, strict=True)))
        for at in {
            at for name in _TEXTS[self.kind] & texts.keys() for at in may_contain(texts[name], numbers)
        }:
            events[at] = _encoder.encode(masker.mask(_decode(events[at]), numbers[at])).decode()
        proofs = column("proof", values["proof"]) if "proof" in texts else repeat("", len(cells))
        return RowEvents(numbers, events, list(proofs), Counter())

    def _values(self, name: str, cells: list[str]) -> list[Any]:
        """Return the value of each cell of a column, which is None for an empty cell of a required field."""
        field, split = _FIELDS[self.kind][name], _SPLIT[self.kind].get(name)
        words = list(map(str.strip, cells))
        filled: list[Any] = list(filter(None, words))
        try:
            values: list[Any] = msgspec.convert(
                list(map(split, filled)) if split else filled, _TYPES[self.kind][name], strict=False
            )
        except msgspec.ValidationError:
            format_ = _cell_format(field)
            raise ValueError(f"`{name}` cannot be read{format_ and f': {format_}'}") from None
        if len(values) < len(words):
            default, rest = None if field.required else field.default, iter(values)
            values = [next(rest) if word else default for word in words]
        return values

    def _members(self, name: str, values: list[Any], now: Instant) -> list[str]:
        """Return a field of the event as a member of its JSON, or "" for the default, for each value."""
        state = statement(EVENT_OF[self.kind], name, now, self.sectors)
        try:
            stated = list(map(state, values)) if state else values
        except Misstated as error:
            raise ValueError(f"`{name}`: {error}") from error
        lines = f"\n{_encoder.encode_lines(stated).decode()}".replace("\n", f'\n,"{name}":').split("\n")[1:-1]
        default = _DEFAULTS[self.kind][name]
        if default in stated:
            lines = ["" if value == default else line for value, line in zip(stated, lines, strict=True)]
        return lines

    async def new(self, store: Ledger, part: list[EncodedEntry], counts: Counter[str]) -> list[EncodedEntry]:
        histories = await store.histories([draft.subject for draft in part])
        changed = set[bytes]()
        new: list[EncodedEntry] = []
        for draft in part:
            entries = histories.setdefault(draft.subject, [])
            if entries and draft.subject not in changed and self._repeats(entries[-1], draft):
                continue
            if entries:
                history, entered = [entry.decoded() for entry in entries], draft.decoded()
                if find_repeated(history, entered) is not None:
                    continue
                if entry_limit.is_full(history):
                    counts["over_limit"] += 1
                    continue
                history.append(as_entry(entered, history))
                counts["outranked"] += bool(find_outranked(history, entered.event))
            changed.add(draft.subject)
            entries.append(draft)
            new.append(draft)
        return new

    def _repeats(self, newest: EncodedEntry, draft: EncodedEntry) -> bool:
        """Return whether a draft equals the newest entry, as `find_repeated` compares them."""
        return newest.event == draft.event and (
            self.kind is ConsentRequest or bool(newest.proof) or not draft.proof
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
        which = (
            f"Columns with a name that is not known: {', '.join(odd)}"
            if odd
            else "Two columns have the same name"
        )
        raise Unreadable(f"{which}. Remove each, or rename it to one of: {', '.join(known)}.")
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
