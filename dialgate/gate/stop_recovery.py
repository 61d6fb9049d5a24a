"""Stops that the decision log proves, and that the ledger may lack after a restore from a backup.

A stop is an entry that forbids calls: a revocation, a withdrawal of consent or a wrong-number report. The log proves it by
an `opt_out` or `wrong_number` outcome, or by the facts of a decision. A lost stop allows an unlawful call, while a
duplicate has no effect. So each stop is added, unless the ledger already holds it (lifted or not).
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from dialgate.config import content_store
from dialgate.core.ledger_events import ConsentWithdrawn, Draft, Entry, Lifted, NumberWrong, Revoked
from dialgate.core.ledger_state import fold
from dialgate.core.model import Instant, OutcomeRecord
from dialgate.crypto.keys import Keys
from dialgate.crypto.masking import Masker
from dialgate.crypto.nonces import nonces
from dialgate.decision_log.chains import Chains
from dialgate.decision_log.records import Record
from dialgate.store import Ledger, Store

_ACTOR = "recovery"


StopEvent: TypeAlias = Revoked | ConsentWithdrawn | NumberWrong


class Stop(Struct, frozen=True, kw_only=True):
    """A stop to add to the ledger.

    `controller` is `*` for every controller, or "" if unknown. `subject` is the keyed hash that identifies the number
    in the ledger. `number` is in E.164 format, or "" if only the hash is known. `decision` is the decision that the stop
    was reported about, or that saw it. `seq` is the entry that the decision saw, or 0.
    """

    controller: str
    subject: bytes
    event: StopEvent
    number: str
    decision: str
    actor: str = _ACTOR
    channel: str = "log"
    seq: int = 0

    @property
    def proof(self) -> str:
        return f"decision:{self.decision}"


def cited_stops(keys: Keys, record: Record, number: str) -> Iterator[Stop]:
    """Yield the stops in the facts of a decision, without those that were lifted.

    A revocation that a new consent lifted still ends earlier consents and closes the directory, so only one lifted as an
    error is left out.
    """
    known, controller = record.facts.known, record.facts.controller.id

    def stop(event: StopEvent, owner: str = controller, channel: str = "log", seq: int = 0) -> Stop:
        subject = keys.subject(owner, number)
        return Stop(
            controller=owner,
            subject=subject,
            event=event,
            number=number,
            decision=record.id,
            channel=channel,
            seq=seq,
        )

    for item in known.revocations:
        if item.lifted != "error":
            owner = "*" if item.scope == "everyone" else controller
            yield stop(
                Revoked(at=item.at, scope=item.scope, campaign=item.campaign), owner, item.channel, item.seq
            )
    withdrawn = [(item.consent, item.at, item.purposes, item.goods) for item in known.objections]
    withdrawn += [(item.id, item.withdrawn_at, item.purposes, item.goods) for item in known.consents]
    for name, at, purposes, goods in withdrawn:
        if at:
            yield stop(ConsentWithdrawn(id=name, at=at, purposes=purposes, goods=goods))
    for wrong in known.wrong_numbers:
        if not wrong.lifted:
            yield stop(NumberWrong(at=wrong.at, decision=wrong.decision), channel="call")


async def reported_stop(data: Path, store: Store, keys: Keys, outcome: OutcomeRecord) -> Stop | None:
    """Return the stop that an `opt_out` or `wrong_number` outcome reports, or None if it cannot be determined.

    If another node's gate allowed the call, only the store knows its subject. The result is None if the store lacks
    the attempt. It is also None if the stop is not in the ledger and the campaign does not belong to exactly one
    controller, because the entry might be shown to the wrong one. Raises `KeyRetired`, `LogDamaged`, `StoreUnavailable`.
    """
    event = (
        NumberWrong(at=outcome.at, decision=outcome.decision)
        if outcome.result == "wrong_number"
        else Revoked(at=outcome.at)
    )
    decision, number = Chains(data).find(outcome.decision), ""
    if decision:
        number = keys.month(decision.record.at).called_number(decision.record.sealed)
        controller = decision.record.facts.controller.id
        subject = keys.subject(controller, number)
    else:
        row = await store.attempt(outcome.decision, recovering=True)
        if row is None:
            return None
        subject, owners = row[0], content_store.owners(data / "kept", row[1].campaign)
        proof = f"decision:{outcome.decision}"
        if len(owners) != 1 and all(entry.proof != proof for entry in await store.history(subject)):
            return None
        controller = min(owners, default="")
    actor = outcome.client or _ACTOR
    return Stop(
        controller=controller,
        subject=subject,
        event=event,
        number=number,
        decision=outcome.decision,
        actor=actor,
        channel="call",
    )


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
    """Return whether the ledger holds the stop.

    Another revocation does not count, even with the same effect: if it proves to be an error and is lifted, this one
    must remain. An outcome's revocation has the same actor and proof, but may be earlier than the outcome. One that was
    lifted before `event` belongs to an earlier report.
    """
    event = stop.event
    if isinstance(event, NumberWrong):
        wrong = [entry.event for entry in history if isinstance(entry.event, NumberWrong)]
        return any(event == one or event.decision == one.decision for one in wrong)
    if isinstance(event, ConsentWithdrawn):
        known, wanted = fold(history), (event.id, event.purposes, event.goods)
        withdrawn = [((item.id, item.purposes, item.goods), item.withdrawn_at) for item in known.consents]
        withdrawn += [((item.consent, item.purposes, item.goods), item.at) for item in known.objections]
        return any(entry.event == event for entry in history) or any(
            scope == wanted and at >= event.at for scope, at in withdrawn
        )
    lifted = {entry.event.of: entry.at for entry in history if isinstance(entry.event, Lifted)}
    return any(
        entry.event == event
        and entry.channel == stop.channel
        and (entry.seq == stop.seq or entry.actor == _ACTOR)
        if stop.seq
        else entry.proof == proof
        and entry.actor == stop.actor
        and lifted.get(entry.seq, event.at) >= event.at
        for entry in history
        if isinstance(entry.event, Revoked)
    )
