"""Verdicts on the rows in a call list, and ledger entries that record its export."""

from dialgate.config.clients import Client
from dialgate.core.ledger_events import Draft, Entry, Exported
from dialgate.core.model import Instant
from dialgate.ledger.access import LedgerAccess
from dialgate.ledger.schemas import Receipt
from dialgate.ledger.scrub import Judge
from dialgate.ledger.view_schemas import HistoryEntry
from dialgate.ledger.views import history_entry

_EXPORTS = "exports"  # replaces the number in the subject of an export's entry


class ListExports:
    def __init__(self, access: LedgerAccess) -> None:
        self._access = access

    async def judge(self, client: Client, campaign: str, at: Instant = 0) -> tuple[Judge, str]:
        """Return an open `Judge` for a campaign, and the country for numbers without a country code.

        Calls are judged as if made at `at`, or now if `at` is 0. Close the judge after use. Raises `Refused`
        and `Unavailable`.
        """
        line = self._access.line(client, campaign)
        judge = Judge(
            self._access.config, self._access.store, self._access.keys, campaign, at or self._access.clock()
        )
        await judge.open()
        return judge, line.dial_region or line.home

    async def exported(self, client: Client, event: Exported, actor: str, proof: str) -> Receipt:
        """Record that a list was exported with verdicts. Raises `Refused` and `StoreUnavailable`."""
        owner = self._access.line(client, event.campaign).controller.id
        return await self._access.write(self._draft(owner, event, actor or client.name, proof))

    async def exported_ledger(self, client: Client) -> None:
        """Record, for each controller, that the ledger was exported with clear numbers. Raises `StoreUnavailable`."""
        rows = await self._access.store.ping()
        event = Exported(campaign="", rows=rows, allowed=0, sha256="")
        await self._access.store.append(
            [self._draft(owner, event, client.name, "ledger") for owner in client.controllers]
        )

    def _draft(self, owner: str, event: Exported, actor: str, proof: str) -> Draft:
        return Draft(
            at=self._access.clock(),
            controller=owner,
            subject=self._access.keys.subject(owner, _EXPORTS),
            event=event,
            actor=actor,
            channel="export",
            proof=proof,
        )

    async def exports(self, client: Client) -> list[HistoryEntry]:
        entries: list[Entry] = []
        for name in client.controllers:
            entries += await self._access.store.history(self._access.keys.subject(name, _EXPORTS))
        return [history_entry(entry) for entry in sorted(entries, key=lambda entry: entry.seq)]
