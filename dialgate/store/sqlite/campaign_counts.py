"""SQL for the campaign counts of the embedded store."""

import sqlite3
from collections.abc import Sequence

from dialgate.core.model import Instant, Result
from dialgate.store.campaign_counts import HourCount, count_of
from dialgate.store.sqlite import tables

COUNTS = "SELECT hour, campaign, answered, abandoned FROM hour_count"
_VERSION = "SELECT coalesce(max(version), 0) FROM hour_count"
_ADD = f"""
    INSERT INTO hour_count VALUES (?, ?, ?, ?, ({_VERSION}) + 1)
    ON CONFLICT (hour, campaign) DO UPDATE SET answered = answered + excluded.answered,
        abandoned = abandoned + excluded.abandoned, version = excluded.version
"""  # noqa: S608 - constants


def end_attempt(db: sqlite3.Connection, decision: str, result: Result, at: Instant) -> bytes | None:
    """Store an attempt's result and update its campaign's count. Return its subject, or None for an unknown attempt."""
    found = tables.find_attempt(db, decision)
    if found is None:
        return None
    subject, before = found
    tables.put_result(db, before, result, at)
    _, attempt = tables.find_attempt(db, decision) or found
    was = count_of(attempt.campaign, attempt.at, before.result)
    now = count_of(attempt.campaign, attempt.at, attempt.result)
    if was != now:
        changes = now.answered - was.answered, now.abandoned - was.abandoned
        db.execute(_ADD, (now.hour, now.campaign, *changes))
    return subject


def counts(db: sqlite3.Connection, after: int) -> tuple[list[HourCount], int]:
    (newest,) = db.execute(_VERSION).fetchone()
    changed = db.execute(f"{COUNTS} WHERE version > ? AND version <= ?", (after, newest))
    return [HourCount(*row) for row in changed], newest


def put_counts(db: sqlite3.Connection, counts: Sequence[HourCount]) -> None:
    rows = [(count.hour, count.campaign, count.answered, count.abandoned) for count in counts]
    db.executemany(f"INSERT OR REPLACE INTO hour_count VALUES (?, ?, ?, ?, ({_VERSION}) + 1)", rows)  # noqa: S608 - constants


def drop_counts(db: sqlite3.Connection, before: int) -> int:
    """Delete the counts for hours earlier than `before`.

    The row with the newest version is kept, so that versions always increase.
    """
    return db.execute(f"DELETE FROM hour_count WHERE hour < ? AND version < ({_VERSION})", (before,)).rowcount  # noqa: S608 - constants
