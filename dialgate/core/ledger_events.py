"""The ledger of a person's wishes: what may be written to it, and what it amounts to.

Pure. History is never edited: every event is an entry of its own, and what holds now is the fold of all entries. The
events are stored for years under their tags; a new field goes last with a default, a tag never changes its meaning.
"""

from collections.abc import Iterable
from datetime import date
from typing import Literal, TypeAlias

from msgspec import Struct, structs

from dialgate.core.model import (
    CallRequest,
    CallType,
    Consent,
    Contract,
    Instant,
    Known,
    Origin,
    Purpose,
    Revocation,
    WrongNumber,
)


class Revoked(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="revoked"):
    """The person told the caller to stop. `at`: when they said so; it binds from when the entry is acknowledged."""

    at: Instant
    scope: Literal["campaign", "controller", "everyone"] = "controller"
    campaign: str = ""


class Lifted(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="lifted"):
    """A revocation no longer binds. `of` is its sequence; `consent` the id of the one given anew, where that is the ground."""

    of: int
    ground: Literal["error", "new_consent"]
    reason: str
    consent: str = ""


class ConsentGiven(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="consent"):
    """GDPR 7(1): the controller must be able to demonstrate it. Without `artefact` and its hash it opens nothing, nor does
    one by double opt-in before it is confirmed. `collection_channel`: how the person gave it.
    """

    id: str
    collected_at: Instant
    purposes: tuple[Purpose, ...]
    call_types: tuple[CallType, ...]
    goods: tuple[str, ...] = ()
    expires_at: Instant = 0
    text_version: str = ""
    artefact: str = ""
    artefact_sha256: str = ""
    origin: Origin | None = None
    collection_channel: str = ""
    profiling: bool = False
    third_party: bool = False
    double_opt_in: bool = False


class ConsentConfirmed(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="consent_confirmed"):
    """The second step of a double opt-in: the person confirmed that it was they who consented."""

    id: str
    at: Instant


class ConsentWithdrawn(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="consent_withdrawn"):
    """GDPR 7(3)."""

    id: str
    at: Instant


class ConsentsVoided(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="consents_voided"):
    """Enrolment with the registry voids every consent collected before (L. 5/2018 art. 1 c. 5; DPR 26/2022 art. 7)."""

    before: Instant
    registry: str
    receipt: str = ""


class ContractMade(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="contract"):
    id: str
    starts: date
    ends: date | None = None
    sector: str = ""
    goods: tuple[str, ...] = ()
    marketing: bool = False


class ContractEnded(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="contract_ended"):
    """`ends` is the contract's last day."""

    id: str
    ends: date


class CallRequested(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="call_request"):
    id: str
    requested_at: Instant
    expires_at: Instant
    goods: str = ""
    own_interface: bool = False


class NumberWrong(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="wrong_number"):
    """A call reached another person than expected. `decision` allowed that call. What was given for the number before
    opens nothing until a newer consent, contract or request with a proof is entered, or a `NumberConfirmed`.
    """

    at: Instant
    decision: str = ""


class NumberConfirmed(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="number_confirmed"):
    """A `NumberWrong` no longer binds; `of` is its sequence. `error`: the report was a mistake; `confirmed`: the person
    showed that the number is theirs.
    """

    of: int
    ground: Literal["error", "confirmed"]
    reason: str


class Exported(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="exported"):
    """A list left with verdicts on its rows (L. 5/2018 art. 1 c. 7). Of no person: its subject is the controller's exports.
    `sha256`: of what left.
    """

    campaign: str
    rows: int
    allowed: int
    sha256: str


Event: TypeAlias = (
    Revoked
    | Lifted
    | ConsentGiven
    | ConsentConfirmed
    | ConsentWithdrawn
    | ConsentsVoided
    | ContractMade
    | ContractEnded
    | CallRequested
    | NumberWrong
    | NumberConfirmed
    | Exported
)


class Draft(Struct, frozen=True, kw_only=True):
    """An entry before the store has given it a sequence. `subject`: the keyed hash of (controller, number); `sealed`:
    the number's ciphertext, so that a dialer can be told whom to drop; `proof`: where the evidence lies.
    """

    at: Instant
    controller: str
    subject: bytes
    event: Event
    actor: str
    channel: str
    proof: str = ""
    sealed: bytes = b""


class Entry(Draft, frozen=True, kw_only=True):
    seq: int


def fold(entries: Iterable[Entry]) -> Known:
    """What the entries of one subject amount to, oldest first; attempts are not in the ledger and stay empty.

    Entries come late and twice: a nightly export sends every consent again. So what was withdrawn, voided or ended
    stays so when the same thing is entered once more; only one collected or begun afterwards is new. An entry that
    names what this subject does not have is refused at the door, and harmless here.
    """
    history = list(entries)
    if not history:
        return Known()
    return Known(
        seq=history[-1].seq,
        revocations=_revocations(history),
        consents=_consents(history),
        contracts=_contracts(history),
        requests=_requests(history),
        wrong_numbers=_wrong_numbers(history),
    )


def _revocations(history: list[Entry]) -> tuple[Revocation, ...]:
    found: dict[int, Revocation] = {}
    for entry in history:
        match entry.event:
            case Revoked(at=at, scope=scope, campaign=campaign):
                found[entry.seq] = Revocation(
                    seq=entry.seq, at=at, scope=scope, campaign=campaign, channel=entry.channel
                )
            case Lifted(of=of, ground=ground) if of in found:
                found[of] = structs.replace(found[of], lifted=ground)
            case _:
                pass
    return tuple(found.values())


