"""Revocations: recording, bulk import and lifting."""

from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, Final, TypeVar

from msgspec import structs

from dialgate.config.clients import Client
from dialgate.config.controllers import ControllerFile
from dialgate.core import local_time
from dialgate.core.ledger_events import Draft, Entry, Lifted, Revoked
from dialgate.core.ledger_state import fold, revocations
from dialgate.core.refusal import Refused
from dialgate.ledger import bulk_revocation, stop_requests
from dialgate.ledger.access import LedgerAccess
from dialgate.ledger.event_drafts import past
from dialgate.ledger.file_import import FileOrder, ImportedFile, NoteRow, import_file
from dialgate.ledger.import_reports import RevocationsReport
from dialgate.ledger.schemas import LiftRequest, Receipt, RevocationRequest, RevocationsRequest
from dialgate.lists import tabular

_R = TypeVar("_R", RevocationRequest, RevocationsRequest)
_WIDENED: Final = (
    "The controller has no campaign with this id. The revocation applies to all campaigns of the controller."
)


class Revocations:
    def __init__(self, access: LedgerAccess, steady: Callable[[], float]) -> None:
        self._access, self._steady = access, steady

    async def stop(self, client: Client, fields: Mapping[str, Any], *, once: bool = False) -> Receipt:
        """Write a revocation from a request whose form may have faults (`stop_requests`). See `revoke`."""
        ask, unread = stop_requests.read(RevocationRequest, fields)
        return await self.revoke(client, ask, unread, once=once)

    async def revoke(
        self, client: Client, ask: RevocationRequest, unread: str = "", *, once: bool = False
    ) -> Receipt:
        """Write a revocation of each number that the request can mean. Raises `Refused` and `StoreUnavailable`.

        The receipt is that of the last one. Its note begins with `unread`. With `once`, `proof` names an event: a revocation that
        was already recorded for it by this client, with the same scope, is not recorded again, even if it was lifted.
        """
        start = self._steady()
        drafts, note = self._drafts(client, ask)
        for draft, event in drafts:
            earlier = await self._find_recorded(draft, event) if once else None
            receipt = self._access.receipt(earlier.seq) if earlier else await self._access.write(draft)
        self._access.metrics.revocation_seconds.observe(self._steady() - start)
        return structs.replace(receipt, note=stop_requests.join(unread, note))

    def drafts(self, client: Client, fields: Mapping[str, Any]) -> tuple[list[Draft], str]:
        """Return the revocations that a request makes, and a note about it. Raises `Refused`. See `stop`.

        One without a time has the time 0, as in a file (`bulk_revocation`).
        """
        ask, unread = stop_requests.read(RevocationRequest, fields)
        drafts, note = self._drafts(client, ask)
        undated = [
            structs.replace(draft, event=structs.replace(event, at=0)) if event.at == draft.at else draft
            for draft, event in drafts
        ]
        return undated, stop_requests.join(unread, note)

    @staticmethod
    def file_kind(draft: Draft) -> bulk_revocation.RevocationFile:
        """Return the kind of file that a draft of `drafts` could be in."""
        event = draft.event
        assert isinstance(event, Revoked)
        return bulk_revocation.RevocationFile(event.scope, event.campaign, draft.channel)

    def receipt(self, draft: Draft, history: list[Entry], note: str) -> Receipt:
        """Return the receipt of the newest entry in `history` that has the effect of a draft of `drafts`."""
        kind = self.file_kind(draft)
        *_, seq = [stop.seq for stop in revocations(history) if kind.covers(structs.replace(stop, lifted=""))]
        return structs.replace(self._access.receipt(seq), note=note)

    def _drafts(self, client: Client, ask: RevocationRequest) -> tuple[list[tuple[Draft, Revoked]], str]:
        """Return the drafts for a request, with their events, and a note about it. Raises `Refused`."""
        controller = self._access.controller(client, ask.controller)
        ask, widened = self._in_scope(client, ask, controller)
        now = self._access.clock()
        owner = "*" if ask.scope == "everyone" else controller.id
        numbers = self._access.stopped_numbers(ask.number, controller)
        ask, ahead = stop_requests.no_later_than(ask, now)
        event = Revoked(at=past(ask.at, now, "at"), scope=ask.scope, campaign=_campaign(ask))
        for number in numbers:
            ask = self._access.masker(owner).mask(ask, number)
        several = stop_requests.SEVERAL if len(numbers) > 1 else ""
        drafts = [(self._access.draft(client, ask, owner, number, event, now), event) for number in numbers]
        return drafts, stop_requests.join(widened, ahead, several)

    async def _find_recorded(self, draft: Draft, event: Revoked) -> Entry | None:
        """Return the client's revocation of a number with the `proof` and scope of a draft, or None."""
        found = (
            entry
            for entry in await self._access.store.history(draft.subject)
            if isinstance(entry.event, Revoked)
            and (entry.actor, entry.proof) == (draft.actor, draft.proof)
            and (entry.event.scope, entry.event.campaign) == (event.scope, event.campaign)
        )
        if earlier := next(found, None):
            await self._access.store.append([])
        return earlier

    async def revoke_all(
        self,
        client: Client,
        ask: RevocationsRequest,
        file: IO[bytes],
        hints: tabular.Hints = tabular.NO_HINTS,
        note: NoteRow = lambda _: None,
    ) -> RevocationsReport:
        """Write a revocation for each number in a file. For a large file, use `file_jobs`.

        Call `note` with each row without a number. Raises `Refused` and `StoreUnavailable`.
        """
        controller = self._access.controller(client, ask.controller)
        ask, widened = self._in_scope(client, ask, controller)
        order = FileOrder(
            owner="*" if ask.scope == "everyone" else controller.id,
            home=controller.dial_regions(),
            channel=ask.channel,
            proof=ask.proof,
            actor=client.actor(ask.actor),
            now=self._access.clock(),
            skip_bad=True,
            hints=hints,
        )
        kind = bulk_revocation.RevocationFile(ask.scope, _campaign(ask), ask.channel)
        imported = await import_file(self._access, file, kind, order, note)
        counts = imported.counts
        return RevocationsReport(
            rows=imported.rows,
            revoked=imported.written,
            known=len(imported) - counts["duplicates"] - imported.written,
            duplicates=counts["duplicates"],
            refused=imported.problems,
            at=local_time.rfc3339(self._access.clock()),
            layout=imported.layout,
            doubtful=counts["doubtful"],
            reasons=imported.reasons,
            note=stop_requests.join(widened, *_notes(imported)),
        )

    @staticmethod
    def _in_scope(client: Client, ask: _R, controller: ControllerFile) -> tuple[_R, str]:
        """Return the request, and a note if it now covers more than requested. Raises `Refused`.

        A campaign that the controller does not have may have a new id. The person's objection is recorded for the whole
        controller instead of being lost (GDPR art. 21(3)).
        """
        if ask.scope == "everyone" and "admin" not in client.scopes:
            raise Refused(
                "auth.scope",
                "Only a client with `admin` in its `scopes` can revoke for `everyone`.",
                "scope",
                403,
            )
        known = {campaign.id for campaign in controller.campaigns}
        if ask.scope != "campaign" or ask.campaign in known:
            return ask, ""
        return structs.replace(ask, scope="controller"), _WIDENED

    async def lift(self, client: Client, entry_id: int, ask: LiftRequest) -> Receipt:
        """Lift the revocation with this entry id or sequence number.

        A repeated request returns the first receipt. A new consent lifts a revocation for every controller only for the
        controller to which it was given. Raises `Refused` and `StoreUnavailable`.
        """
        unknown = Refused(
            "revocation.unknown", "Revocation not found for this client. Check `seq`.", "seq", 404
        )
        entry, revoked = await self._access.entry_to_lift(client, entry_id, Revoked, unknown)
        if not ask.reason.strip():
            raise Refused("request.invalid", "Give a reason for lifting the revocation.", "reason")
        ask = self._access.masked_for(entry, ask)
        for earlier in await self._access.store.history(entry.subject):
            if (
                isinstance(earlier.event, Lifted)
                and earlier.event.of == entry.seq
                and not _is_for_another(entry, earlier.event, ask)
            ):
                await self._access.store.append([])
                return self._lifted_before(earlier, earlier.event, ask)
        if ask.ground == "new_consent":
            await self._check_new_consent(client, entry, revoked, ask)
        event = Lifted(of=entry.seq, ground=ask.ground, reason=ask.reason, consent=ask.consent)
        return await self._access.lift(client, entry, event, ask)

    def _lifted_before(self, earlier: Entry, event: Lifted, ask: LiftRequest) -> Receipt:
        if event.ground != ask.ground:
            raise Refused(
                "revocation.lifted",
                "This revocation was already lifted with a different `ground`. To get the receipt, send the original"
                " `ground`.",
                "ground",
                409,
            )
        return self._access.receipt(earlier.seq)

    async def _check_new_consent(
        self, client: Client, entry: Entry, revoked: Revoked, ask: LiftRequest
    ) -> None:
        """Raise `Refused` unless the new consent is proved, in force and later than the revocation."""
        subject = entry.subject
        if entry.controller == "*":
            owner = self._access.controller(client, ask.controller)
            subject = self._access.keys.subject(owner.id, self._access.keys.ledger.unseal(entry.sealed))
        for consent in fold(await self._access.store.history(subject)).consents:
            if consent.id != ask.consent:
                continue
            is_unconfirmed = consent.double_opt_in and not consent.confirmed_at
            has_expired = 0 < consent.expires_at <= self._access.clock()
            is_void = consent.withdrawn_at or consent.voided_at or is_unconfirmed or has_expired
            if consent.collected_at <= revoked.at or not consent.proved or is_void:
                raise Refused(
                    "request.invalid",
                    "Name a consent that was collected after the revocation, has proof, and is in force.",
                    "consent",
                )
            return
        raise Refused("ledger.unknown", "Consent not found. Record the new consent first.", "consent", 404)


def _is_for_another(entry: Entry, earlier: Lifted, ask: LiftRequest) -> bool:
    """Return whether a revocation for every controller was lifted earlier, for another consent than the requested lift."""
    return entry.controller == "*" and earlier.ground == "new_consent" and earlier.consent != ask.consent


def _notes(stops: ImportedFile) -> Iterator[str]:
    if doubtful := stops.counts["doubtful"]:
        yield (
            f"The numbers in {doubtful:,} cells can be read in several ways, for example because Excel dropped a zero or a"
            " plus: every number that they can mean is revoked."
        )
    if undated := stops.counts["undated"]:
        yield (
            f"The times in {undated:,} rows cannot be read or lie in the future: these revocations are in force from now."
        )
    if stops.first is not None:
        yield f"{stops.problems:,} rows have no readable number and were skipped. Line {stops.first.line:,}: {stops.first.problem}."


def _campaign(ask: RevocationRequest | RevocationsRequest) -> str:
    """Return the campaign in a request, or "" if the scope is wider than one campaign."""
    return ask.campaign if ask.scope == "campaign" else ""
