"""The lossless conversion of entries to columns and back.

A decision is rebuilt from its columns byte for byte. Fields without a column of their own are stored together in `rest`, so a
new field of `Decided` needs no change here. An entry that cannot be rebuilt exactly is stored unchanged in `body`.
"""

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa
from msgspec import Struct, structs

from dialgate.core.model import Decided, Grounds, Instant, OutcomeRecord
from dialgate.core.own_grounds import whole_grounds
from dialgate.decision_log.entry_columns import Column, searchable
from dialgate.decision_log.segment import UNREADABLE

NUMBER_BYTES, NONCE_BYTES = 16, 12

_WORD = pa.string()
SCHEMA = pa.schema(
    [
        ("seq", pa.int64()),
        ("at", pa.timestamp("ms", "UTC")),
        ("type", _WORD),
        ("number", pa.binary(NUMBER_BYTES)),
        ("nonce", pa.binary()),  # DuckDB and polars read no short encoding of a fixed length
        ("sealed", pa.binary()),
        ("question", pa.binary(NUMBER_BYTES)),
        ("grounds", pa.int64()),
        ("allow", pa.bool_()),
        ("client", _WORD),
        ("interface", _WORD),
        ("call_id", _WORD),
        ("controller", _WORD),
        ("campaign", _WORD),
        ("country", _WORD),
        ("reason", _WORD),
        ("body", pa.binary()),
        ("rest", pa.binary()),
        ("reasons", _WORD),
        ("basis", _WORD),
        ("caller_id", _WORD),
        ("law", _WORD),
        ("decision", _WORD),
        ("result", _WORD),
        ("shadow", pa.bool_()),
        ("lists", _WORD),
        ("agent", pa.binary()),
    ]
)
ABSENT: dict[str, bool | bytes] = {
    "shadow": False,
    "agent": b"",
}  # columns that older files lack, with the value of their decisions
FEW_VALUES = frozenset(
    {"type", "client", "interface", "controller", "campaign", "country", "reason", "reasons", "basis", "caller_id", "law", "result", "lists", "agent"}
)  # fmt: skip
_HASHES = {"number", "sealed", "question"}  # incompressible
WRITER_OPTIONS: dict[str, Any] = {
    "use_dictionary": ["grounds", *FEW_VALUES],
    "column_encoding": {
        "seq": "DELTA_BINARY_PACKED",
        "at": "DELTA_BINARY_PACKED",
        "nonce": "DELTA_BYTE_ARRAY",  # nonces are counters: only their last bytes vary
        "sealed": "DELTA_LENGTH_BYTE_ARRAY",
        "call_id": "DELTA_BYTE_ARRAY",
        "decision": "DELTA_BYTE_ARRAY",
    },
    "compression": {name: "NONE" if name in _HASHES else "ZSTD" for name in SCHEMA.names},
    "compression_level": {name: 9 for name in SCHEMA.names if name not in _HASHES},
    "write_statistics": ["seq", "at", "allow", "controller", "campaign", "country", "reason"],
    "write_page_checksum": True,
}
_SAME = ["number", "grounds", "allow", "client", "interface", "call_id", "shadow", "agent"]
COLUMNS_OF_BODY = ["body", "at", "number", "nonce", "sealed", "grounds", "allow", "client", "interface", "call_id", "question", "rest", "shadow", "agent"]  # fmt: skip
_OWN_COLUMNS = {"seq", "id", "at", "sealed", "question", *_SAME}


class _Entry(Struct):
    type: str
    at: Instant | None = None


_Stored: TypeAlias = Decided | Grounds | OutcomeRecord
_decode = msgspec.json.Decoder(_Stored).decode
_decode_type = msgspec.json.Decoder(_Entry).decode
_encode = msgspec.json.Encoder().encode
_Rest = msgspec.defstruct(
    "_Rest",
    [
        (field.name, field.type, field.default)
        for field in structs.fields(Decided)
        if field.name not in _OWN_COLUMNS
    ],
    omit_defaults=True,
)
_decode_rest = msgspec.json.Decoder(_Rest).decode


