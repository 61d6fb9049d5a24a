"""The state of a number, computed from the entries of the ledger about it."""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from datetime import date
from typing import Any, Final, TypeAlias

from msgspec import structs

from dialgate.core.ledger_events import (
    CallRequested,
    ConsentConfirmed,
    ConsentGiven,
    ConsentsVoided,
    ConsentWithdrawn,
    ContractEnded,
    ContractMade,
    Draft,
    Entry,
    Event,
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
from dialgate.core.repetitions import Recorded, T, outranked_fields, record, rectified_fields

Beginning: TypeAlias = ConsentGiven | ContractMade | CallRequested
_ITEMS: tuple[tuple[type[Beginning], type[Consent | Contract | CallRequest]], ...] = (
    (ConsentGiven, Consent),
    (ContractMade, Contract),
    (CallRequested, CallRequest),
)
_STATED = {
    event: tuple(name for name in event.__struct_fields__ if name in item.__struct_fields__)
    for event, item in _ITEMS
}


def fold(entries: Iterable[Entry]) -> Known:
    """Return the state of one number, computed from its entries, oldest first. Attempts are not included.

    Entries can be late or repeated, for example if a client sends all consents every night: see `repetitions`.
    Recording a consent again does not undo its withdrawal or voiding, unless the new entry has a later collection time.
    Recording a contract again does not undo its end, unless the new entry starts after the recorded last day. A
    confirmation, withdrawal or contract end also takes effect if it is recorded before the consent or contract. An
    entry that lifts an unknown revocation or cancels an unknown wrong-number report is ignored.
    """
    history = list(entries)
    if not history:
        return Known()
    kinds = {type(entry.event) for entry in history}
    parts: dict[str, Any] = {name: part(history) for name, (first, part) in _PARTS.items() if first in kinds}
    return Known(seq=history[-1].seq, **parts)


def revocations(history: list[Entry]) -> tuple[Revocation, ...]:
    """Return the revocations among the entries of a number, also those that were lifted. Cheaper than `fold`."""
    made: dict[int, Revocation] = {}
    for entry in history:
        match entry.event:
            case Revoked(at=at, scope=scope, campaign=campaign):
                made[entry.seq] = Revocation(
                    seq=entry.seq, at=at, scope=scope, campaign=campaign, channel=entry.channel
                )
            case Lifted(of=of, ground=ground, consent=consent) if of in made:
                is_for_one = made[of].scope == "everyone" and ground == "new_consent"
                consents = (*made[of].consents, consent) if is_for_one else ()
                made[of] = structs.replace(made[of], lifted=ground, consents=consents)
    return tuple(made.values())


def _consents(history: list[Entry]) -> tuple[Consent, ...]:
    recorded: dict[str, Recorded[Consent]] = {}
    withdrawn: dict[str, Instant] = {}
    confirmed: dict[str, Instant] = {}
    voids: list[Instant] = []
    for entry in history:
        match entry.event:
            case ConsentGiven() as event:
                recorded[event.id] = _record(recorded.get(event.id), entry, event)
            case ConsentConfirmed(id=key, at=at):
                confirmed[key] = max(at, confirmed.get(key, 0))
            case ConsentWithdrawn(id=key, at=at, dated=dated):
                withdrawn[key] = max(at, withdrawn.get(key, 0))
                if (
                    key in recorded and not dated
                ):  # entered before the withdrawal, which ends it even if dated earlier
                    withdrawn[key] = max(withdrawn[key], recorded[key].item.collected_at)
            case ConsentsVoided(before=before):
                voids.append(before)
    voids.sort()
    return tuple(
        _apply_voids(_confirm(_withdraw(known.item, withdrawn.get(key, 0)), confirmed.get(key, 0)), voids)
        for key, known in recorded.items()
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
                ended_at = max(withdrawal.at, newest.get(key, 0) if not withdrawal.dated else 0)
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


def _withdraw(consent: Consent, at: Instant) -> Consent:
    return structs.replace(consent, withdrawn_at=at) if 0 < at >= consent.collected_at else consent


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
    recorded: dict[str, Recorded[Contract]] = {}
    ends: dict[str, set[date]] = {}  # the last days that entries without the contract state
    for entry in history:
        match entry.event:
            case ContractMade() as event:
                earlier = recorded.get(event.id)
                known = _record(earlier, entry, event)
                last_day = _known_end(known.item.starts, earlier, ends.get(event.id, set()))
                recorded[event.id] = known if "ends" in known.rectified else _end(known, last_day)
            case ContractEnded(id=key, ends=last_day):
                stated = ends.setdefault(key, set())
                # An end that was rectified does not come back with its repetition.
                if key in recorded and not ("ends" in recorded[key].rectified and last_day in stated):
                    recorded[key] = _end(recorded[key], last_day)
                stated.add(last_day)
    return tuple(known.item for known in recorded.values())


def _known_end(starts: date, earlier: Recorded[Contract] | None, stated: set[date]) -> date | None:
    """Return the earliest known last day of a contract. One that begins after an end is another contract."""
    last_days = [day for day in stated if day >= starts]
    if earlier is not None and earlier.item.ends is not None:
        over = max(earlier.item.ends, earlier.item.starts)  # it may end before it begins
        last_days += [earlier.item.ends] if starts <= over else []
    return min(last_days, default=None)


def _end(known: Recorded[Contract], last_day: date | None) -> Recorded[Contract]:
    if last_day is None or (known.item.ends is not None and known.item.ends <= last_day):
        return known
    return structs.replace(known, item=structs.replace(known.item, ends=last_day))


def _requests(history: list[Entry]) -> tuple[CallRequest, ...]:
    recorded: dict[str, Recorded[CallRequest]] = {}
    for entry in history:
        if isinstance(event := entry.event, CallRequested):
            recorded[event.id] = _record(recorded.get(event.id), entry, event)
    return tuple(known.item for known in recorded.values())


def _record(known: Recorded[T] | None, entry: Entry, event: Beginning) -> Recorded[T]:
    """Return what is known of an item after an entry about it."""
    item: Any = item_of(entry, event)
    rectify = event.rectify
    if not rectify and known is not None and entry.channel == "rectification":
        rectify = rectified_fields(known.item, item)  # entries of versions that did not name the fields
    return record(known, item, rectify)


def item_of(entry: Entry | Draft, event: Beginning) -> Consent | Contract | CallRequest:
    """Return the consent, contract or request that an entry states, without any other entry."""
    match event:
        case ConsentGiven():
            return stated_consent(event)
        case ContractMade():
            return Contract(**_fields(event), proved=bool(entry.proof), entered_at=entry.at)
        case CallRequested():
            return CallRequest(**_fields(event), proved=bool(entry.proof))


def stated_consent(event: ConsentGiven) -> Consent:
    proved = bool(event.artefact and event.artefact_sha256)
    return Consent(**_fields(event), proved=proved, other_proofs=event.other_proofs)


def _fields(event: Beginning) -> dict[str, Any]:
    return {name: getattr(event, name) for name in _STATED[type(event)]}


def _wrong_numbers(history: list[Entry]) -> tuple[WrongNumber, ...]:
    reports: dict[int, WrongNumber] = {}
    for entry in history:
        match entry.event:
            case NumberWrong(at=at, decision=decision):
                reports[entry.seq] = WrongNumber(seq=entry.seq, at=at, decision=decision)
            case NumberConfirmed(of=of) if of in reports:
                reports[of] = structs.replace(reports[of], lifted=True)
    return tuple(reports.values())


# Each part of a state, with the kind of entry without which it is empty. Most numbers have entries of one kind.
_PARTS: Final[dict[str, tuple[type[Event], Callable[[list[Entry]], tuple[Any, ...]]]]] = {
    "revocations": (Revoked, revocations),
    "consents": (ConsentGiven, _consents),
    "contracts": (ContractMade, _contracts),
    "requests": (CallRequested, _requests),
    "wrong_numbers": (NumberWrong, _wrong_numbers),
    "objections": (ConsentWithdrawn, _objections),
}

Ending: TypeAlias = ConsentConfirmed | ConsentWithdrawn | ContractEnded


def find_outranked(history: list[Entry], event: Event) -> tuple[str, ...]:
    """Return the fields in which the newest entry of `history`, with this event, is outranked by earlier ones."""
    if not any(_id_of(entry.event) == _id_of(event) for entry in history[:-1]):
        return ()
    known = fold(history)
    match event:
        case ConsentGiven() | ContractMade() | CallRequested():
            stated: Any = item_of(history[-1], event)
        case ContractEnded(id=key, ends=ends):
            return tuple("ends" for deal in known.contracts if deal.id == key and deal.ends != ends)
        case _:
            return ()
    items: tuple[Any, ...] = (*known.consents, *known.contracts, *known.requests)
    item = next(item for item in items if type(item) is type(stated) and item.id == event.id)
    return outranked_fields(item, stated)


def _id_of(event: Event) -> str:
    """Return the id of a consent, contract or request that an event is about, or ""."""
    return getattr(event, "id", "")


def as_entry(draft: Draft, history: list[Entry]) -> Entry:
    """Return the entry that a draft would be after `history`."""
    return Entry(**structs.asdict(draft) | {"seq": history[-1].seq + 1 if history else 1})


def find_repeated(history: list[Entry], draft: Draft) -> Entry | None:
    """Return the newest entry that equals the draft, or None if there is none, or if the draft would change the state.

    A contract or call request without a proof does not equal one with a proof. The proof of a consent is in its event.
    """
    equal = [
        at
        for at, entry in enumerate(history)
        if entry.event == draft.event
        and (isinstance(draft.event, ConsentGiven) or entry.proof or not draft.proof)
    ]
    if not equal:
        return None
    # Entries about other consents, contracts and requests leave this one as it is, so no state has to be compared.
    later = (entry.event for entry in history[equal[-1] + 1 :])
    if all(isinstance(event, Beginning) and event.id != _id_of(draft.event) for event in later):
        return history[equal[-1]]
    after = as_entry(draft, history)
    changes = structs.replace(fold([*history, after]), seq=0) != structs.replace(fold(history), seq=0)
    return None if changes else history[equal[-1]]


def find_ending(history: list[Entry], event: Ending) -> Entry | None:
    """Return the entry in `history` that already has the effect of `event`, or None."""
    known = fold(history)
    consents = [consent for consent in known.consents if consent.id == event.id]
    match event:
        case ConsentConfirmed():
            holds = any(consent.confirmed_at for consent in consents)
        case ConsentWithdrawn():
            is_repeated = event.dated and any(entry.event == event for entry in history)
            holds = is_repeated or any(consent.withdrawn_at >= event.at for consent in consents)
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
