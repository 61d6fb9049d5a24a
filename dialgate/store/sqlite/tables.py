"""Functions that read and write the rows of the embedded store's tables (`dialgate.store.sqlite.migrations`).

`event` contains tagged structs from `dialgate.core.ledger_events`, as JSON. New fields go last in these structs, with a
default. `dialgate.store.documents` describes documents.
"""

import re
import sqlite3
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain, islice, repeat
from typing import Any

from msgspec import structs
from msgspec.json import Decoder, encode

from dialgate.core.abandonment import ANSWERED
from dialgate.core.decision_ids import log_of, seq_of
from dialgate.core.ledger_events import Draft, Entry, Event
from dialgate.core.ledger_state import fold
from dialgate.core.model import Attempt, Instant, Known, Result
from dialgate.store import CountedAttempt, Remembered, StoreUnavailable
from dialgate.store.attempts import RESULTS, span_to_result, split_basis
from dialgate.store.documents import DocumentSwap
from dialgate.store.encoded_entries import AnyDraft, EncodedEntry, encoded
from dialgate.store.sqlite.write_buffer import WriteBuffer

_SUBJECTS_PAGE = 50_000
# Whether the entries of these subjects may bind every controller, and the query.
SUBJECTS = tuple(
    (for_all, f"SELECT DISTINCT subject FROM {rows} AND subject > ? ORDER BY subject LIMIT ?")  # noqa: S608 - constants
    for for_all, rows in (
        (True, "ledger WHERE controller = '*'"),
        (False, "ledger WHERE true"),
        (False, "attempt WHERE true"),
    )
)
_MAX_KEYS = 512  # keys per query, so that it does not block the thread that decides
_BATCH_ROWS = 256  # rows per statement: preparing them blocks the thread that decides
_PAGE_ROWS = 2_000  # rows of an export that are read at once
FORGET_ROWS = 1_000  # rows per transaction, so that commits can run in between
_OLD_ROWS = 20_000  # attempts that are looked at per step
DROP_ROWS = 500  # attempts per transaction, so that a stop waits for less than 20 ms

ENTRY = "SELECT seq, subject, at, controller, actor, channel, proof, sealed, event FROM ledger "
# An attempt's id is the number of its log, shifted by 40 bits, and the sequence of its decision. Attempts share terms, in which
# `basis` is a kind of legal basis such as `consent:`; `basis_name` is the rest of an attempt's legal basis.
ATTEMPT = """
    SELECT at, log.name || '-' || (attempt.id & (1 << 40) - 1), campaign, basis || basis_name, result, goods, subject
    FROM attempt CROSS JOIN log ON log.id = attempt.id >> 40 CROSS JOIN term ON term.id = attempt.term
"""
_LOG = "(SELECT id FROM log WHERE name = ?1)"
_BY_DECISION = f"WHERE attempt.id = {_LOG} << 40 | ?2 AND ?2 >> 40 = 0"
# A join with literal rows is a third faster than IN (measured), which first sorts the keys into a table.
_ENTRIES_OF = ENTRY.replace("FROM", "FROM wanted CROSS JOIN") + "ON subject = one"
# Each column that is read costs an import 0.2 us a row.
_HISTORIES = "SELECT seq, subject, at, channel, proof, event FROM wanted CROSS JOIN ledger ON subject = one"
_ATTEMPTS_OF = ATTEMPT.replace("FROM attempt", "FROM wanted CROSS JOIN attempt ON subject = one")
# Kinds of rows, each with its columns: the newest sequence of the ledger, entries, attempts and answers. One statement reads one
# snapshot of the database; a transaction with four statements took a batch 50 us more.
_STATE = f"""
    SELECT 0, seq, {", ".join(["NULL"] * 8)} FROM sqlite_sequence WHERE name = 'ledger'
    UNION ALL SELECT 1, * FROM ({_ENTRIES_OF})
    UNION ALL SELECT 2, *, NULL, NULL FROM ({_ATTEMPTS_OF})
    UNION ALL SELECT 3, key, at, answer, decision, {", ".join(["NULL"] * 5)} FROM asked CROSS JOIN answer ON key = asked.one
"""  # noqa: S608 - constants
_COUNT = """
    INSERT INTO attempt (id, subject, at, term, basis_name, result, result_span) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET subject = excluded.subject, at = excluded.at, term = excluded.term,
        basis_name = excluded.basis_name, result = excluded.result, result_span = excluded.result_span
    WHERE subject <> excluded.subject OR at <> excluded.at
"""
_LOG_ID = "INSERT INTO log (name) VALUES (?) ON CONFLICT (name) DO UPDATE SET name = name RETURNING id"
_TERM_ID = """
    INSERT INTO term (campaign, basis, goods) VALUES (?, ?, ?)
    ON CONFLICT (campaign, basis, goods) DO UPDATE SET basis = basis RETURNING id
"""
_REMEMBER = """
    INSERT INTO answer (key, at, answer, decision) VALUES (?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET at = excluded.at, answer = excluded.answer, decision = excluded.decision
    WHERE excluded.at >= answer.at
"""
_ENTER = """
    INSERT INTO ledger (seq, subject, at, channel, proof, event, controller, actor, sealed)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# All rows of the log up to `seq` are in the database, and none after `reached`.
NOTE = """
    INSERT INTO position (log, seq, reached) VALUES (?1, ?2, ?2)
    ON CONFLICT (log) DO UPDATE SET seq = excluded.seq, reached = excluded.reached
