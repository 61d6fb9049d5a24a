"""Which store a configuration names."""

from dialgate.model import HOUR
from dialgate.settings import Config, ConfigError
from dialgate.store import Store
from dialgate.store.redis import RedisStore
from dialgate.store.sqlite import SqliteStore


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
            patience=shared.patience,
            replicas=shared.replicas,
            remember=settings.remember_hours * HOUR,
        )
    except (OSError, ValueError) as error:
        raise ConfigError([f"store: {error}; write it as redis://host:6379/0"]) from error
    await store.refuse_unless_safe()
    return store
