"""The lossless conversion of entries to columns and back.

A decision is rebuilt from its columns byte for byte. Fields without a column of their own are stored together in `rest`, so a
new field of `Decided` needs no change here. An entry that cannot be rebuilt exactly is stored unchanged in `body`.
"""

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, NamedTuple, TypeAlias

import msgspec
import pyarrow as pa
from msgspec import Struct, structs

from dialgate.core.model import Decided, Decision, Grounds, Instant, OutcomeRecord
from dialgate.core.own_grounds import whole_grounds
from dialgate.decision_log.segment import UNREADABLE

NUMBER_BYTES, NONCE_BYTES = 16, 12

_WORD = pa.string()
SCHEMA = pa.schema(
    [
        ("seq", pa.int64()),
        ("at", pa.timestamp("ms", "UTC")),
        ("type", _WORD),
        ("number", pa.binary(NUMBER_BYTES)),
        ("nonce", pa.binary(NONCE_BYTES)),
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
    ]
)
_FEW_VALUES = ["type", "grounds", "client", "interface", "controller", "campaign", "country", "reason"]
_HASHES = {"number", "sealed", "question"}  # incompressible
WRITER_OPTIONS: dict[str, Any] = {
    "use_dictionary": _FEW_VALUES,
    "column_encoding": {
        "seq": "DELTA_BINARY_PACKED",
        "at": "DELTA_BINARY_PACKED",
        "nonce": "BYTE_STREAM_SPLIT",  # nonces are counters: only their last bytes vary
        "sealed": "DELTA_LENGTH_BYTE_ARRAY",
        "call_id": "DELTA_BYTE_ARRAY",
    },
    "compression": {name: "NONE" if name in _HASHES else "ZSTD" for name in SCHEMA.names},
    "compression_level": {name: 9 for name in SCHEMA.names if name not in _HASHES},
    "write_statistics": ["seq", "at", "allow", "controller", "campaign", "country", "reason"],
    "write_page_checksum": True,
}
COLUMNS_OF_BODY = ["body", "at", "number", "nonce", "sealed", "grounds", "allow", "client", "interface", "call_id", "question", "rest"]  # fmt: skip
_OWN_COLUMNS = {
    "seq",
    "id",
    "at",
    "number",
    "sealed",
    "grounds",
    "allow",
    "client",
    "interface",
    "call_id",
    "question",
}


class Basis(NamedTuple):
    """The searchable fields of a decision's grounds."""

    controller: str
    campaign: str
    country: str
    reason: str


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
        self._bases: dict[int, tuple[Grounds, Basis]] = {}

    def batch(self, first: int, bodies: Sequence[bytes]) -> pa.Table:
        """Convert consecutive entries to columns. `first` is the sequence number of the first entry."""
        rows = [self._row(seq, body) for seq, body in enumerate(bodies, first)]
        arrays = [
            pa.array(values, field.type)
            for values, field in zip(zip(*rows, strict=True), SCHEMA, strict=True)
        ]
        return pa.Table.from_arrays(arrays, schema=SCHEMA)

    def _row(self, seq: int, body: bytes) -> tuple[object, ...]:
        try:
            record = _decode(body)
        except UNREADABLE:
            entry = _decode_type(body)
            return (seq, entry.at, entry.type, *_NOTHING, body, None)
        if isinstance(record, Decided) and len(record.number) == NUMBER_BYTES:
            return self._decision(seq, record, body)
        if isinstance(record, Grounds):
            self._bases[seq] = record, _basis(record, record.decision)
            return (seq, None, "grounds", *_NOTHING, body, None)
        return (
            seq,
            record.at,
            "outcome" if isinstance(record, OutcomeRecord) else "decision",
            *_NOTHING,
            body,
            None,
        )

    def _decision(self, seq: int, decision: Decided, body: bytes) -> tuple[object, ...]:
        nonce, box, question = decision.sealed[:NONCE_BYTES], decision.sealed[NONCE_BYTES:], decision.question
        exact = (
            len(nonce) == NONCE_BYTES
            and len(question) in {0, NUMBER_BYTES}
            and (decision.seq, decision.id) == (seq, f"{self._log}-{seq}")
            and _encode(decision) == body
        )
        rest = _encode(_Rest(*[getattr(decision, name) for name in _Rest.__struct_fields__]))
        return (
            seq, decision.at, "decision", decision.number,
            nonce if exact else None, box if exact else None, question if exact and question else None,
            decision.grounds, decision.allow, decision.client, decision.interface, decision.call_id,
            *self._basis(decision),
            *((None, None if rest == b"{}" else rest) if exact else (body, None)),
        )  # fmt: skip

    def _basis(self, decided: Decided) -> Basis | tuple[None, None, None, None]:
        seq = decided.grounds
        if seq not in self._bases:
            body = self._elsewhere(seq)
            try:
                entry = _decode(body) if body else None
            except UNREADABLE:  # written by a later version
                entry = None
            if not isinstance(entry, Grounds):
                return (None, None, None, None)
            self._bases[seq] = entry, _basis(entry, entry.decision)
        grounds, basis = self._bases[seq]
        if decided.own is None or not decided.own.outcomes:
            return basis
        return _basis(grounds, whole_grounds(decided, grounds)[1])


_NOTHING = (None,) * (len(SCHEMA) - 5)


def _basis(grounds: Grounds, decision: Decision) -> Basis:
    facts, reasons = grounds.facts, decision.reasons
    return Basis(facts.controller.id, facts.campaign.id, grounds.country, reasons[0].code if reasons else "")


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


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Return a column as a list, with times in ms. This is faster than `to_pylist`."""
    if pa.types.is_timestamp(column.type) or pa.types.is_integer(column.type):
        return list(column.cast(pa.int64()).fill_null(0).to_numpy().tolist())
    return list(column.to_numpy(zero_copy_only=False).tolist())


def _rebuilt(  # noqa: PLR0913, PLR0917 - the columns of a decision
    log: str, seq: int, at: int, number: bytes, nonce: bytes, sealed: bytes, grounds: int, allow: bool,  # noqa: FBT001 - as it is stored
    client: str, interface: str, call_id: str, question: bytes | None, rest: bytes | None,
) -> bytes:  # fmt: skip
    others = structs.asdict(_decode_rest(rest)) if rest else {}
    return _encode(
        Decided(
            seq=seq, id=f"{log}-{seq}", at=at, number=number, sealed=nonce + sealed, grounds=grounds, allow=allow,
            client=client, interface=interface, call_id=call_id, question=question or b"", **others,
        )
    )  # fmt: skip