"""
# The last entry of the log that is known to have been on the log's disk. It never decreases.
NOTE_DURABLE = """
    INSERT INTO position (log, seq, durable) VALUES (?, 0, ?)
    ON CONFLICT (log) DO UPDATE SET durable = max(durable, excluded.durable)
"""
_RESULT = f"""
    UPDATE attempt SET result = iif(?4 >= result_span, ?3, result), result_span = max(?4, result_span) {_BY_DECISION}
"""  # noqa: S608 - constants
# LOG-SEQ with a higher sequence; "." is the next character after "-".
_DROP_BEYOND = (
    f"DELETE FROM attempt WHERE id > {_LOG} << 40 | ?2 AND id < {_LOG} + 1 << 40",  # noqa: S608 - constants
    "DELETE FROM answer WHERE decision > ?1 || '-' AND decision < ?1 || '.' AND 0 + substr(decision, length(?1) + 2) > ?2",
)
# Answers are in order of their first request, so the oldest are found without an index.
FORGET = """
    DELETE FROM answer WHERE id IN (
        SELECT id FROM (SELECT id, at FROM answer ORDER BY id LIMIT 20000) WHERE at < ? LIMIT ?
    )
"""
# An abandoned call is kept until a later call is answered or abandoned (`abandonment.open_silence`).
_ENDED = ", ".join(str(RESULTS.index(result)) for result in sorted((*ANSWERED, "abandoned")))
_REMOVABLE = f"""
    CASE result WHEN {RESULTS.index("abandoned")} THEN EXISTS (
        SELECT 1 FROM attempt AS later WHERE later.subject = old.subject AND later.at > old.at AND later.result IN ({_ENDED})
    ) ELSE 1 END
"""  # noqa: S608 - constants
_OLD = f"""
    SELECT subject, at, id, {_REMOVABLE} FROM attempt AS old WHERE id > ? ORDER BY id LIMIT {_OLD_ROWS}
