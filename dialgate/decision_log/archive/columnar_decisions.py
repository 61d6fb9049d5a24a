"""A reader that returns decisions as columns, to compare millions of them with other data.

It does not check hashes; `verify` does. A packed log is read about twenty times faster than an unpacked one.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from numpy.typing import NDArray

from dialgate.core.model import Instant
from dialgate.decision_log.archive.parquet import PackedSegment
from dialgate.decision_log.archive.reading import PACKED, Segments, segments
from dialgate.decision_log.segment import BODY, UNREADABLE, LogDamaged, segments_from

Longs: TypeAlias = NDArray[np.int64]
Prefixes: TypeAlias = NDArray[np.uint64]

PREFIX_BYTES = 8


class Part(Struct, frozen=True):
    """The decisions of one segment, in order, and the grounds stored in the same segment.

    `number` holds the first eight bytes of each keyed hash, big-endian. The probability that any two of a
    million numbers share these bytes is below 10^-7. `bodies` maps the sequence numbers of the grounds to the
    bodies of the grounds.
    """

    seq: Longs
    at: Longs
    number: Prefixes
    allow: NDArray[np.bool_]
    grounds: Longs
    bodies: dict[int, bytes]


class _Decided(Struct, tag="decision", tag_field="type"):
    seq: int
    at: Instant
    number: bytes
    grounds: int
    allow: bool
    call_id: str = ""


class _Grounds(Struct, tag="grounds", tag_field="type"):
    seq: int


class _Outcome(Struct, tag="outcome", tag_field="type"):
    pass


_decode = msgspec.json.Decoder(_Decided | _Grounds | _Outcome).decode


def parts(folder: Path, first: int = 1) -> Iterator[Part]:
    """Yield one part per segment, starting with the segment that holds entry `first`. Raises `LogDamaged`."""
    for _, path in segments_from(segments(folder), first):
        yield _from_packed(path) if path.suffix == PACKED else _from_plain(path)


def _from_plain(path: Path) -> Part:
    decisions: list[_Decided] = []
    bodies: dict[int, bytes] = {}
    try:
        _read(path, decisions, bodies)
    except FileNotFoundError:  # packed since the folder was listed
        return _from_packed(path.with_suffix(PACKED))
    return _part_of(decisions, bodies)


def _read(path: Path, decisions: list[_Decided], bodies: dict[int, bytes]) -> None:
    with path.open("rb") as file:
        offset = len(file.readline())
        for line in file:
            if line.endswith(b"\n"):
                _take(line[BODY], decisions, bodies, path, offset)
            offset += len(line)


def _take(body: bytes, decisions: list[_Decided], bodies: dict[int, bytes], path: Path, offset: int) -> None:
    try:
        entry = _decode(body)
    except UNREADABLE as error:
        raise LogDamaged(path, offset, f"this version cannot read the entry: {error}") from error
    if isinstance(entry, _Decided):
        decisions.append(entry)
    elif isinstance(entry, _Grounds):
        bodies[entry.seq] = body


def _part_of(decisions: list[_Decided], bodies: dict[int, bytes]) -> Part:
    raw = b"".join(decision.number[:PREFIX_BYTES].ljust(PREFIX_BYTES, b"\0") for decision in decisions)
    return Part(
        np.array([decision.seq for decision in decisions], np.int64),
        np.array([decision.at for decision in decisions], np.int64),
        np.frombuffer(raw, ">u8").astype(np.uint64),
        np.array([decision.allow for decision in decisions], np.bool_),
        np.array([decision.grounds for decision in decisions], np.int64),
        bodies,
    )


def _from_packed(path: Path) -> Part:
    segment = PackedSegment(path)
    table = segment.columns(["seq", "at", "type", "number", "allow", "grounds", "body"])
    grounds = table.filter(pc.equal(table.column("type"), "grounds"))
    bodies = dict(zip(grounds.column("seq").to_pylist(), grounds.column("body").to_pylist(), strict=True))
    table = table.filter(pc.equal(table.column("type"), "decision"))
    if table.column("number").null_count:  # written by another version: decode the bodies instead
        return _decoded(path, segment, table, bodies)
    return Part(
        _longs(table.column("seq")),
        _longs(table.column("at").cast(pa.int64())),
        prefixes(table.column("number")),
        table.column("allow").to_numpy(zero_copy_only=False),
        _longs(table.column("grounds")),
        bodies,
    )


def _decoded(path: Path, segment: PackedSegment, table: pa.Table, bodies: dict[int, bytes]) -> Part:
    decisions: list[_Decided] = []
    for line in segment.entries(int(table.column("seq")[0].as_py())):
        _take(line.body, decisions, bodies, path, line.offset)
    return _part_of(decisions, bodies)


def _longs(column: Any) -> Longs:
    values: Longs = column.to_numpy(zero_copy_only=False)
    return values.astype(np.int64)


def prefixes(column: Any) -> Prefixes:
    """Return the first eight bytes of each keyed hash. The column must not contain nulls."""
    chunks = [
        np.frombuffer(chunk.buffers()[1], ">u8").reshape(-1, 2)[chunk.offset : chunk.offset + len(chunk), 0]
        for chunk in column.chunks
        if len(chunk)
    ]
    return np.concatenate([np.empty(0, ">u8"), *chunks]).astype(np.uint64)


def newest_by_call_id(folder: Path, first: int, call_ids: Collection[str]) -> dict[str, int]:
    """Return the sequence number of the newest decision for each call id. Call ids without a decision are omitted.

    The search begins with the segment that holds entry `first`. Raises `LogDamaged`.
    """
    seqs: dict[str, int] = {}
    names = frozenset(call_ids)
    for _, path in segments_from(segments(folder), first):
        if path.suffix == PACKED:
            table = PackedSegment(path).columns(["seq", "call_id"])
            table = table.filter(pc.is_in(table.column("call_id"), pa.array(names, pa.string())))
            seqs |= zip(table.column("call_id").to_pylist(), table.column("seq").to_pylist(), strict=True)
        else:
            decisions: list[_Decided] = []
            _read(path, decisions, {})
            seqs |= {decision.call_id: decision.seq for decision in decisions if decision.call_id in names}
    return seqs


def body_of(folder: Path, seq: int) -> bytes:
    """Return the body of entry `seq`. Raises `LogDamaged`."""
    line = Segments(folder).find(seq)
    if line is None:
        raise LogDamaged(folder, 0, f"entry {seq}, which a decision refers to, is missing")
    return line.body
