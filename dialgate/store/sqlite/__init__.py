"""The embedded store: one SQLite file in the data folder, for one gate and its commands."""

from dialgate.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
