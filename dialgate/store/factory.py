"""Which store a configuration names."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dialgate.config import url_secrets
from dialgate.config.configuration import Config, ConfigError
from dialgate.core.model import HOUR, Instant
from dialgate.crypto.keys import Keys, KeysUnusable
from dialgate.store import Ledger, Shared, Store
from dialgate.store.copying import End
from dialgate.store.sqlite import SqliteStore
from dialgate.store.sqlite_copy import SqliteEnd
from dialgate.store.watermark import Reached

if (
    TYPE_CHECKING
):  # the client of Redis takes a tenth of a second to import, which most commands need not spend
    from dialgate.store.redis import RedisStore

_UNHURRIED: Final = 30.0
_SOME: Final = 100  # entries of the ledger; nearly every one holds a number
_OTHER_KEYS: Final = (
    "the store was written under other keys: nobody's stop would be found in it. Put a copy of its first gate's `keys.json` here,"
    " without `log` and `months`, or name another store"
)


async def opened(config: Config, keys: Keys | None = None, *, patience: float | None = None) -> Store:
    """`keys`: of who will look people up in it. `patience`: seconds, where they are not those of the settings. Raises
    `StoreUnavailable`, `ConfigError`, `KeysUnusable`, `OSError`."""
    async with AsyncExitStack() as undo:
        store = await _opened(config, patience)
        undo.push_async_callback(store.close)
        await _refuse_lost(store, config.data)
        if keys is not None:
            await _refuse_other_keys(store, keys)
        undo.pop_all()
    return store


async def _refuse_lost(store: Ledger, data: Path) -> None:
    """Where the ledger has come so far, and does not any more, stops are lost."""
    known = Reached(data).held()
    store.hold_to(known)
    if known:
        await store.ping()


async def _refuse_other_keys(store: Store, keys: Keys) -> None:
    """Under other keys a person has another name there."""
    sealed = next((entry.sealed for entry in await store.since(0, _SOME) if entry.sealed), b"")
    try:
        if sealed:
            keys.ledger.unseal(sealed)
    except KeysUnusable as error:
        raise KeysUnusable(_OTHER_KEYS) from error
    if isinstance(store, Shared) and not await store.claim(keys.mark):
        raise KeysUnusable(_OTHER_KEYS)


async def _opened(config: Config, patience: float | None) -> Store:
    shared = redis(config, patience)
    if shared is None:
        settings = config.settings
        return SqliteStore.open(config.data / "store.db", patience=patience or settings.store_patience)
    await shared.refuse_unless_safe()
    return shared


def redis(config: Config, patience: float | None = None) -> "RedisStore | None":
    """The shared store, if one is named; nothing has been asked of it yet. Raises `ConfigError`."""
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
        raise ConfigError([f"store: {error}; write it as redis://host:6379/0"]) from error


def end(url: str, name: str, now: Instant) -> End:
    """Of a copy. Raises `ValueError`."""
    scheme, _, path = url.partition("://")
    if scheme == "sqlite":
        return SqliteEnd(Path(path))
    from dialgate.store.redis import RedisStore  # noqa: PLC0415 - see above
    from dialgate.store.redis.copy_end import RedisEnd  # noqa: PLC0415

    return RedisEnd(RedisStore(url, name=name, patience=_UNHURRIED), now)
