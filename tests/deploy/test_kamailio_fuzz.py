"""Randomly damaged messages that try to call another number or present another caller ID.

The gate of these tests allows one number with one caller ID, and denies everything else. `DIALGATE_SIP_MESSAGES` sets the
number of messages, `DIALGATE_SIP_SEED` repeats an earlier run.
"""

import asyncio
import json
import os
import random
from itertools import count
from pathlib import Path

from dialgate.tools.conformance.gates import Play
from tests.deploy.test_kamailio_gate import with_stub
from tests.support import kamailio_world
from tests.support.kamailio_world import Message, Sip, read, user_of
from tests.support.world import CALLER, CLEAR

EVIL = "+390699999999"
MESSAGES = int(os.environ.get("DIALGATE_SIP_MESSAGES", "400"))
TOKENS = [
    "\r\n", "\n", "\r", "\0", "\t", " ", ",", ";", "<", ">", '"', "@", ":", "?", "%", "%40", "%00", "%0d%0a", "\\", "[", "]", "(", ")",
    EVIL, f"sip:{EVIL}@x", f"<sip:{EVIL}@x>", f",<sip:{EVIL}@x>", f";x=<sip:{EVIL}@x>", f"tel:{EVIL}", f"sip:{EVIL}@", f"{EVIL}@",
    f"\r\nP-Asserted-Identity: <sip:{EVIL}@x>", f"\r\nRemote-Party-ID: <sip:{EVIL}@x>", f"\r\nFrom: <sip:{EVIL}@x>;tag=e",
    f"\r\nTo: <sip:{EVIL}@x>", f"\r\nt: <sip:{EVIL}@x>", f"\r\nf: <sip:{EVIL}@x>;tag=e", f"\r\nm: <sip:{EVIL}@x>",
    f"\r\nRequest-URI: sip:{EVIL}@x", f"\r\nRoute: <sip:{EVIL}@127.0.0.4;lr>", "\r\nRoute: <sip:127.0.0.4;lr>", "\r\n ", "\n\t",
    f"\r\n\r\nINVITE sip:{EVIL}@x SIP/2.0\r\n", "\r\nContent-Length: 0", "\r\nl: 9", "\r\nContent-Length: 5", ";tag=x", ";tag=",
    "\r\nReplaces: a;to-tag=b;from-tag=c", " SIP/2.0", "INVITE ", "ACK ", "\u0660", "\u200f", "\r\nVia: SIP/2.0/UDP x;branch=z9hG4bKe",
    f"\r\nRefer-To: <sip:{EVIL}@x>", ";lr", ";maddr=127.0.0.4", ";transport=tcp", ";user=phone", ";ext=1", "\r\nMax-Forwards: 0",
]  # fmt: skip
HEADERS = {
    "via", "max-forwards", "from", "to", "call-id", "cseq", "contact", "content-length", "record-route", "p-asserted-identity",
    "k", "c", "x-dialgate-decision", "supported", "require", "allow", "content-type", "expires", "accept",
}  # fmt: skip


def damage(text: str, draw: random.Random) -> bytes:
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(text))
        lines = text.split("\r\n")
        match draw.randrange(6):
            case 0 | 1 | 2:
                text = text[:at] + draw.choice(TOKENS) + text[at:]
            case 3:
                text = text[:at] + text[at + draw.randint(1, 12) :]
            case 4:
                lines.insert(draw.randrange(len(lines)), draw.choice(lines))
                text = "\r\n".join(lines)
            case _:
                text = text.replace(CLEAR, EVIL, 1) if draw.random() < 0.3 else text.replace(CALLER, EVIL, 1)
    return text.encode()


def allow_one_call(*written: str) -> Play:
    """Return a `Play` that allows `CLEAR` with `CALLER`, also if the request writes the number as one of `written`."""
    ids = count(1)

    async def play(asked: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = json.loads(asked.partition(b"\r\n\r\n")[2])
        matches = request["to"] in {CLEAR, *written} and request["from"] == CALLER
        answer = {
            "decision": "allow" if matches else "deny",
            "decision_id": f"a-{next(ids)}",
            "to": CLEAR,
            "from": CALLER,
            "reasons": [{"code": "test"}],
        }
        body = json.dumps(answer).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    return play


def check_invite(raw: bytes, message: Message, seed: int) -> None:
    """Assert that an INVITE at a trunk is the one allowed call, for every way of parsing it."""
    assert message.uri in {f"sip:{CLEAR}@{host}" for host in (kamailio_world.TRUNK, kamailio_world.SECOND)}, (
        seed,
        raw,
    )
    assert raw.count(b"INVITE sip:") + raw.count(b"INVITE tel:") == 1, (seed, raw)
    assert {name.lower() for name, _ in message.headers} <= HEADERS, (seed, raw)
    for name, shown in (
        ("From", CALLER),
        ("P-Asserted-Identity", CALLER),
        ("To", CLEAR),
        ("Contact", CALLER),
    ):
        values = message.all(name)
        assert name == "Contact" or len(values) == 1, f"RAW {raw!r}"
        for value in values:
            assert user_of(value) == shown, (seed, raw)
            assert EVIL[1:] not in value.partition(";")[0], (seed, raw)
    assert b"\n" not in raw.replace(b"\r\n", b""), (seed, raw)


async def send_damaged(sip: Sip, draw: random.Random, count: int) -> None:
    for at in range(count):
        text = sip.dialer.invite().text()
        sip.dialer.send(damage(text, draw))
        if at % 50 == 49:  # Kamailio still runs, and has processed the messages
            await sip.dialer.invite(method="OPTIONS").send_until_final()


async def test_damaged_messages_call_no_other_number(tmp_path: Path) -> None:
    seed = int(os.environ.get("DIALGATE_SIP_SEED", "0")) or random.randrange(1, 1 << 30)
    async with with_stub(tmp_path, calls="100000") as (sip, stub):
        stub.play = allow_one_call()
        await send_damaged(sip, random.Random(seed), MESSAGES)
        last = await sip.dialer.call()
        assert last.status == 200
        assert len(sip.trunk.invites) > 1, (
            "no INVITE reached the trunk: the damage is too heavy for a meaningful test"
        )
        for trunk in sip.trunks:
            for message in trunk.kept:
                if message.method == "INVITE":
                    check_invite(message.raw, read(message.raw), seed)
