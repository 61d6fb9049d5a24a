from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dialgate.config import url_secrets
from dialgate.config.configuration import Config, ConfigError
from dialgate.core.model import HOUR
from dialgate.crypto.keys import Keys, KeysUnusable
from dialgate.store import Ledger, Shared, Store
from dialgate.store.sqlite import SqliteStore
from dialgate.store.watermark import LedgerWatermark

if TYPE_CHECKING:  # importing the Redis client takes 0.1 s, and most commands do not need it
    from dialgate.store.redis import RedisStore

_READER_PATIENCE: Final = 5.0  # seconds; no call waits for a job
_SAMPLE: Final = 100  # ledger entries; nearly all contain a sealed number
_OTHER_KEYS: Final = (
    "the store was written with other keys, so no revocation in it would be found. Copy `keys.json` here from a gate"
    " that uses the store, without its fields `log` and `months`, or set `store` to another store"
)


async def open_store(
    config: Config, keys: Keys | None = None, *, patience: float = 0, empty: bool = False
) -> Store:
    """Open the configured store and check that it is usable. Only the owner of the data folder may.

    If `keys` is given, check that the store was written with these keys. `patience` is the minimum timeout of Redis, in
    seconds. With `empty`, for an import, the ledger may end before its watermark. Raises `StoreUnavailable`, `ConfigError`, `KeysUnusable` and `OSError`.
    """
    async with AsyncExitStack() as undo:
        store = await _open(config, patience)
        undo.push_async_callback(store.close)
        store.keep_attempts(config.attempts_kept)
        if not empty:
            await _refuse_lost(store, config.data)
        if keys is not None:
            await _refuse_other_keys(store, keys)
        undo.pop_all()
    return store


async def open_reader(config: Config) -> Store:
    """Open the store of a gate for a job beside it, which only reads. Raises `StoreUnavailable`, `ConfigError`, `OSError`."""
    store: Store = redis(config, _READER_PATIENCE) or SqliteStore.open_reader(config.data / "store.db")
    store.keep_attempts(config.attempts_kept)
    return store


async def _refuse_lost(store: Ledger, data: Path) -> None:
    """Raise `StoreUnavailable` if the ledger ends before its watermark. The missing entries may be revocations."""
    known = LedgerWatermark(data).read()
    store.require_seq(known)
    if known:
        await store.ping()


async def _refuse_other_keys(store: Store, keys: Keys) -> None:
    """Raise `KeysUnusable` if the store was written with other keys.

    The hashes of data subjects differ under other keys, so no revocation would be found.
    """
    sealed = next((entry.sealed for entry in await store.since(0, _SAMPLE) if entry.sealed), b"")
    try:
        if sealed:
            keys.ledger.unseal(sealed)
    except KeysUnusable as error:
        raise KeysUnusable(_OTHER_KEYS) from error
    if isinstance(store, Shared) and not await store.claim(keys.mark):
        raise KeysUnusable(_OTHER_KEYS)


async def _open(config: Config, patience: float) -> Store:
    shared = redis(config, patience)
    if shared is None:
        return SqliteStore.open(config.data / "store.db")
    await shared.refuse_unless_safe()
    return shared


def redis(config: Config, patience: float = 0) -> "RedisStore | None":
    """Return the configured Redis store, or None if another store is configured.

    `patience` is the minimum timeout, in seconds. Does not connect to Redis. Raises `ConfigError`.
    """
    shared = config.settings.store
    if shared is None:
        return None
    from dialgate.store.redis import RedisStore  # noqa: PLC0415 - see above

    try:
        url = url_secrets.read_url(shared.url, shared.url_file, config.folder)
        return RedisStore(
            url,
            name=shared.name,
            patience=max(shared.patience, patience),
            replicas=shared.replicas,
            remember=config.settings.remember_hours * HOUR,
        )
    except OSError as error:
        text = f"store: {error.filename}: {error.strerror}. Name a file that contains the URL, such as `redis://host:6379/0`"
        raise ConfigError([text]) from error
    except ValueError as error:
        raise ConfigError([f"store: {error}. Use the form `redis://host:6379/0`"]) from error