"""  # noqa: S608 - constants
_DROP = f"DELETE FROM attempt AS old WHERE id IN (SELECT value FROM json_each(?)) AND {_REMOVABLE}"  # noqa: S608 - constants
DOCUMENTS = "SELECT key, body FROM document WHERE kind = ?"
DOCUMENT = "SELECT body FROM document WHERE kind = ? AND key = ?"
PUT_DOCUMENT = "INSERT OR REPLACE INTO document VALUES (?, ?, ?)"
_ONE_ROW = re.compile(r"VALUES (\([?, ]+\))")
_event = Decoder(Event)


def newest(db: sqlite3.Connection) -> int:
    """Return the highest sequence number that the ledger has ever assigned, even if its entry was erased."""
    row: tuple[int] | None = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'ledger'").fetchone()
    return row[0] if row else 0


@cache
def _with_keys(query: str, **widths: int) -> str:
    tables = (f"{name}(one) AS (VALUES {', '.join(['(?)'] * width)})" for name, width in widths.items())
    return f"WITH {', '.join(tables)} {query}"


def _rows_of(db: sqlite3.Connection, query: str, **keys: Sequence[bytes]) -> list[tuple[Any, ...]]:
    """Return the sorted rows for distinct `keys`, by the name of their table in the query.

    The tables are padded with nulls, which match nothing, so that few statements have to be prepared.
    """
    widths = {name: 1 << max(len(some) - 1, 0).bit_length() for name, some in keys.items()}
    padded = (chain(some, repeat(None, widths[name] - len(some))) for name, some in keys.items())
    return sorted(db.execute(_with_keys(query, **widths), [*chain.from_iterable(padded)]))


def histories(db: sqlite3.Connection, subjects: Sequence[bytes]) -> dict[bytes, list[EncodedEntry]]:
    entries: dict[bytes, list[EncodedEntry]] = {}
    for start in range(0, len(subjects), _MAX_KEYS):
        for row in _rows_of(db, _HISTORIES, wanted=subjects[start : start + _MAX_KEYS]):
            entries.setdefault(row[1], []).append(EncodedEntry(*row))
    return entries


def state_of(
    db: sqlite3.Connection, subjects: Sequence[bytes], keys: Sequence[bytes]
) -> tuple[int, dict[bytes, Known], dict[bytes, Remembered]]:
    """Return the newest sequence of the ledger, the states of those subjects that have an entry or an attempt, and the answers."""
    newest = 0
    entries: dict[bytes, list[Entry]] = {}
    attempts: dict[bytes, list[Attempt]] = {}
    answers: dict[bytes, Remembered] = {}
    for row in _rows_of(db, _STATE, wanted=subjects, asked=keys):
        match row:
            case (0, newest, *_):
                pass
            case (1, _, subject, *_):
                entries.setdefault(subject, []).append(entry_of(row[1:]))
            case (2, *columns, _, _):
                subject, attempt = attempt_of(columns)
                attempts.setdefault(subject, []).append(attempt)
            case (_, key, at, answer, decision, *_):
                answers[key] = Remembered(key, at, answer, decision)
    known = {subject: Known(seq=newest, attempts=tuple(counted)) for subject, counted in attempts.items()}
    for subject, history in entries.items():
        known[subject] = structs.replace(fold(history), seq=newest, attempts=tuple(attempts.get(subject, ())))
    return newest, known, answers


def subjects_after(db: sqlite3.Connection, query: str, subject: bytes) -> list[bytes]:
    return [row[0] for row in db.execute(query, (subject, _SUBJECTS_PAGE))]


def drop_beyond(db: sqlite3.Connection, log: str, head: int) -> None:
    """Delete the attempts and answers for the log's decisions after `head`."""
    (reached,) = db.execute("SELECT max(reached) FROM position WHERE log = ?", (log,)).fetchone()
    if reached is not None and reached > head:
        for delete in _DROP_BEYOND:
            db.execute(delete, (log, head))


def attempt_of(row: Sequence[Any]) -> tuple[bytes, Attempt]:
    at, decision, campaign, basis, result, goods, subject = row
    if not 0 <= result < len(RESULTS):  # otherwise the gate would write records that it cannot read
        raise StoreUnavailable(
            f"attempt {decision} has a result that a newer dialgate wrote: install that version"
        )
    return subject, Attempt(
        decision=decision, at=at, campaign=campaign, basis=basis, result=RESULTS[result], goods=goods
    )


def find_attempt(db: sqlite3.Connection, decision: str) -> tuple[bytes, Attempt] | None:
    rows = db.execute(ATTEMPT + _BY_DECISION, (log_of(decision), seq_of(decision)))
    return next(map(attempt_of, rows), None)


def put_result(db: sqlite3.Connection, attempt: Attempt, result: Result, at: Instant) -> None:
    """Store a result, unless the attempt has one from after `at`."""
    decision = log_of(attempt.decision), seq_of(attempt.decision)
    db.execute(_RESULT, (*decision, RESULTS.index(result), span_to_result(attempt, at)))


def attempts_after(db: sqlite3.Connection, last: int) -> tuple[list[CountedAttempt], int]:
    """Return a page of attempts with higher ids than `last`, and its highest id."""
    query = (
        ATTEMPT.replace("FROM", ", result_span, attempt.id FROM")
        + "WHERE attempt.id > ? ORDER BY attempt.id LIMIT ?"
    )
    counted = []
    for *row, span, id_ in db.execute(query, (last, _PAGE_ROWS)):
        subject, attempt = attempt_of(row)
        counted.append(
            CountedAttempt(subject, attempt, 0 if attempt.result == "pending" else attempt.at + span)
        )
        last = id_
    return counted, last


def answers_after(db: sqlite3.Connection, key: bytes) -> list[Remembered]:
    query = "SELECT key, at, answer, decision FROM answer WHERE key > ? ORDER BY key LIMIT ?"
    return [Remembered(*row) for row in db.execute(query, (key, _PAGE_ROWS))]


