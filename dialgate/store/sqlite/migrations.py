"""The tables of the embedded store, and the scripts that create them.

The file is an SQLite 3 database with application id 0x64676174. Its `user_version` is the format. The first script of
`MIGRATIONS` creates the format of dialgate 0.2.0, `OLDEST`, and each further script the next format. Released scripts are
never edited: a change is a new script at the end. Newer files are refused, and older files are migrated.
"""

import sqlite3

from dialgate.store import StoreUnavailable
from dialgate.store.sqlite.connection import pragma, run_migrations

APPLICATION = 0x64676174
OLDEST = 3
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE ledger (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, subject BLOB NOT NULL, at INTEGER NOT NULL, controller TEXT NOT NULL,
        actor TEXT NOT NULL, channel TEXT NOT NULL, proof TEXT NOT NULL, sealed BLOB NOT NULL, event TEXT NOT NULL
    ) STRICT;
    CREATE INDEX ledger_subject ON ledger (subject);
    CREATE TABLE attempt (
        decision TEXT PRIMARY KEY, subject BLOB NOT NULL, at INTEGER NOT NULL, campaign TEXT NOT NULL,
        basis TEXT NOT NULL, result TEXT NOT NULL, result_at INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX attempt_subject ON attempt (subject, at);
    CREATE TABLE answer (
        id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, at INTEGER NOT NULL, answer BLOB NOT NULL, decision TEXT NOT NULL
    ) STRICT;
    CREATE TABLE position (
        log TEXT PRIMARY KEY, seq INTEGER NOT NULL, reached INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE call_list (
        controller TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (controller, id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE proof (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
    CREATE TABLE delivery (webhook TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID
    """,
    "ALTER TABLE attempt ADD COLUMN goods TEXT NOT NULL DEFAULT ''",
    """
    CREATE TABLE hour_count (
        hour INTEGER NOT NULL, campaign TEXT NOT NULL, answered INTEGER NOT NULL, abandoned INTEGER NOT NULL,
        version INTEGER NOT NULL, PRIMARY KEY (hour, campaign)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX hour_count_version ON hour_count (version);
    INSERT INTO hour_count SELECT at / 3600000, campaign, sum(result <> 'abandoned'), sum(result = 'abandoned'), 1 FROM attempt
        WHERE result IN ('answered', 'refused', 'opt_out', 'wrong_number', 'abandoned') GROUP BY 1, 2;
    CREATE TABLE pause_lift (
        campaign TEXT NOT NULL, at INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (campaign, at)
    ) STRICT, WITHOUT ROWID
    """,
    "ALTER TABLE position ADD COLUMN durable INTEGER NOT NULL DEFAULT 0",
    """
    CREATE TABLE document (kind TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (kind, key)) STRICT, WITHOUT ROWID;
    INSERT INTO document SELECT 'lists', controller || char(0) || id, CAST(body AS BLOB) FROM call_list;
    INSERT OR REPLACE INTO document
        SELECT 'proofs', json_extract(body, '$.controller') || char(0) || json_extract(body, '$.caller_id'), CAST(body AS BLOB)
        FROM proof ORDER BY at, id;
    INSERT INTO document SELECT 'deliveries', webhook, CAST(body AS BLOB) FROM delivery;
    INSERT INTO document SELECT 'lifts', campaign || char(0) || at, CAST(body AS BLOB) FROM pause_lift;
    DROP TABLE call_list; DROP TABLE proof; DROP TABLE delivery; DROP TABLE pause_lift
    """,
    """
    ALTER TABLE attempt RENAME TO attempt_7;
    DROP INDEX attempt_subject;
    CREATE TABLE log (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
    INSERT INTO log (name) SELECT DISTINCT rtrim(rtrim(decision, '0123456789'), '-') FROM attempt_7;
    CREATE TABLE term (
        id INTEGER PRIMARY KEY, campaign TEXT NOT NULL, basis TEXT NOT NULL, goods TEXT NOT NULL, UNIQUE (campaign, basis, goods)
    ) STRICT;
    INSERT INTO term (campaign, basis, goods)
        SELECT DISTINCT campaign, substr(basis, 1, instr(basis || ':', ':')), goods FROM attempt_7;
    CREATE TABLE attempt (
        id INTEGER PRIMARY KEY, subject BLOB NOT NULL, at INTEGER NOT NULL, term INTEGER NOT NULL, basis_name TEXT NOT NULL,
        result INTEGER NOT NULL, result_span INTEGER NOT NULL
    ) STRICT;
    INSERT INTO attempt
        SELECT log.id << 40 | substr(decision, length(log.name) + 2), subject, at, term.id, substr(old.basis, length(term.basis) + 1),
            CASE result WHEN 'pending' THEN 0 WHEN 'not_dialled' THEN 1 WHEN 'no_answer' THEN 2 WHEN 'busy' THEN 3
                WHEN 'answered' THEN 4 WHEN 'abandoned' THEN 5 WHEN 'opt_out' THEN 6 WHEN 'wrong_number' THEN 7
                WHEN 'refused' THEN 8 ELSE 99 END,
            min(max(result_at - at, 0), 4294967295)
        FROM attempt_7 AS old CROSS JOIN log ON log.name = rtrim(rtrim(decision, '0123456789'), '-')
        CROSS JOIN term ON term.campaign = old.campaign AND term.basis = substr(old.basis, 1, instr(old.basis || ':', ':'))
            AND term.goods = old.goods;
    CREATE INDEX attempt_subject ON attempt (subject, at, term, basis_name, result);
    DROP TABLE attempt_7
    """,
    "CREATE INDEX ledger_for_all ON ledger (subject) WHERE controller = '*'",
)


def migrate(db: sqlite3.Connection) -> None:
    run_migrations(db, "the store", APPLICATION, [script.split(";") for script in MIGRATIONS], OLDEST)


def refuse_other_format(db: sqlite3.Connection) -> None:
    """Raise `StoreUnavailable` if a gate of this version has not migrated the file."""
    if pragma(db, "user_version") != OLDEST + len(MIGRATIONS) - 1:
        raise StoreUnavailable(
            "the store has the format of another version: start the gate, which migrates it"
        )
