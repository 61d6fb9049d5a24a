"""The items of a packed segment's index: decisions by number, and outcomes by decision."""

from collections.abc import Iterable

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from numpy.typing import NDArray

from dialgate.decision_log.archive.columns import NUMBER_BYTES
from dialgate.decision_log.archive.index import Items, prefixes, report_key
from dialgate.decision_log.segment import UNREADABLE

_GROUNDS = b'{"type":"grounds"'


class _Decision(Struct, tag="decision", tag_field="type"):
    number: bytes


class _Outcome(Struct, tag="outcome", tag_field="type"):
    decision: str


_decode = msgspec.json.Decoder(_Decision | _Outcome).decode


def items_of(tables: Iterable[pa.Table]) -> Items:
    """Return the items of a segment from its columns `number` and `body`.

    If a row has a `body`, its item is computed from the body and not from the other columns, because the hash chain of
    such a row covers only the body.
    """
    items = [np.empty((2, 0), np.uint32)]
    row = 0
    for table in tables:
        items += [_by_number(table, row), _by_body(table, row)]
        row += table.num_rows
    return np.concatenate(items, axis=1)


def _by_number(table: pa.Table, first: int) -> Items:
    number, body = table.column("number"), table.column("body")
    mask = pc.and_(number.is_valid(), body.is_null())
    raw = b"".join(number.filter(mask).to_numpy(zero_copy_only=False).tolist())
    keys = np.frombuffer(raw, ">u4").reshape(-1, NUMBER_BYTES // 4)[:, 0]
    return _items(keys, mask, first)


def _by_body(table: pa.Table, first: int) -> Items:
    body = table.column("body")
    mask = pc.fill_null(pc.invert(pc.starts_with(body, _GROUNDS)), False)  # noqa: FBT003 - signature of pyarrow
    keys = [key_of(body_) for body_ in body.filter(mask).to_pylist()]
    has_key = np.array([key is not None for key in keys], np.bool_)
    items = _items(prefixes([key or b"" for key in keys]), mask, first)
    return items[:, has_key]


def key_of(body: bytes) -> bytes | None:
    """Return the index key of an entry, or None for entries that are not indexed."""
    try:
        entry = _decode(body)
    except UNREADABLE:
        return None
    return entry.number if isinstance(entry, _Decision) else report_key(entry.decision)


def _items(keys: NDArray[np.integer], mask: pa.ChunkedArray, first: int) -> Items:
    rows = np.flatnonzero(mask.to_numpy()) + first
    return np.stack((keys.astype(np.uint32), rows.astype(np.uint32)))
