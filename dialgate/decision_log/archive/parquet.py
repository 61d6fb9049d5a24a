"""Packed segments as Parquet files, written in one pass and readable from any row."""

from binascii import hexlify
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dialgate.decision_log.archive.checksums import PackedDamaged
from dialgate.decision_log.archive.columns import (
    ABSENT,
    COLUMNS_OF_BODY,
    FEW_VALUES,
    SCHEMA,
    WRITER_OPTIONS,
    ToColumns,
    bodies_of,
    encoded,
)
from dialgate.decision_log.archive.index import Items, prefixes
from dialgate.decision_log.archive.index_items import items_of, key_of
from dialgate.decision_log.entry_columns import Column, EntryColumns, ReportedResults
from dialgate.decision_log.segment import BODY, UNREADABLE, Header, LogDamaged, LogLine, follow, header_of
from dialgate.runtime.atomic_write import open_private

FORMAT = b"2"
_READABLE = {b"1", FORMAT}  # 1: without the column `rest`, written by 0.2.0
_HASH_EVERY = 1_024
_GROUP_ROWS = 8 * _HASH_EVERY
_HASH_BYTES = 32
_CACHED = 2  # row groups and blocks to cache: one for a decision and one for its grounds

# What pyarrow and the conversion raise for a file whose bytes changed, in its footer too, which has no checksum.
_DAMAGED = (pa.ArrowException, OSError, KeyError, TypeError, UnicodeDecodeError)

_Block: TypeAlias = tuple[list[bytes], list[bytes]]  # hashes and bodies of entries


# ---- writing -----------------------------------------------------------------------------------------------------------


class _ChainState:
    """The hash chain of a segment that is being packed: the hashes to store, and the newest hash."""

    def __init__(self, segment: Path) -> None:
        self.hashes: list[bytes] = []
        self.rows = 0
        self._segment, self._head, self._offset = segment, b"", 0

    def header(self, line: bytes) -> Header:
        header = header_of(line)
        own = follow(bytes.fromhex(header.previous), line) if header else None
        if header is None or own is None:
            raise LogDamaged(self._segment, 0, "its header was modified")
        self.hashes.append(own)
        self._head, self._offset = own, len(line)
        return header

    def body(self, line: bytes) -> bytes:
        """Return the body of a line. Raises `LogDamaged` if the line does not follow the previous one."""
        own = follow(self._head, line)
        if own is None:
            raise LogDamaged(self._segment, self._offset, "this line or the previous line was modified")
        self._head, self.rows, self._offset = own, self.rows + 1, self._offset + len(line)
        if self.rows % _HASH_EVERY == 0:
            self.hashes.append(own)
        return line[BODY]

    def stored_hashes(self) -> bytes:
        is_group_end = self.rows % _HASH_EVERY == 0
        return hexlify(b"".join(self.hashes if is_group_end else [*self.hashes, self._head]))


def write(
    path: Path, segment: Path, lines: Iterable[bytes], elsewhere: Callable[[int], bytes | None]
) -> None:
    """Pack the lines of a segment, header first, into the file `path`, and sync it.

    Raises `LogDamaged` at a line that does not follow the previous one.
    """
    iterator = iter(lines)
    state = _ChainState(segment)
    first_line = next(iterator)
    header = state.header(first_line)
    columns = ToColumns(header.log, elsewhere)
    with open_private(path) as file, pq.ParquetWriter(file, SCHEMA, **WRITER_OPTIONS) as writer:
        row = 0
        for bodies in _groups(state.body(line) for line in iterator):
            table = columns.batch(header.first + row, bodies)
            writer.write_table(table, row_group_size=_GROUP_ROWS)
            row += len(bodies)
        metadata = {"format": FORMAT, "header": first_line[BODY], "hashes": state.stored_hashes()}
        writer.add_key_value_metadata({f"dialgate.{name}": value for name, value in metadata.items()})


def _groups(bodies: Iterable[bytes]) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    for body in bodies:
        group.append(body)
        if len(group) == _GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group


# ---- reading --------------------------------------------------------------------------------------------------------------


