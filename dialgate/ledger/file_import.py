"""The path of a file into the ledger: rows become drafts, sorted by number, which are written in parts.

A kind of file says what a row means, and which entries of a number are new (`bulk_import`, `bulk_revocation`). The whole file is
read before anything is written. Each part takes effect once it is on disk, and parts are small, so that gates decide and write
in between. After an interruption, import the same file again: what is already in the ledger is not written again.
"""

import asyncio
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from mmap import ACCESS_READ, mmap
from tempfile import TemporaryFile
from typing import IO, Final, Protocol, TypeAlias

import msgspec
import numpy as np
from msgspec import Struct

from dialgate.core.ledger_events import Draft, Event
from dialgate.core.model import Instant
from dialgate.core.refusal import Refused
from dialgate.crypto.keys import Keys
from dialgate.crypto.masking import TAIL, Masker, digits_of
from dialgate.crypto.nonces import nonces
from dialgate.ledger.access import LedgerAccess
from dialgate.lists import lost_zeros, tabular
from dialgate.lists.call_list import RowProblem
from dialgate.lists.tabular import Hints, Layout, Table
from dialgate.runtime.process_pool import spread
from dialgate.store import Ledger

AT_ONCE: Final = (
    2_048  # entries in one write: it holds the event loop for at most 19 ms of processor time (measured)
)
AHEAD: Final = 64  # parts in flight: about as many as a shared store receives in the second between two syncs
_READ_AT_ONCE: Final = 4_096  # rows
_SUBJECT_BYTES: Final = 16
Columns: TypeAlias = Sequence[tuple[int, str]]
NoteRow: TypeAlias = Callable[[RowProblem], None]
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Draft).decode


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


class NumberEvent(Struct, frozen=True):
    """An event about a number (E.164). An empty `proof` means that of the file."""

    number: str
    event: Event
    proof: str = ""


class FileKind(Protocol):
    """A kind of file. It is pickled for other processes, which read the rows.

    If `is_lenient`, the file may be damaged (`tabular.read`).
    """

    @property
    def is_lenient(self) -> bool: ...

    def columns(self, table: Table) -> Columns:
        """Return the positions and names of the columns to read, first the number's. Raises `Unreadable`."""

    def read(
        self, cells: list[str], columns: Columns, order: FileOrder, masker: Masker
    ) -> tuple[list[NumberEvent], tuple[str, ...]]:
        """Return the events of a row, and words to count for the report, such as `doubtful`.

        Raises `ValueError` for an invalid row.
        """

    def problem(self, error: ValueError) -> str:
        """Describe what is wrong with a row, without quoting its cells."""

    async def new(self, store: Ledger, part: list[Draft], counts: Counter[str]) -> list[Draft]:
        """Return the drafts that the ledger does not have yet, and count what the report must name in `counts`.

        `part` has all drafts about its numbers, and each number's in the order of the file.
        """


# ---- reading ---------------------------------------------------------------------------------------------------------


class _Drafted(Struct, frozen=True):
    """The drafts from some rows, concatenated. `ends` contains the end offset of each draft in `drafts`."""

    rows: int
    subjects: bytes
    drafts: bytes
    ends: list[int]
    problems: list[RowProblem]
    doubtful: list[RowProblem]
    remarks: Counter[str]


class Drafter:
    """A converter from rows to drafts."""

    def __init__(self, keys: Keys, order: FileOrder, kind: FileKind, columns: Columns) -> None:
        self._from = (keys, order, kind, columns)
        self._fresh, self._masker = nonces(), Masker(keys, order.owner)
        self._proof, self._proof_digits = order.proof, digits_of(order.proof)

    def __reduce__(self) -> tuple[object, ...]:
        return Drafter, self._from  # a copy in another process gets new nonces

    def __call__(self, rows: Sequence[tuple[int, list[str]]]) -> _Drafted:
        subjects, drafts, ends = bytearray(), bytearray(), list[int]()
        problems, doubtful, remarks = list[RowProblem](), list[RowProblem](), Counter[str]()
        _, order, kind, columns = self._from
        for line, cells in rows:
            try:
                events, named = kind.read(cells, columns, order, self._masker)
            except lost_zeros.LostDigits as error:
                doubtful.append(RowProblem(line, str(error)))
                continue
            except ValueError as error:  # includes msgspec.ValidationError
                problems.append(RowProblem(line, kind.problem(error)))
                continue
            if named:
                remarks.update(named)
            for event in events:
                draft = self._draft(event)
                subjects += draft.subject
                drafts += _encode(draft)
                ends.append(len(drafts))
        return _Drafted(len(rows), bytes(subjects), bytes(drafts), ends, problems, doubtful, remarks)

    def _draft(self, event: NumberEvent) -> Draft:
        keys, order, *_ = self._from
        return Draft(
            at=order.now,
            controller=order.owner,
            subject=keys.subject(order.owner, event.number),
            event=event.event,
            actor=order.actor,
            channel=order.channel,
            proof=event.proof or self._common_proof(event.number),
            sealed=keys.ledger.seal(event.number, next(self._fresh)),
        )

    def _common_proof(self, number: str) -> str:
        """Return the proof of the file, without the number."""
        is_free = number[-TAIL:] not in self._proof_digits
        return self._proof if is_free else self._masker.text(self._proof, number)


