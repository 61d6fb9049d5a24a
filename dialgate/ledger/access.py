"""Access to the ledger for one client: permission checks, writes and receipts.

Every write names its actor and is durable when it is acknowledged. A client can neither see nor change entries for
other clients' controllers. Responses do not reveal that such entries exist.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.config.controllers import ControllerFile, Line
from dialgate.core import local_time, phone
from dialgate.core.ledger_events import Draft, Entry, Event
from dialgate.core.model import Instant
from dialgate.core.name_suggestions import choose
from dialgate.core.refusal import Refused
from dialgate.core.struct_copies import copy_fields
from dialgate.crypto.keys import Keys
from dialgate.crypto.masking import Masker
from dialgate.crypto.nonces import nonces
from dialgate.ledger import stop_requests
from dialgate.ledger.host_gate import Append
from dialgate.ledger.ids import ClientIds
from dialgate.ledger.schemas import Receipt, Request
from dialgate.ledger.suppression_feed import Notices
from dialgate.observability.metrics import Metrics
from dialgate.store import Store
from dialgate.store.encoded_entries import AnyDraft, kind_of

E = TypeVar("E", bound=Event)
R = TypeVar("R", bound=Request)


class LedgerAccess:
    """The ledger's configuration, keys and store, with the checks that all ledger modules share."""

    def __init__(
        self,
        config: Config,
        keys: Keys,
        store: Store,
        clock: Callable[[], Instant],
        metrics: Metrics,
        append_all: Append | None = None,
    ) -> None:
        """Open the ledger. Entries are written with `append_all`, or to the store if there is none."""
        self.reload(config)
        self.keys, self.store, self.clock, self.metrics = keys, store, clock, metrics
        self.notices = Notices(store, keys)
        self._append: Append = append_all or store.append
        self.ids = ClientIds(keys, self.notices, lambda: self.config)
        self._nonces = nonces()

    def reload(self, config: Config) -> None:
        self.config = config
        # Computing these for each of the many requests in a body took as long as reading its number.
        self._homes = {name: owner.dial_regions() for name, owner in config.controllers.items()}
        self.sectors = {country: config.sectors_of(country) for country in config.laws}

    def controller(self, client: Client, name: str) -> ControllerFile:
        """Return the controller that a request names. Raises `Refused`.

        `name` may be empty if the client has only one controller.
        """
        if not name and len(client.controllers) == 1:
            name = client.controllers[0]
        if name not in client.controllers or name not in self.config.controllers:
            known = set(client.controllers) & self.config.controllers.keys()
            raise Refused(
                "controller.unknown", choose("Use one of your controllers", known), "controller", 404
            )
        return self.config.controllers[name]

    def number(self, raw: str, controller: ControllerFile) -> str:
        """Return the number `raw` in E.164 format. Raises `Refused`."""
        try:
            return phone.parse(raw, self._homes[controller.id]).e164
        except phone.NotANumber as problem:
            raise _invalid(problem) from problem

    @staticmethod
    def stopped_numbers(raw: str, controller: ControllerFile) -> list[str]:
        """Return every number in E.164 format that a request to stop calls can mean. Raises `Refused` if there is none."""
        try:
            return sorted(stop_requests.numbers(raw, controller.dial_regions()))
        except phone.NotANumber as problem:
            raise _invalid(problem) from problem

    def person(self, client: Client, controller: str, number: str) -> tuple[ControllerFile, str]:
        """Return the controller and the E.164 number that a request names. Raises `Refused`."""
        owner = self.controller(client, controller)
        return owner, self.number(number, owner)

    def line(self, client: Client, campaign: str) -> Line:
        """Return one of the client's campaigns, with its controller and caller IDs. Raises `Refused`."""
        line = self.config.line_of(campaign, client)
        if line is None:
            known = self.config.campaigns_of(client)
            raise Refused("campaign.unknown", choose("Use one of your campaigns", known), "campaign", 404)
        return line

    def may(self, client: Client, entry: Entry) -> bool:
        """Return whether a client may see and change an entry.

        Entries that bind every controller require the `admin` scope.
        """
        return entry.controller in client.controllers or (
            entry.controller == "*" and "admin" in client.scopes
        )

    async def entry_to_lift(
        self, client: Client, entry_id: int, kind: type[E], unknown: Refused
    ) -> tuple[Entry, E]:
        """Return the client's ledger entry with this id or sequence number, and the event in the entry.

        Raises `StoreUnavailable`. Raises `unknown` if the client has no entry with this id, or if the event is not an
        instance of `kind`.
        """
        seq = self.ids.entry_seq(entry_id)
        entry = next(iter(await self.store.since(seq - 1, 1)), None)
        if (
            entry is None
            or entry.seq != seq
            or not isinstance(entry.event, kind)
            or not self.may(client, entry)
        ):
            raise unknown
        return entry, entry.event

    def masked_for(self, entry: Entry, ask: R) -> R:
        """Return a copy of the request in which the entry's number is masked in all texts."""
        if not entry.sealed:
            return ask
        return self.masker(entry.controller).mask(ask, self.keys.ledger.unseal(entry.sealed))

    async def lift(self, client: Client, entry: Entry, event: Event, ask: Request) -> Receipt:
        """Write the event that lifts an entry. Raises `StoreUnavailable`."""
        actor, now = client.actor(ask.actor), self.clock()
        return await self.write(
            copy_fields(entry, Draft, at=now, event=event, actor=actor, channel=ask.channel, proof=ask.proof)
        )

    def draft(
        self, client: Client, ask: Request, owner: str, number: str, event: Event, now: Instant
    ) -> Draft:
        """Return an entry about a number. `owner` is a controller, or `*` for all controllers."""
        return Draft(
            at=now,
            controller=owner,
            subject=self.keys.subject(owner, number),
            event=event,
            actor=client.actor(ask.actor),
            channel=ask.channel,
            proof=ask.proof,
            sealed=self.seal(number),
        )

    def call_draft(self, client: Client, controller: str, subject: bytes, event: Event, proof: str) -> Draft:
        return Draft(
            at=self.clock(),
            controller=controller,
            subject=subject,
            event=event,
            actor=client.name,
            channel="call",
            proof=proof,
        )

    async def write(self, draft: Draft) -> Receipt:
        """Append an entry durably and return its receipt. Raises `StoreUnavailable`."""
        return self.receipt((await self.append_all([draft]))[0])

    async def append_all(self, drafts: Sequence[AnyDraft]) -> Sequence[int]:
        """Append entries durably and return their sequence numbers. Raises `StoreUnavailable`."""
        seqs = await self._append(drafts)
        for kind, count in Counter(map(kind_of, drafts)).items():
            self.metrics.ledger.labels(kind).inc(count)
        self.notices.wake()
        return seqs

    def receipt(self, seq: int) -> Receipt:
        return Receipt(self.ids.entry_id(seq), local_time.rfc3339(self.clock()))

    def masker(self, owner: str) -> Masker:
        return Masker(self.keys, owner)

    def seal(self, number: str) -> bytes:
        return self.keys.ledger.seal(number, next(self._nonces))


def _invalid(problem: phone.NotANumber) -> Refused:
    return Refused("number.invalid", f"The number {problem}. Write it like +390612345600.", "number")
