"""A decision log to read, written by its own writer: decisions at given instants about given numbers."""

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
    Number,
    OutcomeRecord,
    Pass,
)
from dialgate.crypto.keys import Keys, nonces
from dialgate.decision_log import DecisionLog

NOW: Instant = 1_795_510_800_000  # 2026-11-24T09:00:00Z


class Said(Struct, frozen=True):
    """One decision."""

    number: str
    at: Instant = NOW
    country: str = "IT"
    allow: bool = True
    call_id: str = ""


def write(folder: Path, keys: Keys, said: Iterable[Said], *, segment_bytes: int = 20_000) -> None:
    """Each with its own grounds where these are new to the segment, and an outcome after each that is allowed."""
    nonce = nonces()
    with closing(
        DecisionLog.open(folder, log=keys.log, now=NOW, gate={"dialgate": "0.1"}, segment_bytes=segment_bytes)
    ) as log:
        segment, written = 0, dict[tuple[str, bool], int]()
        for each in said:
            first = log.turn_over(each.at)
            if first != segment:
                segment, written = first, {}
            key = each.country, each.allow
            if key not in written:
                written[key] = log.next_seq
                log.write([msgspec.json.encode(grounds(log.next_seq, each))])
            seq, month = log.next_seq, keys.month(each.at)
            log.write(
                [
                    msgspec.json.encode(
                        Decided(
                            seq=seq,
                            id=f"{keys.log}-{seq}",
                            at=each.at,
                            number=month.pseudonym(each.number),
                            sealed=month.seal(each.number, next(nonce)),
                            grounds=written[key],
                            allow=each.allow,
                            client="dialer",
                            interface="http",
                            call_id=each.call_id,
                            question=keys.named("?", each.call_id.encode()) if each.call_id else b"",
                        )
                    )
                ]
            )
            if each.allow:
                log.write([msgspec.json.encode(outcome(log.next_seq, f"{keys.log}-{seq}", each.at))])


def grounds(seq: int, said: Said) -> Grounds:
    facts = Facts(
        at=0,
        today=date(2026, 11, 24),
        number=Number(kind="fixed", region=said.country),
        controller=Controller(id="acme"),
        campaign=Campaign(id="acme-fibre"),
        call_type="agent",
        caller_id=CallerId(number="+390844123456", form="number"),
    )
    denied = Deny("registry.listed", "enrolled", "D.P.R. 26/2022 art. 8 c. 2")
    decision = Decision(allow=said.allow, outcomes={"registry": Pass() if said.allow else denied})
    return Grounds(
        seq=seq, facts=facts, decision=decision, country=said.country, law="a" * 64, config="b" * 64
    )


def outcome(seq: int, decision: str, at: Instant) -> OutcomeRecord:
    return OutcomeRecord(
        seq=seq, at=at, time="2026-11-24T09:00:00.000Z", decision=decision, result="answered", client="dialer"
    )
