"""Call lists, caller-ID proofs, webhook deliveries, pauses of campaigns, nodes' month keys, legal holds, accounts, keys of clients, breaches, acknowledged changes of law and reports by mail: JSON documents that every engine stores alike.

A document is replaced as a whole. Its kind and its key are the table and the row, or the hash and its field. The stored
names of kinds and keys, and the fields of the structs, are the format: new fields go last, with a default.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

import msgspec
from msgspec import Struct, structs

from dialgate.core.model import Instant
from dialgate.store.accounts import PersonAccount
from dialgate.store.breaches import StoredBreach
from dialgate.store.call_lists import CallerIdProof, CallList
from dialgate.store.campaign_counts import PauseLift
from dialgate.store.campaign_pauses import CampaignPause
from dialgate.store.client_keys import ClientKeys
from dialgate.store.deliveries import Delivery
from dialgate.store.faults import StoreUnavailable
from dialgate.store.law_acknowledgements import LawAcknowledgement
from dialgate.store.report_mails import ReportDelivery

DocumentKind: TypeAlias = Literal[
    "lists", "proofs", "deliveries", "lifts", "months", "holds", "pauses", "accounts", "clients", "breaches",
    "law_read", "report_mails",
]  # fmt: skip
T = TypeVar("T")
_encode: Final = msgspec.json.Encoder().encode


class SealedMonths(Struct, frozen=True):
    sealed: bytes


class StoredHold(Struct, frozen=True, kw_only=True):
    """A legal hold, as in `dialgate.audit.legal_holds`. `number` is encrypted, and empty once the hold is lifted."""

    number: bytes
    at: Instant
    by: str
    reason: str
    lifted_at: Instant = 0
    lifted_by: str = ""
    lifted_because: str = ""

    @property
    def changed_at(self) -> Instant:
        return max(self.at, self.lifted_at)


class DocumentSwap(NamedTuple):
    """A change of the document with this key, from `before` (None: there is none) to `after`."""

    key: str
    before: bytes | None
    after: bytes


class StoredDocuments(Protocol):
    """Documents as an engine stores them. An engine implements the first four methods."""

    @abstractmethod
    async def _documents(self, kind: DocumentKind) -> Mapping[str, bytes]:
        """Return all documents of a kind, by key."""

    @abstractmethod
    async def _document(self, kind: DocumentKind, key: str) -> bytes | None:
        """Return one document, or None if there is none."""

    @abstractmethod
    async def _swap_documents(self, kind: DocumentKind, swaps: Sequence[DocumentSwap]) -> bool:
        """Store all documents durably, or none if one is no longer as it was before. Return whether they were stored."""

    @abstractmethod
    async def _put_document(self, kind: DocumentKind, key: str, body: bytes) -> None:
        """Store a document. A failover may lose it."""

    async def _all(self, kind: DocumentKind, type_: type[T]) -> dict[str, T]:
        documents = await self._documents(kind)
        return {key: _decode(body, type_) for key, body in documents.items()}

    async def _one(self, kind: DocumentKind, key: str, type_: type[T]) -> T | None:
        body = await self._document(kind, key)
        return _decode(body, type_) if body else None

    async def _change(
        self, kind: DocumentKind, key: str, type_: type[T], changed: Callable[[T | None], T | None]
    ) -> T | None:
        """Store what `changed` makes of the present document, and return it. None changes nothing. No other change gets between."""
        while True:
            before = await self._document(kind, key)
            after = changed(_decode(before, type_) if before else None)
            if after is None or await self._swap_documents(kind, [DocumentSwap(key, before, _encode(after))]):
                return after


class Documents(StoredDocuments, Protocol):
    """The documents of one store, but accounts and keys of clients."""

    # ---- call lists --------------------------------------------------------------------------------------------------

    async def lists(self) -> list[CallList]:
        return [found for _, found in sorted((await self._all("lists", CallList)).items())]

    async def add_list(self, call_list: CallList, replaces: str = "") -> bool:
        """Add a list and retire the one that it replaces, in one step.

        Return False and write nothing if the controller already has a list with this id, or if it has no list
        `replaces` in force. The ids of retired lists cannot be reused.
        """
        key, replaced = (f"{call_list.controller}\0{name}" for name in (call_list.id, replaces))
        while await self._document("lists", key) is None:
            swaps = [DocumentSwap(key, None, _encode(call_list))]
            if replaces:
                body = await self._document("lists", replaced)
                if body is None or (old := _decode(body, CallList)).retired_at:
                    return False
                after = _encode(structs.replace(old, retired_at=call_list.loaded_at))
                swaps.append(DocumentSwap(replaced, body, after))
            if await self._swap_documents("lists", swaps):
                return True
        return False

    async def replace_list(self, call_list: CallList, sha256: str) -> bool:
        """Replace the file of a list, but only if its current checksum is `sha256`.

        Other fields are unchanged.
        """

        def changed(current: CallList | None) -> CallList | None:
            if current is None or current.sha256 != sha256:
                return None
            return structs.replace(
                current, file=call_list.file, sha256=call_list.sha256, numbers=call_list.numbers
            )

        key = f"{call_list.controller}\0{call_list.id}"
        return await self._change("lists", key, CallList, changed) is not None

    async def retire_list(self, controller: str, name: str, at: Instant) -> CallList | None:
        """Retire a list and return it, or return None if it does not exist.

        A list that is already retired keeps its original retirement time.
        """

        def changed(current: CallList | None) -> CallList | None:
            return current and structs.replace(current, retired_at=current.retired_at or at)

        return await self._change("lists", f"{controller}\0{name}", CallList, changed)

    # ---- proofs, deliveries and lifted pauses ------------------------------------------------------------------------

    async def proofs(self) -> list[CallerIdProof]:
        """Return the newest proof for each pair of controller and caller ID."""
        return list((await self._all("proofs", CallerIdProof)).values())

    async def put_proof(self, proof: CallerIdProof) -> None:
        def changed(before: CallerIdProof | None) -> CallerIdProof | None:
            return None if before and before.at > proof.at else proof

        await self._change("proofs", f"{proof.controller}\0{proof.caller_id}", CallerIdProof, changed)

    async def deliveries(self) -> list[Delivery]:
        return list((await self._all("deliveries", Delivery)).values())

    async def put_delivery(self, delivery: Delivery) -> None:
        await self._put_document("deliveries", delivery.webhook, _encode(delivery))

    async def pause_lifts(self) -> list[PauseLift]:
        """Return all lifted pauses, oldest first."""
        lifts = await self._all("lifts", PauseLift)
        return sorted(lifts.values(), key=lambda lift: (lift.at, lift.campaign))

    async def lift_pause(self, lift: PauseLift) -> None:
        await self._change("lifts", f"{lift.campaign}\0{lift.at}", PauseLift, lambda _: lift)

    # ---- month keys of the nodes on a shared store -------------------------------------------------------------------

    async def sealed_months(self) -> dict[str, bytes]:
        """Return the keys that each node published, encrypted by `Keys.publish`, by the name of the node's log."""
        months = await self._all("months", SealedMonths)
        return {log: published.sealed for log, published in months.items()}

    async def put_sealed_months(self, log: str, sealed: bytes) -> None:
        await self._change("months", log, SealedMonths, lambda _: SealedMonths(sealed))

    # ---- legal holds of the gates on a shared store ------------------------------------------------------------------

    async def holds(self) -> dict[str, StoredHold]:
        """Return the newest hold on each number, also if it was lifted, by a hash of the number."""
        return await self._all("holds", StoredHold)

    async def put_hold(self, key: str, hold: StoredHold) -> None:
        """Store a hold, unless the stored one changed later."""

        def changed(before: StoredHold | None) -> StoredHold | None:
            return None if before and before.changed_at > hold.changed_at else hold

        await self._change("holds", key, StoredHold, changed)


