"""Wrong-number reports: a call reached someone else, so what was given for the number no longer opens calls."""

from msgspec import structs

from dialgate.config.clients import Client
from dialgate.core.ledger_events import Draft, NumberConfirmed, NumberWrong
from dialgate.core.refusal import Refused
from dialgate.ledger.access import LedgerAccess
from dialgate.ledger.schemas import NumberConfirmation, Receipt


class WrongNumbers:
    """Writes and lifts wrong-number reports."""

    def __init__(self, access: LedgerAccess) -> None:
        self._access = access

    async def report(
        self, client: Client, controller: str, number: str, subject: bytes, decision: str
    ) -> Receipt:
        """Write a wrong-number report of a call. A repeated report of a decision returns the first receipt, also after it
        was lifted. `number` is empty if only the `subject` is known."""
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

    async def confirm_number(self, client: Client, given: int, ask: NumberConfirmation) -> Receipt:
        """Lift the wrong-number report of ledger entry `given`, its id or its sequence. Repeating it returns the first
        receipt. Raises `Refused`, `StoreUnavailable`."""
        seq = self._access.ids.entry_seq(given)
        entry = next(iter(await self._access.store.since(seq - 1, 1)), None)
        if (
            entry is None
            or entry.seq != seq
            or not isinstance(entry.event, NumberWrong)
            or not self._access.may(client, entry)
        ):
            raise Refused("ledger.unknown", "Wrong-number report not found. Check `seq`.", "seq", 404)
        if not ask.reason.strip():
            raise Refused("request.invalid", "Say why the report is lifted.", "reason")
        if entry.sealed:
            ask = self._access.masker(entry.controller).masked(
                ask, self._access.keys.ledger.unseal(entry.sealed)
            )
        for earlier in await self._access.store.history(entry.subject):
            if isinstance(earlier.event, NumberConfirmed) and earlier.event.of == seq:
                await self._access.store.append([])
                return self._access.receipt(earlier.seq)
        draft = Draft(
            at=self._access.clock(),
            controller=entry.controller,
            subject=entry.subject,
            event=NumberConfirmed(of=seq, ground=ask.ground, reason=ask.reason),
            actor=ask.actor or client.name,
            channel=ask.channel,
            proof=ask.proof,
            sealed=entry.sealed,
        )
        return await self._access.write(draft)
