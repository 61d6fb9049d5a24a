"""The ledger entries and consents for a number, as clients see them."""

from collections.abc import Callable

import msgspec
from msgspec import structs

from dialgate.config.clients import Client
from dialgate.core import consent_state, ineffective_entries, local_time
from dialgate.core.consent_state import ConsentState
from dialgate.core.former_names import CurrentNames
from dialgate.core.ledger_events import ConsentConfirmed, ConsentGiven, Entry
from dialgate.core.ledger_state import merge
from dialgate.core.model import Consent, Controller, Instant, RegistryAnswer
from dialgate.core.struct_copies import copy_fields
from dialgate.ledger.access import LedgerAccess
from dialgate.ledger.view_schemas import ConsentStanding, HistoryEntry

_INSTANTS = frozenset(
    {"at", "attested_at", "collected_at", "expires_at", "renewed_at", "requested_at", "begins", "before"}
)


class LedgerViews:
    def __init__(
        self, access: LedgerAccess, registry_answers: Callable[[str, str, str], tuple[RegistryAnswer, ...]]
    ) -> None:
        self._access = access
        self._registry_answers = registry_answers

    async def history(
        self, client: Client, controller: str, number: str, kinds: tuple[str, ...] = ()
    ) -> list[HistoryEntry]:
        """Return the ledger entries about a number, oldest first.

        `kinds` are the kinds of entry to return, such as `revoked` and `consent`. If empty, return all kinds.
        """
        owner, e164 = self._access.person(client, controller, number)
        entries: list[Entry] = []
        for name in (owner.id, "*"):
            entries += await self._access.store.history(self._access.keys.subject(name, e164))
        entries.sort(key=lambda entry: entry.seq)
        confirmed = {entry.event.id for entry in entries if isinstance(entry.event, ConsentConfirmed)}
        shown, law = [], self._access.config.laws[owner.country]
        for entry in entries:
            why = ineffective_entries.find_reason(entry.event, owner.campaigns, self._access.clock(), law)
            if why == "unconfirmed" and isinstance(entry.event, ConsentGiven) and entry.event.id in confirmed:
                why = ""
            shown.append(
                structs.replace(self._access.ids.with_entry_ids(self.show(entry)), opens_nothing=why)
            )
        return [entry for entry in shown if not kinds or entry.kind in kinds]

    def show(self, entry: Entry) -> HistoryEntry:
        """Return an entry with masked numbers and with the decision ids that clients see."""
        shown: HistoryEntry = self._access.masker(entry.controller).unseal(history_entry(entry))
        return self._access.ids.with_decision_ids(shown) if self._access.config.shared else shown

    async def consents(self, client: Client, controller: str, number: str) -> list[ConsentStanding]:
        """Return each consent for a number, with its state according to the rules."""
        owner, e164 = self._access.person(client, controller, number)
        subjects = [self._access.keys.subject(name, e164) for name in (owner.id, "*")]
        known = merge(*(await self._access.store.read(subjects)).known)
        used = {attempt.basis: attempt.at for attempt in known.attempts}
        lines = [line for line in self._access.config.lines.values() if line.controller.id == owner.id]
        situation = consent_state.Situation(
            at=self._access.clock(),
            law=self._access.config.laws[owner.country],
            controller=lines[0].controller if lines else Controller(id=owner.id),
            known=known,
            registries=self._registry_answers(owner.country, owner.id, e164),
            former_campaigns=CurrentNames.from_campaigns(owner.campaigns).former_campaigns(known),
        )
        campaigns = [line.campaign for line in lines]
        return [
            _standing(
                consent,
                used.get(f"consent:{consent.id}", 0),
                consent_state.state(consent, situation, campaigns),
            )
            for consent in known.consents
        ]


def history_entry(entry: Entry) -> HistoryEntry:
    """Convert a ledger entry to its API form. Numbers are not masked."""
    details = msgspec.to_builtins(entry.event)
    kind = details.pop("type")
    details = {
        name: local_time.rfc3339(value) if name in _INSTANTS else value for name, value in details.items()
    }
    return copy_fields(entry, HistoryEntry, at=local_time.rfc3339(entry.at), kind=kind, details=details)


def _standing(consent: Consent, used: Instant, state: ConsentState) -> ConsentStanding:
    instants = {
        name: local_time.rfc3339(at) if at else ""
        for name, at in structs.asdict(consent).items()
        if name.endswith("_at")
    }
    return copy_fields(
        consent,
        ConsentStanding,
        last_used_at=local_time.rfc3339(used) if used else "",
        reason=state.reason,
        refused_for=state.refused_for,
        **instants,
    )