class CampaignPauses(Documents, Protocol):
    """The documents, and supervisors' pauses of campaigns among them. An engine inherits this class."""

    async def campaign_pauses(self) -> dict[tuple[str, str], CampaignPause]:
        """Return the newest pause of each campaign, by controller and campaign."""
        pauses = await self._all("pauses", CampaignPause)
        return {(pause.controller, pause.campaign): pause for pause in pauses.values()}

    async def put_pause(self, pause: CampaignPause) -> bool:
        """Store a pause, or its end, unless the stored one is as new. Return whether it was stored."""

        def changed(before: CampaignPause | None) -> CampaignPause | None:
            return None if before and before.changed_at >= pause.changed_at else pause

        key = f"{pause.controller}\0{pause.campaign}"
        return await self._change("pauses", key, CampaignPause, changed) is not None


class PersonAccounts(StoredDocuments, Protocol):
    """The accounts of the people who use the gates on one store. An engine inherits this class."""

    async def accounts(self) -> list[PersonAccount]:
        """Return all accounts, also disabled ones, by name. No account is ever deleted."""
        return [found for _, found in sorted((await self._all("accounts", PersonAccount)).items())]

    async def account(self, name: str) -> PersonAccount | None:
        return await self._one("accounts", name, PersonAccount)

    async def change_account(
        self, name: str, changed: Callable[[PersonAccount | None], PersonAccount | None]
    ) -> PersonAccount | None:
        """Store what `changed` makes of the present account, and return it. None changes nothing.

        No other change gets between: what `changed` compares, such as the last one-time code, still holds at the write.
        """
        return await self._change("accounts", name, PersonAccount, changed)