class ToColumns:
    """A converter of one segment's entries to columns.

    A decision can refer to grounds in another segment. `elsewhere` receives the sequence number of those grounds and
    returns their body, or None if it cannot be read.
    """

    def __init__(self, log: str, elsewhere: Callable[[int], bytes | None]) -> None:
        self._log = log
        self._elsewhere = elsewhere
        self._grounds: dict[int, Grounds] = {}
        self._shared: dict[int, dict[str, str]] = {}

    def batch(self, first: int, bodies: Sequence[bytes]) -> pa.Table:
        """Convert consecutive entries to columns. `first` is the sequence number of the first entry."""
        rows = [self._row(seq, body) for seq, body in enumerate(bodies, first)]
        return pa.Table.from_pylist(rows, SCHEMA)

    def _row(self, seq: int, body: bytes) -> dict[str, object]:
        try:
            record = _decode(body)
        except UNREADABLE:
            entry = _decode_type(body)
            return {"seq": seq, "at": entry.at, "type": entry.type, "body": body}
        if isinstance(record, Grounds):
            self._grounds[seq] = record
            return {"seq": seq, "type": "grounds", "body": body}
        row = {"seq": seq, "at": record.at, "body": body}
        if isinstance(record, OutcomeRecord):
            return {**row, "type": "outcome", "decision": record.decision, "result": record.result}
        row |= {"type": "decision", "decision": record.id}
        return row | self._decision(seq, record, body) if len(record.number) == NUMBER_BYTES else row

    def _decision(self, seq: int, decision: Decided, body: bytes) -> dict[str, object]:
        rest = _encode(_Rest(*[getattr(decision, name) for name in _Rest.__struct_fields__]))
        row = {name: getattr(decision, name) for name in _SAME} | self._searchable(
            decision, alone=rest != b"{}"
        )
        nonce, box, question = decision.sealed[:NONCE_BYTES], decision.sealed[NONCE_BYTES:], decision.question
        if (
            len(nonce) != NONCE_BYTES
            or len(question) not in {0, NUMBER_BYTES}
            or (decision.seq, decision.id) != (seq, f"{self._log}-{seq}")
            or _encode(decision) != body
        ):
            return row
        exact = {
            "nonce": nonce,
            "sealed": box,
            "question": question or None,
            "rest": None if rest == b"{}" else rest,
        }
        return {**row, **exact, "body": None}

    def _searchable(self, decided: Decided, *, alone: bool) -> dict[str, str]:
        """Return the columns of a decision that come from its grounds, or none if the grounds cannot be read.

        Decisions with equal grounds have them in common, unless a field in `rest` makes one differ.
        """
        columns = None if alone else self._shared.get(decided.grounds)
        if columns is None:
            grounds = self._grounds.get(decided.grounds) or self._read_elsewhere(decided.grounds)
            if grounds is None:
                return {}
            facts, decision = whole_grounds(decided, grounds)
            is_sealed = bool(decided.caller_sealed)
            columns = searchable(facts, decision, grounds.country, grounds.law, is_sealed=is_sealed)
            if not alone:
                self._shared[decided.grounds] = columns
        return columns

    def _read_elsewhere(self, seq: int) -> Grounds | None:
        body = self._elsewhere(seq)
        try:
            entry = _decode(body) if body else None
        except UNREADABLE:  # written by a later version
            return None
        if not isinstance(entry, Grounds):
            return None
        self._grounds[seq] = entry
        return entry


def bodies_of(table: pa.Table, log: str, first: int) -> list[bytes]:
    """Return the entry bodies of `table`, exactly as they were stored.

    `first` is the sequence number of the first row.
    """
    bodies, *columns = (
        _values(table.column(name)) if name in table.column_names else repeat(None)
        for name in COLUMNS_OF_BODY
    )
    rows = zip(bodies, zip(*columns, strict=False), strict=False)  # `repeat` has no end
    return [_rebuilt(log, seq, *row) if body is None else body for seq, (body, row) in enumerate(rows, first)]


def encoded(column: pa.ChunkedArray) -> Column:
    """Return a column with the code -1 for null."""
    if pa.types.is_boolean(column.type):
        return Column([False, True], column.cast(pa.int8()).fill_null(-1).to_numpy())
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    array = column.unify_dictionaries().combine_chunks()
    return Column(array.dictionary.to_pylist(), array.indices.fill_null(-1).to_numpy())


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Return a column as a list, with times in ms. This is faster than `to_pylist`."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_timestamp(column.type) or pa.types.is_integer(column.type):
        return list(column.cast(pa.int64()).fill_null(0).to_numpy().tolist())
    return list(column.to_numpy(zero_copy_only=False).tolist())


def _rebuilt(  # noqa: PLR0913, PLR0917 - the columns of a decision
    log: str, seq: int, at: int, number: bytes, nonce: bytes, sealed: bytes, grounds: int, allow: bool,  # noqa: FBT001 - as it is stored
    client: str, interface: str, call_id: str, question: bytes | None, rest: bytes | None, shadow: bool | None, agent: bytes | None,  # noqa: FBT001
) -> bytes:  # fmt: skip
    others = structs.asdict(_decode_rest(rest)) if rest else {}
    return _encode(
        Decided(
            seq=seq, id=f"{log}-{seq}", at=at, number=number, sealed=nonce + sealed, grounds=grounds, allow=allow,
            client=client, interface=interface, call_id=call_id, question=question or b"", shadow=bool(shadow), agent=agent or b"", **others,
        )
    )  # fmt: skip