class ImportedFile:
    """The result of an import, and before that the drafts from the valid rows, in a temporary file. Its length is their number.

    `written` counts the new drafts, `problems` the invalid rows, and `first` is the first of them. `counts` has the words of the
    kind. Rows that were skipped because their number may have lost a zero or a plus are `doubtful`, and not in `problems`.
    """

    def __init__(self, layout: Layout, spool: IO[bytes]) -> None:
        self.layout = layout
        self.rows = self.problems = self.written = 0
        self.first: RowProblem | None = None
        self.counts = Counter[str]()
        self._spool = spool
        self._subjects, self._ends = bytearray(), array("Q")
        # Set by `sort`: the drafts in the order of their subjects, and where each subject begins in it.
        self._order = self._firsts = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, drafted: _Drafted) -> None:
        begin = self._ends[-1] if self._ends else 0
        self._spool.write(drafted.drafts)
        self._subjects += drafted.subjects
        self._ends.extend([begin + end for end in drafted.ends])
        self.rows += drafted.rows
        self.problems += len(drafted.problems)
        self.first = self.first or next(iter(drafted.problems), None)
        self.counts.update(drafted.remarks)
        self.counts["doubtful"] += len(drafted.doubtful)

    def sort(self) -> None:
        """Prepare `parts`. Takes a second for ten million drafts, so call it in a thread, after the last `add`."""
        self._spool.flush()
        first_half = np.frombuffer(self._subjects, ">u8")[:: _SUBJECT_BYTES // 8].astype(np.uint64)
        self._order = np.argsort(first_half, kind="stable")
        ordered = first_half[self._order]
        self._firsts = np.flatnonzero(np.append(np.True_, ordered[1:] != ordered[:-1]))

    def parts(self) -> Iterator[list[Draft]]:
        """Yield the drafts in parts, each with all drafts about its numbers. The drafts about a number are in order.

        The store's index has the same order, so the store writes each index page only once. Writing ten million subjects in
        file order takes three times as long.
        """
        order, firsts, begin = self._order, self._firsts, 0
        with closing(mmap(self._spool.fileno(), 0, access=ACCESS_READ)) as spooled:
            while begin < len(order):
                next_first = int(np.searchsorted(firsts, begin + AT_ONCE))
                end = int(firsts[next_first]) if next_first < len(firsts) else len(order)
                yield [self._draft(spooled, at) for at in order[begin:end].tolist()]
                begin = end

    def _draft(self, spooled: mmap, at: int) -> Draft:
        return _decode(spooled[self._ends[at - 1] if at else 0 : self._ends[at]])


def _read_rows(table: Table, drafter: Drafter, drafts: ImportedFile, note: NoteRow) -> None:
    for drafted in spread(drafter, table.chunks(_READ_AT_ONCE)):
        drafts.add(drafted)
        for problem in drafted.problems + drafted.doubtful:
            note(problem)
    if len(drafts):
        drafts.sort()


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


async def _write(access: LedgerAccess, kind: FileKind, drafts: ImportedFile) -> int:
    """Write the new drafts and return their number. Raises `StoreUnavailable`.

    A part is prepared while earlier parts are still being written. After an error, the parts that were already written remain.
    """
    written = 0
    writing: deque[asyncio.Future[Sequence[int]]] = deque()
    try:
        for part in drafts.parts():
            new = await kind.new(access.store, part, drafts.counts)
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
        try:
            table = tabular.read(file, order.home, order.hints, lenient=kind.is_lenient)
            drafts = ImportedFile(table.layout, spool)
            drafter = Drafter(access.keys, order, kind, kind.columns(table))
            await asyncio.to_thread(_read_rows, table, drafter, drafts, note)
        except tabular.Unreadable as error:
            raise Refused("list.unreadable", str(error), "file") from error
        if not len(drafts) or (drafts.problems and not order.skip_bad):
            raise _unfit(drafts)
        drafts.written = await _write(access, kind, drafts)
        return drafts
