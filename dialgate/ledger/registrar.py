"""The entry point to all ledger operations, for a gate, or for a job whose entries the gate writes."""

import asyncio
from collections.abc import AsyncGenerator, Callable

from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core.model import Instant
from dialgate.core.refusal import Refused
from dialgate.crypto.keys import Keys
from dialgate.ledger import ledger_file
from dialgate.ledger.access import LedgerAccess
from dialgate.ledger.activation import Activation
from dialgate.ledger.call_lists import CallListWriter
from dialgate.ledger.caller_ids import CallerIdWriter
from dialgate.ledger.campaigns import Campaigns
from dialgate.ledger.consents import ConsentWriter
from dialgate.ledger.dead_letters import DeadLetters
from dialgate.ledger.host_gate import HostGate
from dialgate.ledger.list_exports import ListExports
from dialgate.ledger.outcomes import Outcomes
from dialgate.ledger.revocations import Revocations
from dialgate.ledger.views import LedgerViews
from dialgate.ledger.wrong_numbers import WrongNumbers
from dialgate.observability.metrics import Metrics
from dialgate.runtime.thread_pool import ThreadPool
from dialgate.store import Store


class Registrar:
    """All ledger operations on one store."""

    def __init__(
        self,
        config: Config,
        keys: Keys,
        store: Store,
        clock: Callable[[], Instant],
        metrics: Metrics,
        gate: HostGate,
    ) -> None:
        # Set after a list's file has changed, so that upkeep starts its next round at once.
        self.changed = asyncio.Event()
        self.access = access = LedgerAccess(config, keys, store, clock, metrics, gate.append)
        self.ids, self.notices = access.ids, access.notices
        self._threads = threads = ThreadPool("registrar", 2)
        self.activation = Activation(access, gate)
        self.revocations = Revocations(access, gate.steady)
        self.wrong_numbers = WrongNumbers(access)
        self.consents = ConsentWriter(access)
        self.views = LedgerViews(access, gate.registry_answers)
        self.outcomes = Outcomes(access, self.revocations, self.wrong_numbers, threads, gate)
        self.call_lists = CallListWriter(access, self.activation, threads)
        self.list_exports = ListExports(access, self.call_lists)
        self.caller_ids = CallerIdWriter(access, self.activation)
        self.campaigns = Campaigns(access, self.activation)
        self.dead_letters = DeadLetters(config.data, keys)
        metrics.dead_letters.set_function(self.dead_letters.count)

    def close(self) -> None:
        """Stop the threads."""
        self._threads.close()
        self.outcomes.close()

    async def export(self, client: Client, *, numbers: bool = False) -> AsyncGenerator[bytes]:
        """Return the lines of an export of the store. With `numbers`, record the export in the ledger first.

        Raises `Refused` and `StoreUnavailable`.
        """
        if set(self.config.controllers) - set(client.controllers):
            raise Refused(
                "auth.scope",
                "An export holds every controller's entries, and this client lacks some. Ask the gate's administrator.",
                status=403,
            )
        if numbers:
            await self.list_exports.exported_ledger(client)
        return ledger_file.export(self.access.store, self.access.keys, numbers=numbers)

    @property
    def config(self) -> Config:
        return self.access.config

    def reload(self, config: Config) -> None:
        self.access.reload(config)
