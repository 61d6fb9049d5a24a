"""The path of a file into the ledger: rows become drafts, sorted by number, which are written in parts.

A kind of file says what a row means, and which entries of a number are new (`bulk_import`, `bulk_revocation`). The whole file is
read before anything is written. Each part takes effect once it is on disk, and parts are small, so that gates decide and write
in between. After an interruption, import the same file again: what is already in the ledger is not written again.
"""

import asyncio
import heapq
from array import array
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from itertools import accumulate, islice, repeat
from mmap import ACCESS_READ, mmap
from tempfile import TemporaryFile
from typing import IO, Final, Protocol, TypeAlias

import numpy as np
from msgspec import Struct, structs

from dialgate.core.model import Instant
from dialgate.core.refusal import Refused
from dialgate.crypto.keys import Keys
from dialgate.crypto.masking import Masker, may_contain
from dialgate.ledger.access import LedgerAccess
from dialgate.lists import lost_zeros, tabular
from dialgate.lists.call_list import RowProblem
from dialgate.lists.number_column import valid_numbers
from dialgate.lists.tabular import Hints, Layout, Table
from dialgate.store import Ledger
from dialgate.store.encoded_entries import EncodedEntry

AT_ONCE: Final = (
    2_048  # entries in one write: it holds the event loop for at most 19 ms of processor time (measured)
)
AHEAD: Final = 64  # parts in flight: about as many as a shared store receives in the second between two syncs
_READ_AT_ONCE: Final = 4_096  # rows
_SUBJECT_BYTES: Final = 16
Columns: TypeAlias = Sequence[tuple[int, str]]
NoteRow: TypeAlias = Callable[[RowProblem], None]


class FileOrder(Struct, frozen=True, kw_only=True):
    """Values that apply to every row of a file.

    `owner` is a controller, or `*` for all controllers. `home` are the countries for numbers without a country code. `now` is the
    time at which the file arrived. Unless `skip_bad` is set, an invalid row rejects the file.
    """

    owner: str
    home: str
    channel: str
    proof: str
    actor: str
    now: Instant
    skip_bad: bool
    hints: Hints


class Cells(Struct, frozen=True):
    """The cells of some rows, by column. `is_valid` is true for each row whose number is valid and written in E.164."""

    columns: Sequence[list[str]]
    is_valid: list[bool]

    def __len__(self) -> int:
        return len(self.is_valid)

    def column(self, at: int) -> list[str]:
        """Return a column. It is empty if the rows have no such column, or `at` is -1."""
        return self.columns[at] if 0 <= at < len(self.columns) else [""] * len(self)

    def row(self, at: int) -> list[str]:
        return [column[at] for column in self.columns]

    def between(self, start: int, stop: int) -> "Cells":
        return Cells([column[start:stop] for column in self.columns], self.is_valid[start:stop])


class RowEvents(Struct, frozen=True):
    """The events of some rows as JSON, each about the number (E.164) at the same position. An empty proof means that of the file.

    `words` are counted for the report.
    """

    numbers: Sequence[str]
    events: Sequence[str]
    proofs: Sequence[str]
    words: Counter[str]


class FileKind(Protocol):
    """A kind of file. If `is_lenient`, the file may be damaged (`tabular.read`)."""

    @property
    def is_lenient(self) -> bool: ...

    def columns(self, table: Table) -> Columns:
        """Return the positions and names of the columns to read, first the number's. Raises `Unreadable`."""

    def read(self, cells: Cells, columns: Columns, order: FileOrder, masker: Masker) -> RowEvents:
        """Return the events of some rows. Raises `ValueError` if one of them is invalid. The message quotes no cell."""

    async def new(self, store: Ledger, part: list[EncodedEntry], counts: Counter[str]) -> list[EncodedEntry]:
        """Return the drafts that the ledger does not have yet, and count what the report must name in `counts`.

        `part` has all drafts about its numbers, and each number's in the order of the file.
        """


# ---- reading ---------------------------------------------------------------------------------------------------------


