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

_SAMPLE: Final = 100  # ledger entries; nearly all contain a sealed number
_OTHER_KEYS: Final = (
    "the store was written with other keys, so no revocation in it would be found. Copy `keys.json` here from a gate"
    " that uses the store, without its fields `log` and `months`, or set `store` to another store"
)


async def open_store(
    config: Config, keys: Keys | None = None, *, patience: float | None = None, empty: bool = False
) -> Store:
    """Open the configured store and check that it is usable.

    If `keys` is given, check that the store was written with these keys. `patience` overrides the configured
    timeout, in seconds. With `empty`, for an import, the ledger may end before its watermark. Raises `StoreUnavailable`, `ConfigError`, `KeysUnusable` and `OSError`.
    """
    async with AsyncExitStack() as undo:
        store = await _open(config, patience)
        undo.push_async_callback(store.close)
        store.keep_attempts(config.attempts_counted)
        if not empty:
            await _refuse_lost(store, config.data)
        if keys is not None:
            await _refuse_other_keys(store, keys)
        undo.pop_all()
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


async def _open(config: Config, patience: float | None) -> Store:
    shared = redis(config, patience)
    if shared is None:
        settings = config.settings
        return SqliteStore.open(config.data / "store.db", patience=patience or settings.store_patience)
    await shared.refuse_unless_safe()
    return shared


def redis(config: Config, patience: float | None = None) -> "RedisStore | None":
    """Return the configured Redis store, or None if another store is configured.

    Does not connect to Redis. Raises `ConfigError`.
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
            patience=max(shared.patience, patience or 0),
            replicas=shared.replicas,
            remember=config.settings.remember_hours * HOUR,
        )
    except (OSError, ValueError) as error:
        raise ConfigError([f"store: {error}. Use the form `redis://host:6379/0`"]) from error