def count_attempts(db: sqlite3.Connection, attempts: Iterable[tuple[bytes, Attempt]]) -> None:
    @cache
    def id_of(insert: str, *texts: str) -> int:
        ((id_,),) = db.execute(insert, texts).fetchall()
        return int(id_)

    def row(subject: bytes, attempt: Attempt) -> tuple[int | str | bytes, ...]:
        kind, name = split_basis(attempt.basis)
        id_ = id_of(_LOG_ID, log_of(attempt.decision)) << 40 | seq_of(attempt.decision)
        term = id_of(_TERM_ID, attempt.campaign, kind, attempt.goods)
        return id_, subject, attempt.at, term, name, RESULTS.index(attempt.result), 0

    _write(db, _COUNT, (row(subject, attempt) for subject, attempt in attempts))


def enter(db: sqlite3.Connection, first: int, drafts: Sequence[AnyDraft]) -> None:
    rows = ((seq, *structs.astuple(encoded(draft))[1:]) for seq, draft in enumerate(drafts, first))
    _write(db, _ENTER, rows)


def remember(db: sqlite3.Connection, answers: Iterable[Remembered]) -> None:
    _write(db, _REMEMBER, map(structs.astuple, answers))


@cache
def _batch_insert_statement(insert: str) -> str:
    before, row, after = _ONE_ROW.split(insert)
    return f"{before}VALUES {', '.join([row] * _BATCH_ROWS)}{after}"


def _write(db: sqlite3.Connection, insert: str, rows: Iterable[tuple[int | str | bytes, ...]]) -> None:
    # `executemany` takes and releases the interpreter lock for each row; the thread that decides would wait each time.
    iterator = iter(rows)
    while batch := list(islice(iterator, _BATCH_ROWS)):
        if len(batch) == _BATCH_ROWS:
            db.execute(_batch_insert_statement(insert), tuple(chain.from_iterable(batch)))
        else:
            db.executemany(insert, batch)


def write_buffer(db: sqlite3.Connection, buffer: WriteBuffer) -> None:
    """Write a buffer in key order, so that each database page is written only once."""
    attempts = (
        (subject, attempt) for subject in sorted(buffer.attempts) for attempt in buffer.attempts[subject]
    )
    count_attempts(db, attempts)
    remember(db, map(buffer.answers.__getitem__, sorted(buffer.answers)))
    if buffer.position is not None:
        db.execute(NOTE, (buffer.position.log, buffer.position.seq))


def append(db: sqlite3.Connection, drafts: Sequence[AnyDraft]) -> list[int]:
    first = newest(db) + 1
    enter(db, first, drafts)
    return list(range(first, first + len(drafts)))


def remove(db: sqlite3.Connection, seqs: Sequence[int], drafts: Sequence[Draft]) -> list[int]:
    db.execute("PRAGMA secure_delete=ON")
    db.execute("DELETE FROM ledger WHERE seq IN (SELECT value FROM json_each(?))", (encode(seqs).decode(),))
    db.execute("PRAGMA secure_delete=OFF")
    return append(db, drafts)


def swap_documents(db: sqlite3.Connection, kind: str, swaps: Sequence[DocumentSwap]) -> bool:
    for key, before, _ in swaps:
        row = db.execute(DOCUMENT, (kind, key)).fetchone()
        if (row[0] if row else None) != before:
            return False
    db.executemany(PUT_DOCUMENT, [(kind, key, after) for key, _, after in swaps])
    return True


def old_attempts(db: sqlite3.Connection, before: Instant, after: int) -> tuple[list[int], int]:
    """Return removable attempts older than `before` with higher ids than `after`, and the id after which to continue, or 0.

    The ids of a log rise with time, so a log without old attempts among the next ones has none. The order is by subject and
    time: the later call that makes an abandoned call removable is not removed before it.
    """
    rows = db.execute(_OLD, (after,)).fetchall()
    old = [row for row in rows if row[1] < before]
    last = rows[-1][2] if rows else 0
    ids = [id_ for _, _, id_, is_removable in sorted(old) if is_removable]
    return ids, last if old else last and ((last >> 40) + 1 << 40)


def drop_attempts(db: sqlite3.Connection, ids: Sequence[int]) -> int:
    return db.execute(_DROP, (encode(ids).decode(),)).rowcount


def entry_of(row: Sequence[Any]) -> Entry:
    seq, subject, at, controller, actor, channel, proof, sealed, event = row
    return Entry(
        seq=seq, subject=subject, at=at, controller=controller, actor=actor, channel=channel, proof=proof,
        sealed=sealed, event=_event.decode(event),
    )  # fmt: skip
