"""Wrong-number reports, which end the effect of earlier consents for a number."""

from msgspec import structs

from dialgate.config.clients import Client
from dialgate.core.ledger_events import NumberConfirmed, NumberWrong
from dialgate.core.refusal import Refused
from dialgate.ledger.access import LedgerAccess
from dialgate.ledger.schemas import NumberConfirmation, Receipt


class WrongNumbers:
    def __init__(self, access: LedgerAccess) -> None:
        self._access = access

    async def report(
        self, client: Client, controller: str, number: str, subject: bytes, decision: str
    ) -> Receipt:
        """Write a wrong-number report about a call and return its receipt.

        `decision` is the id of the decision that permitted the call. `number` is empty if only the `subject` is
        known. If the call was already reported, return the first receipt, even if the report was lifted.
        """
        if number:
            subject = self._access.keys.subject(controller, number)
        for entry in await self._access.store.history(subject):
            if isinstance(entry.event, NumberWrong) and entry.event.decision == decision:
                await self._access.store.append([])
                return self._access.receipt(entry.seq)
        event = NumberWrong(at=self._access.clock(), decision=decision)
        draft = self._access.call_draft(client, controller, subject, event, f"decision:{decision}")
        sealed = self._access.seal(number) if number else b""
        return await self._access.write(structs.replace(draft, sealed=sealed))

    async def confirm_number(self, client: Client, entry_id: int, ask: NumberConfirmation) -> Receipt:
        """Lift the wrong-number report with this entry id or sequence number.

        A repeated request returns the first receipt. Raises `Refused` and `StoreUnavailable`.
        """
        unknown = Refused("ledger.unknown", "Wrong-number report not found. Check `seq`.", "seq", 404)
        entry, _ = await self._access.entry_to_lift(client, entry_id, NumberWrong, unknown)
        if not ask.reason.strip():
            raise Refused("request.invalid", "Give a reason for lifting the report.", "reason")
        ask = self._access.masked_for(entry, ask)
        for earlier in await self._access.store.history(entry.subject):
            if isinstance(earlier.event, NumberConfirmed) and earlier.event.of == entry.seq:
                await self._access.store.append([])
                return self._access.receipt(earlier.seq)
        event = NumberConfirmed(of=entry.seq, ground=ask.ground, reason=ask.reason)
        return await self._access.lift(client, entry, event, ask)