def _consents(history: list[Entry]) -> tuple[Consent, ...]:
    found: dict[str, Consent] = {}
    withdrawn: dict[str, Instant] = {}
    confirmed: dict[str, Instant] = {}
    voids: list[Instant] = []
    for entry in history:
        match entry.event:
            case ConsentGiven() as given:
                found[given.id] = _consent(given, withdrawn.get(given.id, 0))
            case ConsentConfirmed(id=key, at=at):
                confirmed[key] = max(at, confirmed.get(key, 0))
            case ConsentWithdrawn(id=key, at=at):
                withdrawn[key] = max(at, withdrawn.get(key, 0))
                if key in found:  # whatever hour it claims, it is not older than what it withdraws
                    withdrawn[key] = max(withdrawn[key], found[key].collected_at)
                    found[key] = structs.replace(found[key], withdrawn_at=withdrawn[key])
            case ConsentsVoided(before=before):
                voids.append(before)
            case _:
                pass
    return tuple(_voided(_confirmed(consent, confirmed.get(key, 0)), voids) for key, consent in found.items())


def _consent(given: ConsentGiven, withdrawn_at: Instant) -> Consent:
    return Consent(
        id=given.id,
        collected_at=given.collected_at,
        purposes=given.purposes,
        call_types=given.call_types,
        goods=given.goods,
        proved=bool(given.artefact and given.artefact_sha256),
        expires_at=given.expires_at,
        withdrawn_at=withdrawn_at if given.collected_at <= withdrawn_at else 0,
        origin=given.origin,
        profiling=given.profiling,
        third_party=given.third_party,
        double_opt_in=given.double_opt_in,
    )


def _confirmed(consent: Consent, at: Instant) -> Consent:
    """What was collected after the confirmation is another consent under the same id, and waits for its own."""
    if not consent.double_opt_in or at < consent.collected_at:
        return consent
    return structs.replace(consent, confirmed_at=at)


def _voided(consent: Consent, voids: list[Instant]) -> Consent:
    """Also where the consent was entered after the void: what counts is when it was collected."""
    covering = [before for before in voids if consent.collected_at <= before]
    return structs.replace(consent, voided_at=min(covering)) if covering else consent


def _contracts(history: list[Entry]) -> tuple[Contract, ...]:
    found: dict[str, Contract] = {}
    ended: dict[str, date] = {}
    for entry in history:
        match entry.event:
            case ContractMade() as made:
                contract = _contract(entry, made, ended.get(made.id))
                before = found.get(made.id)
                if before is not None and before.starts == made.starts:  # the same one, entered again
                    contract = structs.replace(contract, entered_at=before.entered_at)
                found[made.id] = contract
            case ContractEnded(id=key, ends=ends):
                ended[key] = ends
                if key in found:
                    found[key] = structs.replace(found[key], ends=ends)
            case _:
                pass
    return tuple(found.values())


def _contract(entry: Entry, made: ContractMade, ended: date | None) -> Contract:
    contract = Contract(**structs.asdict(made), proved=bool(entry.proof), entered_at=entry.at)
    if ended is None or made.starts > ended:
        return contract
    return structs.replace(contract, ends=min(ended, made.ends or ended))


def _requests(history: list[Entry]) -> tuple[CallRequest, ...]:
    found: dict[str, CallRequest] = {}
    for entry in history:
        if isinstance(entry.event, CallRequested):
            request = CallRequest(**structs.asdict(entry.event), proved=bool(entry.proof))
            found[request.id] = request
    return tuple(found.values())


def _wrong_numbers(history: list[Entry]) -> tuple[WrongNumber, ...]:
    found: dict[int, WrongNumber] = {}
    for entry in history:
        match entry.event:
            case NumberWrong(at=at, decision=decision):
                found[entry.seq] = WrongNumber(seq=entry.seq, at=at, decision=decision)
            case NumberConfirmed(of=of) if of in found:
                found[of] = structs.replace(found[of], lifted=True)
            case _:
                pass
    return tuple(found.values())


Ending: TypeAlias = ConsentConfirmed | ConsentWithdrawn | ContractEnded


def said(history: list[Entry], event: Ending) -> Entry | None:
    """The entry by which `event` holds already, so that it need not be entered again."""
    known = fold(history)
    match event:
        case ConsentConfirmed():
            holds = any(each.id == event.id and each.confirmed_at for each in known.consents)
        case ConsentWithdrawn():
            holds = any(each.id == event.id and each.withdrawn_at for each in known.consents)
        case ContractEnded():
            holds = any(each.id == event.id and each.ends == event.ends for each in known.contracts)
    same = (
        entry
        for entry in reversed(history)
        if isinstance(entry.event, type(event)) and entry.event.id == event.id
    )
    return next(same, None) if holds else None


def binds(known: Known, scope: str, campaign: str) -> bool:
    """Whether a revocation in force is at least as wide as `scope`, in which `campaign` is the only one or empty."""
    return any(
        not held.lifted and (held.scope != "campaign" or (scope == "campaign" and held.campaign == campaign))
        for held in known.revocations
    )


def merge(own: Known, everyone: Known) -> Known:
    """What binds a call: this controller's entries and those that bind every controller."""
    if not everyone.revocations:
        return own if own.seq >= everyone.seq else structs.replace(own, seq=everyone.seq)
    return structs.replace(
        own, seq=max(own.seq, everyone.seq), revocations=own.revocations + everyone.revocations
    )
