"""Recovery of stops that are in the decision log but missing from the ledger.

A stop is an entry that forbids calls: a revocation, a withdrawal of consent or a wrong-number report. The ledger can
be older than the log after a restore from backup. Recovery finds stops in `opt_out` and `wrong_number` outcomes, and in
the facts of decisions.

A lost stop allows an unlawful call, while a duplicate has no effect. So recovery adds each stop, unless the ledger
already holds that stop (lifted or not).
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import structlog
from msgspec import Struct, structs

from dialgate.config import content_store
from dialgate.core.ledger_events import ConsentWithdrawn, Draft, Entry, Lifted, NumberWrong, Revoked
from dialgate.core.ledger_state import fold
from dialgate.core.model import Instant, OutcomeRecord
from dialgate.crypto.keys import KeyRetired, Keys, MonthKeys, nonces
from dialgate.crypto.masking import Masker
from dialgate.decision_log.chains import Chains
from dialgate.decision_log.records import Record
from dialgate.store import Attempts, Ledger

_ACTOR = "recovery"
StopEvent: TypeAlias = Revoked | ConsentWithdrawn | NumberWrong
_log = structlog.get_logger(__name__)


class Stop(Struct, frozen=True, kw_only=True):
    """A revocation, withdrawal of consent or wrong-number report to add to the ledger.

    `controller` is `*` for every controller, or "" if unknown. `subject` is the keyed hash that identifies the number
    in the ledger. `number` is in E.164 format, or "" if only the hash is known. `times` is how many equal entries from
    this channel the ledger had, lifted or not. At least one of them was in force. `is_outcome` is true if the stop is an
    outcome. Otherwise `proof` names a decision that saw the stop, and the decision may have seen several.
    """

    controller: str
    subject: bytes
    event: StopEvent
    number: str = ""
    actor: str = _ACTOR
    channel: str = "log"
    proof: str = ""
    times: int = 1
    is_outcome: bool = False


class KnownStops:
    """The stops in the facts of decisions.

    A stop is left out if the latest decision that contains the stop shows that it was lifted. A revocation that a new
    consent lifted still ends earlier consents and closes the directory, so only one lifted as an error is left out.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._stops: dict[tuple[bytes, object], Stop | None] = {}

    def add(self, record: Record, month: MonthKeys) -> None:
        known, controller = record.facts.known, record.facts.controller.id
        if not (known.revocations or known.consents or known.wrong_numbers or known.objections):
            return  # most records: avoid the decryption
        number, proof = month.called_number(record.sealed), _proof(record.id)
        equal: dict[tuple[bytes, object], list[bool]] = {}
        for revocation in known.revocations:
            owner = "*" if revocation.scope == "everyone" else controller
            revoked = Revoked(at=revocation.at, scope=revocation.scope, campaign=revocation.campaign)
            stop = _stop(self._keys, owner, number, revoked, channel=revocation.channel, proof=proof)
            key = (stop.subject, (revoked, stop.channel))
            lifted = equal.setdefault(key, [])
            lifted.append(revocation.lifted == "error")
            self._stops[key] = None if all(lifted) else structs.replace(stop, times=len(lifted))
        withdrawn = [(item.consent, item.at, item.purposes, item.goods) for item in known.objections]
        withdrawn += [(item.id, item.withdrawn_at, item.purposes, item.goods) for item in known.consents]
        for name, at, purposes, goods in withdrawn:
            if at:
                event = ConsentWithdrawn(id=name, at=at, purposes=purposes, goods=goods)
                stop = _stop(self._keys, controller, number, event, proof=proof)
                self._stops[stop.subject, (name, purposes, goods)] = stop
        for wrong in known.wrong_numbers:
            reported = NumberWrong(at=wrong.at, decision=wrong.decision)
            stop = _stop(self._keys, controller, number, reported, channel="call", proof=proof)
            self._stops[stop.subject, reported] = None if wrong.lifted else stop

    def __iter__(self) -> Iterator[Stop]:
        return (stop for stop in self._stops.values() if stop is not None)


def _stop(keys: Keys, controller: str, number: str, event: StopEvent, **more: Any) -> Stop:
    subject = keys.subject(controller, number)
    return Stop(controller=controller, subject=subject, number=number, event=event, **more)


class RecoveryStore(Attempts, Ledger, Protocol):
    """The parts of the store that crash recovery uses."""


