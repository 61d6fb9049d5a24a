"""Call results, as reported by dialers.

An opt-out is also recorded as a revocation. A wrong number is also recorded as a wrong-number report.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog
from msgspec import structs

from dialgate.config import content_store
from dialgate.config.clients import Client
from dialgate.config.controllers import Line
from dialgate.core.faults import Unavailable
from dialgate.core.ledger_events import Revoked
from dialgate.core.model import RESULT_RANK
from dialgate.core.refusal import Refused
from dialgate.decision_log import span
from dialgate.decision_log.chains import Chains
from dialgate.ledger import stop_requests
from dialgate.ledger.access import LedgerAccess
from dialgate.ledger.host_gate import HostGate
from dialgate.ledger.revocations import Revocations
from dialgate.ledger.schemas import OutcomeReceipt, OutcomeRequest, Receipt, RevocationRequest
from dialgate.ledger.wrong_numbers import WrongNumbers
from dialgate.runtime.thread_pool import ThreadPool

_IN_LEDGER = frozenset({"opt_out", "wrong_number"})  # results that write a ledger entry
_COPY_SECONDS: Final = 2  # a share that does not answer delays a stop no longer
_log = structlog.get_logger(__name__)


class Outcomes:
    def __init__(
        self,
        access: LedgerAccess,
        revocations: Revocations,
        wrong_numbers: WrongNumbers,
        threads: ThreadPool,
        gate: HostGate,
    ) -> None:
        self._access, self._revocations, self._wrong_numbers = access, revocations, wrong_numbers
        self._threads, self._gate = threads, gate
        self._copies = ThreadPool("shipped-calls", 1)  # may wait for a share for ever

    def close(self) -> None:
        self._copies.close()

    async def opt_out(
        self, client: Client, fields: Mapping[str, Any], *, once: bool = False
    ) -> OutcomeReceipt:
        """Record an opt-out from a request whose form may have faults (`stop_requests`). See `result`."""
        ask, unread = stop_requests.read(OutcomeRequest, fields)
        receipt = await self.result(client, ask, once=once)
        if receipt.revocation is None:
            return receipt
        note = stop_requests.join(receipt.revocation.note, unread)
        return structs.replace(receipt, revocation=structs.replace(receipt.revocation, note=note))

    async def result(self, client: Client, ask: OutcomeRequest, *, once: bool = False) -> OutcomeReceipt:
        """Record the result of a permitted call, or an opt-out from any call. Raises `Refused` and `Unavailable`.

        `opt_out` also writes a revocation for the controller. `wrong_number` also writes a wrong-number report. From
        then on, calls can no longer rely on earlier consents, contracts and call requests. Both entries take effect at
        once. With `once`, a repeated `opt_out` of a call writes no second revocation.
        """
        public_id = ask.decision_id
        ask = structs.replace(ask, decision_id=self._access.ids.inside(client, public_id))
        is_id = span.sequence(ask.decision_id) is not None
        row = await self._access.store.attempt(ask.decision_id) if is_id else None
        if row is None:
            if not (is_id and ask.outcome == "opt_out"):
                raise _unknown_decision()
            return OutcomeReceipt(public_id, ask.outcome, await self._stop_uncounted(client, ask, once=once))
        if self._gate.log is None:
            raise Refused(
                "request.invalid",
                "Only a running gate records outcomes. Send the outcome to it.",
                "decision_id",
            )
        subject, attempt = row
        line = self._access.config.lines.get(attempt.campaign)
        is_proven = self._access.ids.proves_owner(client, public_id)
        owner, number = await self._find_person(client, ask, subject, line, is_proven=is_proven)
        stricter = RESULT_RANK[ask.outcome] >= RESULT_RANK[attempt.result]
        if not stricter and ask.outcome not in _IN_LEDGER:
            raise Refused(
                "outcome.known", f"This call was already reported as {attempt.result}.", "outcome", 409
            )
        stop = wrong = None
        if ask.outcome == "opt_out":
            proof = f"decision:{ask.decision_id}"
            stop = await self._revoke(client, owner, number, subject, proof, once=once)
        elif ask.outcome == "wrong_number":
            wrong = await self._wrong_numbers.report(client, owner, number, subject, ask.decision_id)
        if stricter:
            await self._access.store.result(ask.decision_id, ask.outcome, self._access.clock())
        await self._gate.log.result(ask.decision_id, ask.outcome, client.name)
        self._access.metrics.results.reported(line.campaign.id if line else "other", ask.outcome)
        return OutcomeReceipt(public_id, ask.outcome, stop, wrong)

    async def _stop_uncounted(self, client: Client, ask: OutcomeRequest, *, once: bool) -> Receipt:
        """Record an opt-out from a call that was denied and still made, or whose attempt is no longer stored.

        The person objects to calls whether or not this one was permitted (GDPR art. 21(3)).
        """
        decision = ask.decision_id
        call = await self.called_here(decision) or await self._gate.find_call_elsewhere(decision)
        if call is None or call[0] not in client.controllers:
            raise _unknown_decision()
        owner, number = call
        stop = RevocationRequest(
            controller=owner, number=number, channel="call", proof=f"decision:{decision}"
        )
        return await self._revocations.revoke(client, stop, once=once)

    async def _find_person(
        self, client: Client, ask: OutcomeRequest, subject: bytes, line: Line | None, *, is_proven: bool
    ) -> tuple[str, str]:
        """Return the controller and the called number of a call.

        `is_proven` is true if the decision id that the client sent proves that the decision belongs to the client.
        The number can be empty if the result needs no ledger entry, or if no reachable gate has a record of the call.
        Raises `Refused` and `Unavailable`.
        """
        owner, number = line.controller.id if line else "", ""
        is_own = owner in client.controllers
        if ask.outcome in _IN_LEDGER or not is_own:
            # The campaign may have a different controller now. The result is for the controller at the time of the call.
            try:
                owner, number = await self._find_call(ask.decision_id, subject)
            except Unavailable:
                if not is_own and not is_proven:
                    raise _unknown_decision() from None  # do not reveal that the decision exists
                if line is None or await self._threads.run(self._changed_controller, line.campaign.id):
                    raise  # the subject's hash belongs to the former controller
        if owner not in client.controllers:
            raise _unknown_decision()
        return owner, number

    async def _revoke(
        self, client: Client, controller: str, number: str, subject: bytes, proof: str, *, once: bool
    ) -> Receipt:
        """Record a revocation for the called number.

        An empty `number` means that only the hash of the number, `subject`, is known. Subscribers then receive
        no notice.
        """
        if number:
            stop = RevocationRequest(controller=controller, number=number, channel="call", proof=proof)
            return await self._revocations.revoke(client, stop, once=once)
        now = self._access.clock()
        receipt = await self._access.write(
            self._access.call_draft(client, controller, subject, Revoked(at=now), proof)
        )
        _log.warning(
            "a revocation is in force, but its number is unknown: subscribers get no notice",
            entry=self._access.ids.entry_seq(receipt.seq),
        )
        return receipt

    def _changed_controller(self, campaign: str) -> bool:
        """Return whether archived configurations assign the campaign to several controllers."""
        return len(content_store.owners(self._access.config.data / "kept", campaign)) > 1

    async def _find_call(self, decision: str, subject: bytes) -> tuple[str, str]:
        """Return the controller and the number of a call, whose subject is that of the attempt.

        Raises `Unavailable` if no reachable gate has a record of the decision.
        """
        call = (
            await self.called_here(decision)
            or await self._find_copy(decision, subject)
            or await self._gate.find_call_elsewhere(decision)
        )
        if call is None:
            raise Unavailable(
                f"no reachable gate has the record of decision {decision}; start the gate that decided it"
            )
        return call

    async def called_here(self, decision: str) -> tuple[str, str] | None:
        """Return the controller and number of a call whose decision is in a log of this gate, or None."""
        return await self._threads.run(self._read_call, decision, None)

    async def _find_copy(self, decision: str, subject: bytes) -> tuple[str, str] | None:
        """Return the controller and number of a call whose decision another gate shipped, or None.

        A copy can be modified, or on a share that does not answer. It must not lead to a stop of another number, or delay one.
        """
        if (shipped := self._access.config.shipped) is None:
            return None
        with suppress(Unavailable, OSError, TimeoutError):
            async with asyncio.timeout(_COPY_SECONDS):
                call = await self._copies.run(self._read_call, decision, shipped)
            if call is not None and self._access.keys.subject(*call) == subject:
                return call
        return None

    def _read_call(self, decision: str, shipped: Path | None) -> tuple[str, str] | None:
        chains = Chains(self._access.config.data, shipped)
        if (entry := chains.find(decision)) is None:
            return None
        number = chains.month_keys(entry.record).called_number(entry.record.sealed)
        return entry.record.facts.controller.id, number


def _unknown_decision() -> Refused:
    text = "Decision not found for this client. Send the `decision_id` of an allow, or of any decision to report an `opt_out`."
    return Refused("decision.unknown", text, "decision_id", 404)
