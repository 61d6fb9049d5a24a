"""Which store a configuration names."""

from pathlib import Path
from typing import Final

from dialgate.model import HOUR, Instant
from dialgate.settings import Config, ConfigError
from dialgate.store import Store
from dialgate.store.copying import End
from dialgate.store.redis import RedisStore
from dialgate.store.redis_copy import RedisEnd
from dialgate.store.sqlite import SqliteStore
from dialgate.store.sqlite_copy import SqliteEnd

_UNHURRIED: Final = 30.0


async def opened(config: Config, *, patience: float | None = None) -> Store:
    """`patience`: seconds, where they are not those of the settings. Raises `StoreUnavailable`, `ConfigError`."""
    settings = config.settings
    shared = settings.store
    if shared is None:
        return SqliteStore.open(config.data / "store.db", patience=patience or settings.store_patience)
    try:
        url = (config.folder / shared.url_file).read_text("utf-8").strip() if shared.url_file else shared.url
        store = RedisStore(
            url,
            name=shared.name,
            patience=max(shared.patience, patience or 0),
            replicas=shared.replicas,
            remember=settings.remember_hours * HOUR,
        )
    except (OSError, ValueError) as error:
        raise ConfigError([f"store: {error}; write it as redis://host:6379/0"]) from error
    await store.refuse_unless_safe()
    return store


def end(url: str, name: str, now: Instant) -> End:
    """Of a copy. Raises `ValueError`."""
    scheme, _, path = url.partition("://")
    if scheme == "sqlite":
        return SqliteEnd(Path(path))
    return RedisEnd(RedisStore(url, name=name, patience=_UNHURRIED), now)