async def enter_opt_outs(
    data: Path, store: RecoveryStore, keys: Keys, outcomes: Iterable[OutcomeRecord], now: Instant
) -> tuple[int, list[OutcomeRecord]]:
    """Add the missing stops for `opt_out` and `wrong_number` outcomes to the ledger.

    Return the number of stops added, and the outcomes whose called number is unknown on this node. Raises
    `LogDamaged`, `StoreUnavailable`.
    """
    chains, entered, unentered = Chains(data), 0, list[OutcomeRecord]()
    for outcome in outcomes:
        if outcome.result not in {"opt_out", "wrong_number"}:
            continue
        decision = chains.find(outcome.decision)
        try:
            if decision:
                number = keys.month(decision.record.at).called_number(decision.record.sealed)
                stop: Stop | None = opt_out(keys, outcome, decision.record.facts.controller.id, number)
            else:
                stop = await _by_attempt(data, store, outcome)
        except KeyRetired:
            _log.error(
                "an opt-out or wrong-number report cannot be added to the ledger: the keys for the month of the call"
                " were destroyed",
                decision=outcome.decision,
            )
            continue
        if stop is None:
            unentered.append(outcome)
        else:
            entered += await enter(store, keys, [stop], now)
    return entered, unentered


def opt_out(keys: Keys, outcome: OutcomeRecord, controller: str, number: str) -> Stop:
    more = {"actor": outcome.client or _ACTOR, "channel": "call", "proof": _proof(outcome.decision)}
    return _stop(keys, controller, number, _event(outcome), **more, is_outcome=True)


def _event(outcome: OutcomeRecord) -> Revoked | NumberWrong:
    if outcome.result == "wrong_number":
        return NumberWrong(at=outcome.at, decision=outcome.decision)
    return Revoked(at=outcome.at)


async def _by_attempt(data: Path, store: RecoveryStore, outcome: OutcomeRecord) -> Stop | None:
    """Return the stop for a call that another node's gate allowed, or None if the stop cannot be determined.

    `subject` comes from the call's attempt in the store. The result is None if the store lacks this attempt. The result
    is also None if the stop is not in the ledger and the campaign does not belong to exactly one controller.
    """
    row = await store.attempt(outcome.decision, recovering=True)
    if row is None:
        return None
    subject, attempt = row
    owners = content_store.owners(data / "kept", attempt.campaign)
    proof = _proof(outcome.decision)
    entered = any(entry.proof == proof for entry in await store.history(subject))
    if not entered and len(owners) != 1:  # otherwise the entry might be shown to the wrong controller
        return None
    return Stop(
        controller=min(owners, default=""),
        subject=subject,
        event=_event(outcome),
        actor=outcome.client or _ACTOR,
        channel="call",
        proof=proof,
        is_outcome=True,
    )


def _proof(decision: str) -> str:
    return f"decision:{decision}"


async def enter(store: Ledger, keys: Keys, stops: Iterable[Stop], now: Instant) -> int:
    """Add the stops that the ledger lacks, and return how many were added. Raises `StoreUnavailable`."""
    entered, fresh = 0, nonces()
    for stop in stops:
        number, proof = stop.number, stop.proof
        if number:
            proof = Masker(keys, stop.controller).text(proof, number)
        if _holds(await store.history(stop.subject), stop, proof):
            continue
        draft = Draft(
            at=now,
            controller=stop.controller,
            subject=stop.subject,
            event=stop.event,
            actor=stop.actor,
            channel=stop.channel,
            proof=proof,
            sealed=keys.ledger.seal(number, next(fresh)) if number else b"",
        )
        await store.append([draft])
        entered += 1
    return entered


def _holds(history: list[Entry], stop: Stop, proof: str) -> bool:
    event = stop.event
    if isinstance(event, Revoked):
        return _holds_revocation(history, event, stop, proof)
    if any(entry.event == event for entry in history):
        return True
    if isinstance(event, NumberWrong):
        return any(
            isinstance(entry.event, NumberWrong) and entry.event.decision == event.decision
            for entry in history
        )
    known = fold(history)
    wanted = event.id, event.purposes, event.goods
    return any(
        (item.id, item.purposes, item.goods) == wanted and item.withdrawn_at >= event.at
        for item in known.consents
    ) or any(
        (item.consent, item.purposes, item.goods) == wanted and item.at >= event.at
        for item in known.objections
    )


def _holds_revocation(history: list[Entry], event: Revoked, stop: Stop, proof: str) -> bool:
    """Return whether the ledger holds the revocation, lifted or not.

    Another revocation does not count, even with the same effect: if it proves to be an error and is lifted, this one
    must remain. An outcome's revocation has the same actor and proof, but may be earlier than the outcome. One that was
    lifted before `event` belongs to an earlier report.
    """
    revoked = [entry for entry in history if isinstance(entry.event, Revoked)]
    if stop.is_outcome:
        lifted = {entry.event.of: entry.at for entry in history if isinstance(entry.event, Lifted)}
        reported = [entry for entry in revoked if entry.proof == proof and entry.actor == stop.actor]
        if any(lifted.get(entry.seq, event.at) >= event.at for entry in reported):
            return True
    same = [entry for entry in revoked if entry.channel == stop.channel]
    return sum(entry.event == event for entry in same) >= stop.times