class ImportedFile:
    """The result of an import, and before that the drafts from the valid rows, in a temporary file. Its length is their number.

    `written` counts the new drafts, `problems` the invalid rows, and `first` is the first of them. `counts` has the words of the
    kind, and `reasons` the rows that were left out, by their problem. Rows that were skipped because their number may have lost a
    zero or a plus are `doubtful`, and not in `problems`.
    """

    def __init__(self, layout: Layout, keys: Keys, order: FileOrder, spool: IO[bytes]) -> None:
        self.layout = layout
        self.rows = self.problems = self.written = 0
        self.first: RowProblem | None = None
        self.counts = Counter[str]()
        self.reasons: dict[str, int] = {}
        self._order, self._hash, self._masker = order, keys.keyed(order.owner), Masker(keys, order.owner)
        # Of each draft the subject, the number (negative: a short code, without a plus), and the end of its event and proof.
        self._spool, self._subjects = spool, bytearray()
        self._numbers, self._ends = array("q"), array("Q")
        # Set by `sort`: the drafts in the order of their subjects, and where each subject begins in it.
        self._sorted = self._firsts = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, read: RowEvents) -> None:
        numbers = read.numbers
        proofs = [proof or self._order.proof for proof in read.proofs]
        for at in may_contain(proofs, numbers):
            proofs[at] = self._masker.text(proofs[at], numbers[at])
        drafts = [  # JSON contains no zero byte
            f"{event}\0{proof}".encode() for event, proof in zip(read.events, proofs, strict=True)
        ]
        self._spool.write(b"".join(drafts))
        self._subjects += self._hash.digests(map(str.encode, numbers))
        self._numbers.extend([int(number) if number[0] == "+" else -int(number) for number in numbers])
        end = self._ends[-1] if self._ends else 0
        self._ends.extend(islice(accumulate(map(len, drafts), initial=end), 1, None))
        self.counts.update(read.words)

    def sort(self) -> None:
        """Prepare `parts`. Takes a second for ten million drafts, so call it in a thread, after the last `add`."""
        self._spool.flush()
        first_half = np.frombuffer(self._subjects, ">u8")[:: _SUBJECT_BYTES // 8].astype(np.uint64)
        self._sorted = np.argsort(first_half, kind="stable")
        ordered = first_half[self._sorted]
        self._firsts = np.flatnonzero(np.append(np.True_, ordered[1:] != ordered[:-1]))

    def parts(self) -> Iterator[tuple[list[EncodedEntry], dict[bytes, int]]]:
        """Yield the drafts in parts, each with all drafts about its numbers, and these numbers. The drafts about a number are in order.

        The store's index has the same order, so the store writes each index page only once. Writing ten million subjects in
        file order takes three times as long.
        """
        places, firsts, begin, order = self._sorted, self._firsts, 0, self._order
        subjects = np.frombuffer(self._subjects, f"V{_SUBJECT_BYTES}")
        numbers, ends = np.frombuffer(self._numbers, np.int64), np.frombuffer(self._ends, np.uint64)
        starts = np.concatenate(([np.uint64(0)], ends[:-1]))
        with closing(mmap(self._spool.fileno(), 0, access=ACCESS_READ)) as spooled:
            while begin < len(places):
                next_first = int(np.searchsorted(firsts, begin + AT_ONCE))
                end = int(firsts[next_first]) if next_first < len(firsts) else len(places)
                at = places[begin:end]
                drafted = subjects[at].tolist()
                spans = zip(starts[at].tolist(), ends[at].tolist(), strict=True)
                texts = [spooled[start:stop].decode().partition("\0") for start, stop in spans]
                part = [
                    EncodedEntry(0, subject, order.now, order.channel, proof, event, order.owner, order.actor)
                    for subject, (event, _, proof) in zip(drafted, texts, strict=True)
                ]
                yield part, dict(zip(drafted, numbers[at].tolist(), strict=True))
                begin = end


class _RowReader:
    """Reads the rows of a file in parts. A part with an invalid row is read in halves, down to that row."""

    def __init__(self, keys: Keys, kind: FileKind, order: FileOrder, drafts: ImportedFile) -> None:
        self._kind, self._order, self._drafts = kind, order, drafts
        self._masker = Masker(keys, order.owner)
        # The rows by their problem, and whether they are doubtful.
        self._faults: dict[tuple[str, bool], array[int]] = {}

    def read(self, table: Table, columns: Columns, lost: Collection[int]) -> set[int]:
        """Read all rows, of which `lost` have lost a zero. Return the rows that have, as the whole column shows."""
        number, first, zeros = columns[0][0], 0, lost_zeros.LostZeros(self._order.home)
        for part in table.parts():
            numbers = part.numbers(number)
            cells = Cells(part.columns(), valid_numbers(numbers))
            column = cells.column(number)
            for row in np.flatnonzero(numbers == 0).tolist():
                if zeros.add(first + row, column[row]) or first + row in lost:
                    column[row] = lost_zeros.DoubtfulCell(column[row].strip())
            for start in range(0, len(part), _READ_AT_ONCE):
                self._read(first + start, cells.between(start, start + _READ_AT_ONCE), columns)
            first += len(part)
        self._drafts.rows = first
        return set(zeros.rows().tolist())

    def _read(self, first: int, cells: Cells, columns: Columns) -> None:
        try:
            read = self._kind.read(cells, columns, self._order, self._masker)
        except ValueError as error:
            if len(cells) > 1:
                half = len(cells) // 2
                self._read(first, cells.between(0, half), columns)
                self._read(first + half, cells.between(half, len(cells)), columns)
                return
            fault = str(error), isinstance(error, lost_zeros.LostDigits)
            self._faults.setdefault(fault, array("Q")).append(first)
        else:
            self._drafts.add(read)

    def report(self, table: Table, note: NoteRow) -> None:
        """Count the rows that were left out, and call `note` with each. `table` is read again for their line numbers."""
        drafts, lines = self._drafts, enumerate(table.rows)
        found = (zip(rows, repeat(fault)) for fault, rows in self._faults.items())
        counts = Counter({text: len(rows) for (text, _), rows in self._faults.items()})
        drafts.reasons = dict(counts.most_common())
        for row, (text, is_doubtful) in heapq.merge(*found):
            problem = RowProblem(next(line for at, (line, _) in lines if at == row), text)
            note(problem)
            if is_doubtful:
                drafts.counts["doubtful"] += 1
            else:
                drafts.problems += 1
                drafts.first = drafts.first or problem


def _read_file(
    keys: Keys, file: IO[bytes], kind: FileKind, order: FileOrder, spool: IO[bytes], note: NoteRow
) -> ImportedFile:
    def read() -> Table:
        return tabular.read(file, order.home, order.hints, lenient=kind.is_lenient)

    table, lost = read(), set[int]()
    columns = kind.columns(table)
    while True:
        drafts = ImportedFile(table.layout, keys, order, spool)
        reader = _RowReader(keys, kind, order, drafts)
        if (found := reader.read(table, columns, lost)) == lost:
            break
        lost = found
        spool.seek(0)
        spool.truncate()
    reader.report(read(), note)
    if len(drafts):
        drafts.sort()
    return drafts


def _unfit(drafts: ImportedFile) -> Refused:
    """Return the error for a file that has invalid rows, or no valid row."""
    which = f" Line {drafts.first.line:,}: {drafts.first.problem}." if drafts.first else ""
    if len(drafts):
        text = f"{drafts.problems:,} of {drafts.rows:,} rows are invalid, and nothing was written.{which} Correct them, or skip them."
    elif not drafts.problems and drafts.counts["doubtful"]:
        text = lost_zeros.summary(drafts.counts["doubtful"])
    else:
        text = f"The file has no valid row.{which}"
    return Refused("list.unreadable", text, "file")


# ---- writing ---------------------------------------------------------------------------------------------------------


def _number(number: int) -> str:
    return f"+{number}" if number > 0 else f"{-number}"


async def _write(access: LedgerAccess, kind: FileKind, drafts: ImportedFile) -> int:
    """Write the new drafts and return their number. Raises `StoreUnavailable`.

    A part is prepared while earlier parts are still being written. After an error, the parts that were already written remain.
    """
    written = 0
    writing: deque[asyncio.Future[Sequence[int]]] = deque()
    try:
        for part, numbers in drafts.parts():
            new = [
                structs.replace(draft, sealed=access.seal(_number(numbers[draft.subject])))
                for draft in await kind.new(access.store, part, drafts.counts)
            ]
            if len(writing) >= AHEAD:
                written += len(await writing[0])
                writing.popleft()
            writing.append(asyncio.ensure_future(access.append_all(new)))
            await asyncio.sleep(0)  # start the task now
        while writing:
            written += len(await writing[0])
            writing.popleft()
        # Entries that were already in the ledger may come from another writer: wait until they are durable too.
        await access.append_all([])
    finally:
        if writing:
            await asyncio.wait(writing)
    return written


async def import_file(
    access: LedgerAccess, file: IO[bytes], kind: FileKind, order: FileOrder, note: NoteRow
) -> ImportedFile:
    """Write the entries of a file to the ledger. Raises `Refused` and `StoreUnavailable`.

    Call `note` with each row that is skipped. Between reading and writing, the drafts lie in an unnamed temporary file.
    """
    with TemporaryFile(dir=access.config.data) as spool:
        drafts = await asyncio.to_thread(_read_file, access.keys, file, kind, order, spool, note)
        if not len(drafts) or (drafts.problems and not order.skip_bad):
            raise _unfit(drafts)
        drafts.written = await _write(access, kind, drafts)
        return drafts