class KeysOfClients(StoredDocuments, Protocol):
    """The keys of programs that use the gates on one store. An engine inherits this class."""

    async def client_keys(self) -> dict[str, ClientKeys]:
        """Return the keys of all clients, also disabled ones, by client."""
        return await self._all("clients", ClientKeys)

    async def change_client_keys(
        self, client: str, changed: Callable[[ClientKeys], ClientKeys]
    ) -> ClientKeys:
        """Store what `changed` makes of a client's present keys, and return it. No other change gets between."""
        keys = await self._change(
            "clients", client, ClientKeys, lambda before: changed(before or ClientKeys(client=client))
        )
        assert keys is not None
        return keys


class OfficerDocuments(StoredDocuments, Protocol):
    """What data-protection officers record, and the reports that they get. An engine inherits this class, too."""

    async def law_acknowledgements(self) -> list[LawAcknowledgement]:
        return list((await self._all("law_read", LawAcknowledgement)).values())

    async def add_law_acknowledgement(self, read: LawAcknowledgement) -> None:
        """Store an acknowledgement, unless there is one of the same changes."""
        await self._change("law_read", read.key, LawAcknowledgement, lambda before: None if before else read)

    async def report_deliveries(self) -> dict[str, ReportDelivery]:
        """Return what was sent of each schedule, by its name."""
        return await self._all("report_mails", ReportDelivery)

    async def change_report_delivery(self, before: ReportDelivery, after: ReportDelivery) -> bool:
        """Store what was sent of a schedule, unless it is no longer `before`. Return whether it was stored."""

        def changed(found: ReportDelivery | None) -> ReportDelivery | None:
            present = found or ReportDelivery(schedule=before.schedule)
            return after if present == before else None

        return await self._change("report_mails", before.schedule, ReportDelivery, changed) is not None

    async def breaches(self) -> list[StoredBreach]:
        """Return all breaches. None is ever deleted."""
        return list((await self._all("breaches", StoredBreach)).values())

    async def breach(self, name: str) -> StoredBreach | None:
        return await self._one("breaches", name, StoredBreach)

    async def change_breach(
        self, name: str, changed: Callable[[StoredBreach | None], StoredBreach | None]
    ) -> StoredBreach | None:
        """Store what `changed` makes of the present breach, and return it. None changes nothing."""
        return await self._change("breaches", name, StoredBreach, changed)


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as fault:
        raise StoreUnavailable(
            f"a {kind.__name__} in the store was written by a newer dialgate: install that version ({fault})"
        ) from fault
