"""The caller ID of a call: what was presented, whether the campaign may present it, and what the log may store of it."""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, structs

from dialgate.config.controllers import Line
from dialgate.core import phone
from dialgate.core.law import Law
from dialgate.core.model import CallerId
from dialgate.crypto import redaction
from dialgate.store import CallerIdProof

_REMEMBERED = 10_000


class Shown(Struct, frozen=True):
    """`fact` is what the rules see and the log stores; `number` is the number in full.

    `sealed`: it is not assigned to the campaign, so it may be anybody's number, as where a dialer swaps the two. Then
    `fact` holds at most the prefix of a reserved class."""

    fact: CallerId
    number: str
    sealed: bool


class CallerIds:
    """The caller IDs of one configuration, with their call-back proofs."""

    def __init__(self, laws: Iterable[Law]) -> None:
        self._proofs: dict[tuple[str, str], CallerIdProof] = {}
        self._shown: dict[tuple[str, str, str], Shown] = {}
        self._sealed_facts: dict[CallerId, CallerId] = {}  # equal facts are one object, and are judged once
        classes = (each for law in laws for section in law.caller_ids for each in section.classes)
        self._prefixes = tuple({each.prefix for each in classes})

    @property
    def proofs(self) -> Mapping[tuple[str, str], CallerIdProof]:
        """The newest of each controller and caller ID, whether answered or not."""
        return self._proofs

    def load_proofs(self, proofs: Sequence[CallerIdProof]) -> None:
        fresh = {(proof.controller, proof.caller_id): proof for proof in proofs}
        if fresh != self._proofs:
            self._proofs = fresh
            self._shown = {}

    def of(self, raw: str, line: Line) -> Shown:
        """Look up what a call presents. The campaign is part of the key: a stranger's guess is not its owner's."""
        key = (raw, line.controller.id, line.campaign.id)
        shown = self._shown.get(key)
        if shown is None:
            if len(self._shown) >= _REMEMBERED:
                self._shown.clear()
            caller_id = self._look_up(raw, line)
            fact = caller_id if caller_id.assigned else self._sealed(caller_id)
            shown = self._shown[key] = Shown(fact, caller_id.number, fact.number != caller_id.number)
        return shown

    def _look_up(self, raw: str, line: Line) -> CallerId:
        shown = phone.parse_caller_id(raw, line.dial_region or line.home)
        shown = line.caller_ids.get(shown.number, shown)
        proof = self._proofs.get((line.controller.id, shown.number))
        if proof is None or not proof.answered:
            return shown
        return structs.replace(shown, proved_at=proof.at, proof=f"{proof.kind}:{proof.evidence}")

    def _sealed(self, caller_id: CallerId) -> CallerId:
        """Leave out the number. A short code names a service and stays."""
        if caller_id.form != "number":
            return caller_id
        number = caller_id.number
        fact = structs.replace(
            caller_id,
            number=next((prefix for prefix in self._prefixes if number.startswith(prefix)), ""),
            proof=redaction.without(caller_id.proof, number),
        )
        if len(self._sealed_facts) >= _REMEMBERED:
            self._sealed_facts.clear()
        return self._sealed_facts.setdefault(fact, fact)
