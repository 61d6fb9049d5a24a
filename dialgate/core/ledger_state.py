"""The state of a number, computed from the entries of the ledger about it."""

from bisect import bisect_left
from collections.abc import Iterable
from datetime import date
from typing import TypeAlias

from msgspec import structs

from dialgate.core.ledger_events import (
    CallRequested,
    ConsentConfirmed,
    ConsentGiven,
    ConsentsVoided,
    ConsentWithdrawn,
    ContractEnded,
    ContractMade,
    Entry,
    Lifted,
    NumberConfirmed,
    NumberWrong,
    Revoked,
)
from dialgate.core.model import (
    CallRequest,
    Consent,
    Contract,
    Instant,
    Known,
    Objection,
    Revocation,
    WrongNumber,
)


def fold(entries: Iterable[Entry]) -> Known:
    """Return the state of one number, computed from its entries, oldest first. Attempts are not included.

    Entries can be late or repeated, for example if a client sends all consents every night. Recording a consent again
    does not undo its withdrawal or voiding, unless the new entry has a later collection time. Recording a contract
    again does not undo its end, unless the new entry starts after the recorded last day. A confirmation, withdrawal or
    contract end also takes effect if it is recorded before the consent or contract. An entry that lifts an unknown
    revocation or cancels an unknown wrong-number report is ignored.
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
        objections=_objections(history),
    )


def _revocations(history: list[Entry]) -> tuple[Revocation, ...]:
    revocations: dict[int, Revocation] = {}
    for entry in history:
        match entry.event:
            case Revoked(at=at, scope=scope, campaign=campaign):
                revocations[entry.seq] = Revocation(
                    seq=entry.seq, at=at, scope=scope, campaign=campaign, channel=entry.channel
                )
            case Lifted(of=of, ground=ground) if of in revocations:
                revocations[of] = structs.replace(revocations[of], lifted=ground)
    return tuple(revocations.values())


def _consents(history: list[Entry]) -> tuple[Consent, ...]:
    consents: dict[str, Consent] = {}
    withdrawn: dict[str, Instant] = {}
    confirmed: dict[str, Instant] = {}
    voids: list[Instant] = []
    for entry in history:
        match entry.event:
            case ConsentGiven() as event:
                consents[event.id] = _consent(event, withdrawn.get(event.id, 0))
            case ConsentConfirmed(id=key, at=at):
                confirmed[key] = max(at, confirmed.get(key, 0))
            case ConsentWithdrawn(id=key, at=at):
                withdrawn[key] = max(at, withdrawn.get(key, 0))
                if key in consents:  # entered before the withdrawal, which ends it even if dated earlier
                    withdrawn[key] = max(withdrawn[key], consents[key].collected_at)
                    consents[key] = structs.replace(consents[key], withdrawn_at=withdrawn[key])
            case ConsentsVoided(before=before):
                voids.append(before)
    voids.sort()
    return tuple(
        _apply_voids(_confirm(consent, confirmed.get(key, 0)), voids) for key, consent in consents.items()
    )


def _objections(history: list[Entry]) -> tuple[Objection, ...]:
    """Return what withdrawn consents covered that were recorded again in another form, or were removed."""
    forms: dict[str, list[ConsentGiven]] = {}
    newest: dict[str, Instant] = {}  # the last collection time of the forms so far, by consent
    withdrawals: dict[str, list[tuple[Instant, ConsentWithdrawn]]] = {}  # with the end that each sets
    for entry in history:
        match entry.event:
            case ConsentGiven(id=key) as given:
                forms.setdefault(key, []).append(given)
                newest[key] = max(given.collected_at, newest.get(key, given.collected_at))
            case ConsentWithdrawn(id=key) as withdrawal:
                ended_at = max(withdrawal.at, newest.get(key, withdrawal.at))
                withdrawals.setdefault(key, []).append((ended_at, withdrawal))
    made: dict[Objection, Instant] = {}
    for key, ends in withdrawals.items():
        given_as = forms.get(key, [])
        last = max(ended_at for ended_at, _ in ends)
        first = min((given.collected_at for given in given_as), default=last + 1)
        covered = [(last, _objection(given)) for given in given_as if given.collected_at <= last]
        covered += [
            (ended_at, _objection(withdrawal))
            for ended_at, withdrawal in ends
            if withdrawal.purposes or ended_at < first
        ]
        for ended_at, objection in covered:
            made[objection] = max(ended_at, made.get(objection, 0))
    for consent in _consents(history) if made else ():
        if consent.withdrawn_at:
            made.pop(_objection(consent), None)
    return tuple(structs.replace(objection, at=at) for objection, at in made.items())


def _objection(to: ConsentGiven | Consent | ConsentWithdrawn) -> Objection:
    return Objection(purposes=to.purposes, goods=to.goods, consent=to.id)


def _consent(event: ConsentGiven, withdrawn_at: Instant) -> Consent:
    return Consent(
        id=event.id,
        collected_at=event.collected_at,
        purposes=event.purposes,
        call_types=event.call_types,
        goods=event.goods,
        proved=bool(event.artefact and event.artefact_sha256),
        expires_at=event.expires_at,
        withdrawn_at=withdrawn_at if event.collected_at <= withdrawn_at else 0,
        origin=event.origin,
        profiling=event.profiling,
        third_party=event.third_party,
        double_opt_in=event.double_opt_in,
        form=event.form,
        states=event.states,
        renewed_at=event.renewed_at,
        place=event.place,
    )


def _confirm(consent: Consent, at: Instant) -> Consent:
    """Return the consent with `at` as the time of its confirmation.

    A consent without double opt-in is returned unchanged. So is a consent collected after `at`, because it needs a new
    confirmation.
    """
    if not consent.double_opt_in or at < consent.collected_at:
        return consent
    return structs.replace(consent, confirmed_at=at)


def _apply_voids(consent: Consent, voids: list[Instant]) -> Consent:
    """Return the consent as voided by the first of the sorted `voids` that covers it, if any."""
    first = bisect_left(voids, consent.collected_at)
    return structs.replace(consent, voided_at=voids[first]) if first < len(voids) else consent


def _contracts(history: list[Entry]) -> tuple[Contract, ...]:
    contracts: dict[str, Contract] = {}
    ended: dict[str, tuple[date, date]] = {}  # the last day, and the day after which another contract begins
    for entry in history:
        match entry.event:
            case ContractMade() as event:
                last_day, over = ended.get(event.id, (None, date.min))
                contract = _contract(entry, event, None if event.starts > over else last_day)
                earlier = contracts.get(event.id)
                if earlier is not None and earlier.starts == event.starts:  # the same contract, entered again
                    contract = structs.replace(contract, entered_at=earlier.entered_at)
                contracts[event.id] = contract
            case ContractEnded(id=key, ends=ends):
                ended[key] = ends, ends
                if key in contracts:  # it may end before it begins
                    ended[key] = ends, max(ends, contracts[key].starts)
                    contracts[key] = structs.replace(contracts[key], ends=ends)
    return tuple(contracts.values())


def _contract(entry: Entry, event: ContractMade, last_day: date | None) -> Contract:
    contract = Contract(**structs.asdict(event), proved=bool(entry.proof), entered_at=entry.at)
    return structs.replace(contract, ends=min(last_day, event.ends or last_day)) if last_day else contract


def _requests(history: list[Entry]) -> tuple[CallRequest, ...]:
    requests: dict[str, CallRequest] = {}
    for entry in history:
        if isinstance(entry.event, CallRequested):
            request = CallRequest(**structs.asdict(entry.event), proved=bool(entry.proof))
            requests[request.id] = request
    return tuple(requests.values())


def _wrong_numbers(history: list[Entry]) -> tuple[WrongNumber, ...]:
    reports: dict[int, WrongNumber] = {}
    for entry in history:
        match entry.event:
            case NumberWrong(at=at, decision=decision):
                reports[entry.seq] = WrongNumber(seq=entry.seq, at=at, decision=decision)
            case NumberConfirmed(of=of) if of in reports:
                reports[of] = structs.replace(reports[of], lifted=True)
    return tuple(reports.values())


Ending: TypeAlias = ConsentConfirmed | ConsentWithdrawn | ContractEnded


def find_ending(history: list[Entry], event: Ending) -> Entry | None:
    """Return the entry in `history` that already has the effect of `event`, or None."""
    known = fold(history)
    consents = [consent for consent in known.consents if consent.id == event.id]
    match event:
        case ConsentConfirmed():
            holds = any(consent.confirmed_at for consent in consents)
        case ConsentWithdrawn():
            holds = any(consent.withdrawn_at >= event.at for consent in consents)
        case ContractEnded():
            holds = any(deal.id == event.id and deal.ends == event.ends for deal in known.contracts)
    same = (
        entry
        for entry in reversed(history)
        if isinstance(entry.event, type(event)) and entry.event.id == event.id
    )
    return next(same, None) if holds else None


def binds(known: Known, scope: str, campaign: str) -> bool:
    """Return whether a revocation in force covers `scope`. `campaign` matters only for the scope `campaign`."""
    return any(in_force(revocation, scope, campaign) for revocation in known.revocations)


def in_force(revocation: Revocation, scope: str, campaign: str) -> bool:
    """Return whether a revocation is in force for `scope` (see `binds`)."""
    return not revocation.lifted and (
        revocation.scope != "campaign" or (scope == "campaign" and revocation.campaign == campaign)
    )


def merge(own: Known, everyone: Known) -> Known:
    """Return the controller's own state plus the revocations that bind every controller."""
    if not everyone.revocations:
        return own if own.seq >= everyone.seq else structs.replace(own, seq=everyone.seq)
    return structs.replace(
        own, seq=max(own.seq, everyone.seq), revocations=own.revocations + everyone.revocations
    )