class PackedSegment:
    """A reader of a packed segment.

    Raises `PackedDamaged` if the file was modified, `FileNotFoundError` if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._groups: dict[int, pa.Table] = {}
        self._cached_blocks: dict[int, _Block] = {}
        try:
            footer = pq.read_metadata(path)
            self._names = frozenset(footer.schema.names)
            self._file = pq.ParquetFile(
                path,
                metadata=footer,
                read_dictionary=sorted(self._names & FEW_VALUES),
                page_checksum_verification=True,
            )
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        metadata = self._file.metadata.metadata or {}
        self.rows: int = self._file.metadata.num_rows
        if metadata.get(b"dialgate.format") not in _READABLE:
            raise PackedDamaged(path, 0, f"not a packed segment of format 1 to {FORMAT.decode()}")
        try:
            self._header = metadata[b"dialgate.header"]
            hashes = bytes.fromhex(metadata[b"dialgate.hashes"].decode())
            self.header = header = msgspec.json.decode(self._header, type=Header)
        except (*UNREADABLE, KeyError, ValueError) as error:
            raise self._damaged(error) from error
        self._hashes = [hashes[at : at + _HASH_BYTES] for at in range(0, len(hashes), _HASH_BYTES)]
        self.first, self._log = header.first, header.log

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield the offset and bytes of each line of the original segment, including its header."""
        line = _line(self._hashes[0], self._header)
        offset = 0
        yield offset, line
        for hashes, bodies in self._blocks(0):
            for own, body in zip(hashes, bodies, strict=True):
                offset += len(line)
                line = _line(own, body)
                yield offset, line

    def entries(self, first: int) -> Iterator[LogLine]:
        """Yield the entries from sequence number `first` on. `LogLine.offset` is the row number."""
        row = max(first - self.first, 0)
        at = row - row % _HASH_EVERY
        for hashes, bodies in self._blocks(at):
            for own, body in zip(hashes, bodies, strict=True):
                if at >= row:
                    yield LogLine(self.first + at, own.hex(), body, self._path, at)
                at += 1

    def at(self, seq: int) -> Iterator[LogLine]:
        if self.first <= seq < self.first + self.rows:
            yield next(self.entries(seq))

    def keyed(self, keys: Collection[bytes]) -> Iterator[LogLine]:
        """Yield the entries that may match `keys`, newest first, without using an index."""
        items = self.index_items()
        yield from self.at_rows(
            sorted(items[1][np.isin(items[0], prefixes(keys))].tolist(), reverse=True), keys
        )

    def at_rows(self, rows: Iterable[int], keys: Collection[bytes]) -> Iterator[LogLine]:
        """Yield the entries in `rows`. Raises `PackedDamaged` if one does not begin with the prefix of any of `keys`."""
        wanted = prefixes(keys)
        for row in rows:
            line = next(self.at(self.first + row), None)
            key = key_of(line.body) if line else None
            if line is None or key is None or prefixes([key])[0] not in wanted:
                raise PackedDamaged(self._path, 0, f"row {row} is not the entry that was indexed")
            yield line

    def index_items(self) -> Items:
        """Return the index items of this segment. Offsets are row numbers."""
        return items_of(self.groups(["number", "body"]))

    def groups(self, names: list[str]) -> Iterator[pa.Table]:
        """Yield the named columns, one row group at a time."""
        for group in range(self._file.num_row_groups):
            yield self._read(group, names)

    def outcomes(self) -> Iterator[LogLine]:
        """Yield the outcomes. Their hash is empty, because computing it would need all entries."""
        table = self._columns(["type", "body"])
        for body in table.filter(pc.equal(table.column("type"), "outcome")).column("body"):
            yield LogLine(0, "", body.as_py(), self._path, 0)

    def columns(
        self, names: Collection[str], first: int, having: Mapping[str, Any] = {}
    ) -> EntryColumns | None:
        """Return the entries from `first` on, or None if the file lacks one of the columns `names` for a decision.

        Row groups whose statistics exclude a decision with the values `having` are left out.
        """
        absent = ABSENT.keys() - self._names
        stored = [name for name in ("type", *names) if name not in absent]
        if not self._names.issuperset(stored):
            return None
        groups = [group for group in range(self._file.num_row_groups) if self._may_hold(group, having)]
        table = self._columns(["at", *stored], groups)
        columns = {name: encoded(table.column(name)) for name in stored}
        columns |= {name: Column([ABSENT[name]], np.zeros(table.num_rows, np.int8)) for name in absent}
        is_decision = columns["type"].where("decision".__eq__)
        is_known = columns["type"].where({"decision", "outcome", "grounds"}.__contains__)
        if not is_known.all() or any((columns[name].codes[is_decision] < 0).any() for name in names):
            return None

        def read(name: str, rows: NDArray[np.int64]) -> Column:
            if name in columns:
                return Column(columns[name].values, columns[name].codes[_places(groups, rows)])
            few = np.unique(rows // _GROUP_ROWS).tolist()
            return encoded(self._columns([name], few).column(name).take(pa.array(_places(few, rows))))

        all_rows = np.concatenate([np.zeros(0, np.int64), *map(_rows_of, groups)])[: table.num_rows]
        is_shown = is_decision | columns["type"].where("outcome".__eq__)
        is_shown &= all_rows >= first - self.first
        rows, times = all_rows[is_shown], table.column("at").cast(pa.int64()).fill_null(0).to_numpy()
        return EntryColumns(self._log, rows + self.first, times[is_shown], is_decision[is_shown], rows, read)

    def _may_hold(self, group: int, having: Mapping[str, Any]) -> bool:
        """Return whether a row group can have a decision with these values, by its statistics."""
        for name, value in having.items():
            place = self._file.schema_arrow.get_field_index(name)
            limits = self._file.metadata.row_group(group).column(place).statistics if place >= 0 else None
            if limits is not None and (
                not limits.num_values or (limits.has_min_max and not limits.min <= value <= limits.max)
            ):
                return False
        return True

    def results(self, log: str) -> ReportedResults | None:
        """Return the results reported for decisions in `log`, or None if the file lacks the columns for an outcome."""
        if "result" not in self._names:
            return None
        table = self._columns(["type", "decision", "result"])
        table = table.filter(pc.equal(table.column("type"), "outcome"))
        if table.column("result").null_count:
            return None
        prefix = f"{log}-"
        table = table.filter(pc.starts_with(table.column("decision"), prefix))
        decisions = pc.utf8_slice_codeunits(table.column("decision"), len(prefix)).cast(pa.int64())
        return ReportedResults(decisions.to_numpy(), encoded(table.column("result")))

    def _blocks(self, begin: int) -> Iterator[_Block]:
        """Yield the blocks from row `begin` on. `begin` must be a multiple of `_HASH_EVERY`."""
        return map(self._block, range(begin, self.rows, _HASH_EVERY))

    def _block(self, start: int) -> _Block:
        """Return the hashes and bodies of the block that starts at row `start`.

        The last hash is read from the file, not computed, so the hash chain of a modified block does not verify.
        """
        if start not in self._cached_blocks:
            if len(self._cached_blocks) >= _CACHED:
                del self._cached_blocks[next(iter(self._cached_blocks))]
            head, last = self._hashes[start // _HASH_EVERY : start // _HASH_EVERY + 2]
            group, skip = divmod(start, _GROUP_ROWS)
            rows = self._group(group).slice(skip, _HASH_EVERY)
            try:
                bodies = bodies_of(rows, self._log, self.first + start)
            except _DAMAGED as error:
                raise self._damaged(error) from error
            hashes = [head := sha256(head + body).digest() for body in bodies[:-1]]
            self._cached_blocks[start] = [*hashes, last], bodies
        return self._cached_blocks[start]

    def _group(self, group: int) -> pa.Table:
        if group not in self._groups:
            if len(self._groups) >= _CACHED:
                del self._groups[next(iter(self._groups))]
            self._groups[group] = self._read(group, [name for name in COLUMNS_OF_BODY if name in self._names])
        return self._groups[group]

    def _read(self, group: int, names: list[str]) -> pa.Table:
        try:
            return self._file.read_row_group(group, names, use_threads=False)
        except _DAMAGED as error:
            raise self._damaged(error) from error

    def _columns(self, names: list[str], groups: list[int] | None = None) -> pa.Table:
        groups = [*range(self._file.num_row_groups)] if groups is None else groups
        try:
            return self._file.read_row_groups(groups, names, use_threads=False)
        except _DAMAGED as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> PackedDamaged:
        return PackedDamaged(
            self._path, 0, f"the packed segment was modified: {' '.join(str(error).split())}"
        )


def _rows_of(group: int) -> NDArray[np.int64]:
    return np.arange(group * _GROUP_ROWS, (group + 1) * _GROUP_ROWS)


def _places(groups: list[int], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places of these rows of the segment in a table that has only the row groups `groups`."""
    return np.searchsorted(groups, rows // _GROUP_ROWS) * _GROUP_ROWS + rows % _GROUP_ROWS


def _line(own: bytes, body: bytes) -> bytes:
    return b'{"hash":"%b","entry":%b}\n' % (hexlify(own), body)
