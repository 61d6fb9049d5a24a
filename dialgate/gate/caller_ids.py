"""Lookup of the caller ID that a call presents, among the caller IDs of its campaign."""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, structs

from dialgate.config.controllers import Line
from dialgate.core import phone
from dialgate.core.law import Law
from dialgate.core.model import CallerId
from dialgate.crypto import masking
from dialgate.store import CallerIdProof

_REMEMBERED = 10_000


class Presentation(Struct, frozen=True):
    """The caller ID that a call presents. `number` is the full number; `fact` is what rules and the log receive.

    A number that is not assigned to the campaign might be personal data, for example if a dialer swaps caller and
    called number. `fact` contains at most the reserved prefix of such a number. `sealed` is true if `fact` lacks digits
    of the full number.
    """

    fact: CallerId
    number: str
    sealed: bool


class CallerIdFacts:
    """The caller IDs in one configuration, with their call-back proofs."""

    def __init__(self, laws: Iterable[Law]) -> None:
        self._proofs: dict[tuple[str, str], CallerIdProof] = {}
        self._presentations: dict[tuple[str, str, str], Presentation] = {}
        self._sealed_facts: dict[CallerId, CallerId] = {}  # one object per fact, so that verdicts are shared
        classes = (class_ for law in laws for section in law.caller_ids for class_ in section.classes)
        prefixes = {prefix for class_ in classes for prefix in class_.prefixes}
        self._prefixes = sorted(
            prefixes, key=len, reverse=True
        )  # some contain others: +34400 begins with +34

    @property
    def proofs(self) -> Mapping[tuple[str, str], CallerIdProof]:
        """The newest proof for each controller and caller ID, whether or not the call-back was answered."""
        return self._proofs

    def load_proofs(self, proofs: Sequence[CallerIdProof]) -> None:
        fresh = {(proof.controller, proof.caller_id): proof for proof in proofs}
        if fresh != self._proofs:
            self._proofs = fresh
            self._presentations = {}

    def look_up(self, raw: str, line: Line) -> Presentation:
        """Look up the caller ID `raw` for a call in the campaign `line`."""
        # By campaign too, so that a client gets no cached result for another client's campaign.
        key = (raw, line.controller.id, line.campaign.id)
        presentation = self._presentations.get(key)
        if presentation is None:
            if len(self._presentations) >= _REMEMBERED:
                self._presentations.clear()
            caller_id = self._look_up(raw, line)
            fact = caller_id if caller_id.assigned else self._seal(caller_id)
            presentation = self._presentations[key] = Presentation(
                fact, caller_id.number, fact.number != caller_id.number
            )
        return presentation

    def _look_up(self, raw: str, line: Line) -> CallerId:
        caller_id = phone.parse_caller_id(raw, line.dial_region or line.home)
        caller_id = line.caller_ids.get(caller_id.number, caller_id)
        proof = self._proofs.get((line.controller.id, caller_id.number))
        if proof is None or not proof.answered:
            return caller_id
        return structs.replace(caller_id, proved_at=proof.at, proof=f"{proof.kind}:{proof.evidence}")

    def _seal(self, caller_id: CallerId) -> CallerId:
        """Return the caller ID without the digits that could identify a person.

        A full number is replaced by its reserved prefix, or by an empty string if it has no reserved prefix. A short
        code is kept, because it identifies a service and not a person.
        """
        if caller_id.form != "number":
            return caller_id
        number = caller_id.number
        fact = structs.replace(
            caller_id,
            number=next((prefix for prefix in self._prefixes if number.startswith(prefix)), ""),
            proof=masking.without(caller_id.proof, number),
        )
        if len(self._sealed_facts) >= _REMEMBERED:
            self._sealed_facts.clear()
        return self._sealed_facts.setdefault(fact, fact)
