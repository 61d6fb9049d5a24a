"""A ledger on which no gate runs."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from dialgate.config.configuration import Config
from dialgate.core.model import Instant
from dialgate.crypto.keys import Keys
from dialgate.ledger.host_gate import NoGate
from dialgate.ledger.registrar import Registrar
from dialgate.observability.metrics import Metrics
from dialgate.store import Store, factory


def on_store(config: Config, store: Store, clock: Callable[[], Instant]) -> Registrar:
    keys = Keys.open(config.data / "keys.json")
    return Registrar(config, keys, store, clock, Metrics(CollectorRegistry()), NoGate())


@asynccontextmanager
async def ledger_of(config: Config, clock: Callable[[], Instant]) -> AsyncIterator[Registrar]:
    config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = await factory.open_store(config)
    registrar = on_store(config, store, clock)
    yield registrar
    registrar.close()
    await store.close()
