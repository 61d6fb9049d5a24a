"""Sample decision logs, written by the product's own writer."""

from collections.abc import Iterable
from contextlib import closing
from datetime import date
from pathlib import Path

import msgspec
from msgspec import Struct

from dialgate.core.model import (
    CallerId,
    Campaign,
    Controller,
    Decided,
    Decision,
    Deny,
    Facts,
    Grounds,
    Instant,
    Listing,
    Number,
    Origin,
    OutcomeRecord,
    Pass,
)
from dialgate.crypto.keys import Keys
from dialgate.crypto.nonces import nonces
from dialgate.decision_log import DecisionLog

NOW: Instant = 1_795_510_800_000  # 2026-11-24T09:00:00Z

ORIGIN = Origin(collected_by="Acme", collected_on=date(2026, 10, 1))


class SampleDecision(Struct, frozen=True):
    number: str
    at: Instant = NOW
    country: str = "IT"
    allow: bool = True
    call_id: str = ""
    controller: str = "acme"
    campaign: str = "acme-fibre"
    lists: tuple[str, ...] = ()
    shadow: bool = False


def write(
    folder: Path, keys: Keys, decisions: Iterable[SampleDecision], *, segment_bytes: int = 20_000
) -> None:
    """Write decisions, and an outcome after each allowed call.

    In a segment, decisions with the same country, verdict, controller, campaign and lists share one `Grounds` record.
    """
    nonce = nonces()
    with closing(
        DecisionLog.open(folder, log=keys.log, now=NOW, gate={"dialgate": "0.1"}, segment_bytes=segment_bytes)
    ) as log:
        segment, written = 0, dict[tuple[object, ...], int]()
        for decision in decisions:
            first = log.turn_over(decision.at)
            if first != segment:
                segment, written = first, {}
            key = (
                decision.country, decision.allow, decision.controller, decision.campaign, decision.lists,
            )  # fmt: skip
            if key not in written:
                written[key] = log.next_seq
                log.write([msgspec.json.encode(grounds(log.next_seq, decision))])
            seq, month = log.next_seq, keys.month(decision.at)
            log.write(
                [
                    msgspec.json.encode(
                        Decided(
                            seq=seq,
                            id=f"{keys.log}-{seq}",
                            at=decision.at,
                            number=month.pseudonym(decision.number),
                            sealed=month.seal(decision.number, next(nonce)),
                            grounds=written[key],
                            allow=decision.allow,
                            client="dialer",
                            interface="http",
                            call_id=decision.call_id,
                            shadow=decision.shadow,
                            question=keys.named("?", decision.call_id.encode()) if decision.call_id else b"",
                        )
                    )
                ]
            )
            if decision.allow:
                log.write([msgspec.json.encode(outcome(log.next_seq, f"{keys.log}-{seq}", decision.at))])


def grounds(seq: int, sample: SampleDecision) -> Grounds:
    facts = Facts(
        at=0,
        today=date(2026, 11, 24),
        number=Number(kind="fixed", region=sample.country),
        controller=Controller(id=sample.controller),
        campaign=Campaign(id=sample.campaign),
        call_type="agent",
        caller_id=CallerId(number="+390844123456", form="number"),
        listings=tuple(Listing(list=name, basis="directory", origin=ORIGIN) for name in sample.lists),
    )
    denied = Deny("registry.listed", "enrolled", "D.P.R. 26/2022 art. 8 c. 2")
    decision = Decision(allow=sample.allow, outcomes={"registry": Pass() if sample.allow else denied})
    return Grounds(
        seq=seq, facts=facts, decision=decision, country=sample.country, law="a" * 64, config="b" * 64
    )


def outcome(seq: int, decision: str, at: Instant) -> OutcomeRecord:
    return OutcomeRecord(
        seq=seq, at=at, time="2026-11-24T09:00:00.000Z", decision=decision, result="answered", client="dialer"
    )
