"""Proofs that a caller ID can be called back."""

from dialgate.config.clients import Client
from dialgate.core import ineffective_entries, phone
from dialgate.core.refusal import Refused
from dialgate.ledger.access import LedgerAccess
from dialgate.ledger.activation import Activation
from dialgate.ledger.event_drafts import past
from dialgate.ledger.schemas import CallerIdProofRequest, ProofReceipt
from dialgate.store import CallerIdProof


class CallerIdWriter:
    def __init__(self, access: LedgerAccess, activation: Activation) -> None:
        self._access, self._activation = access, activation

    async def prove_caller_id(self, client: Client, ask: CallerIdProofRequest) -> ProofReceipt:
        """Record a call-back proof for a caller ID. On return, this node's gates use the proof.

        Raises `Refused` and `Unavailable`.
        """
        controller = self._access.controller(client, ask.controller)
        shown = phone.parse_caller_id(ask.caller_id, controller.country)
        if shown.form != "number":
            raise Refused(
                "caller_id.invalid", "Send the number with a plus sign and the country code.", "caller_id"
            )
        now = self._access.clock()
        proof = CallerIdProof(
            controller=controller.id,
            caller_id=shown.number,
            at=past(ask.at, now, "at"),
            kind=ask.kind,
            answered=ask.answered,
            evidence=ask.evidence or ask.proof,
            actor=client.actor(ask.actor),
        )
        await self._access.store.put_proof(proof)
        return ProofReceipt(await self._activation.put_in_force(), self._note_on(proof))

    def _note_on(self, proof: CallerIdProof) -> str:
        """Return a note if none of the controller's campaigns presents the number, or an empty string."""
        lines = [
            line for line in self._access.config.lines.values() if line.controller.id == proof.controller
        ]
        shown = {number for line in lines for number in line.caller_ids}
        return ineffective_entries.sentence(
            "caller_id" if proof.answered and proof.caller_id not in shown else "", (), shown
        )
