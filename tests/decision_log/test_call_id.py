"""A dialer's call id is stored as sent, unless it would reveal a number that must not be stored unencrypted."""

from msgspec import Struct

from tests.support.world import CALLER, CLEAR, World

BARE, NATIONAL = CLEAR.removeprefix("+"), CLEAR.removeprefix("+39")
PERSON = "+393331234567"  # as caller ID, from a dialer that swaps the two numbers


class Sent(Struct, frozen=True):
    call_id: str
    stored: str
    to: str = CLEAR
    from_: str = CALLER
    campaign: str = "acme-fibre"


SENT = {
    "nothing of the number": Sent("1795510800.4711", "1795510800.4711"),
    "the number": Sent(f"lead-{BARE}", "lead-#"),
    "the number as it is written at home": Sent(f"lead {NATIONAL}/7", "lead #"),
    "its last seven digits": Sent(f"a{BARE[-7:]}", "a#"),
    "its last six digits": Sent(f"a{BARE[-6:]}", f"a{BARE[-6:]}"),
    "its first seven digits, which many numbers have": Sent(f"a{NATIONAL[:7]}", f"a{NATIONAL[:7]}"),
    "the number that was written at home": Sent(f"lead-{BARE}", "lead-#", to="06 1234 5678"),
    "the campaign's own caller ID": Sent(f"line-{CALLER}", f"line-{CALLER}"),
    "the campaign's own caller ID and the number": Sent(f"{CALLER}/x/{BARE}", "#/x/#"),
    "a caller ID that may be a person's": Sent("from-3331234567", "from-#", from_=PERSON),
    "its last six digits, of a caller ID": Sent("from-234567", "from-234567", from_=PERSON),
    "both numbers": Sent(f"{BARE}-x-3331234567", "#-x-#", from_=PERSON),
    "a short code that was shown": Sent("desk-4141", "desk-4141", from_="4141"),
    "a caller ID that cannot be read": Sent("from-3331234567", "from-#", from_="333 1234567 ext. 9"),
    "a withheld caller ID": Sent("anonymous-1", "anonymous-1", from_="anonymous"),
    "a number that cannot be read": Sent("to-3331234567", "to-#", to="333 1234567 ext. 9"),
    "six digits of a number that cannot be read": Sent("to-234567", "to-234567", to="333 1234567 ext."),
    "the number, of a campaign that is nobody's": Sent(f"lead-{BARE}", "lead-#", campaign="no-such"),
}


async def test_a_call_id_is_stored_without_the_numbers_it_reveals(running: World) -> None:
    for name, sent in SENT.items():
        body = {"to": sent.to, "from": sent.from_, "campaign": sent.campaign, "call_id": sent.call_id}
        async with running.client.post("/v1/check", json=body) as answer:
            decision = (await answer.json())["decision_id"]
        (stored,) = (record.call_id for record in running.records() if record.id == decision)
        assert stored == sent.stored, name


async def test_a_call_id_is_compared_as_it_was_sent(running: World) -> None:
    """The log removes telephone numbers from call ids. Two call ids that differ only in such a number are still two calls."""
    decision_ids = set()
    for call_id in (f"a {NATIONAL}", f"a {BARE}", f"a {BARE}"):
        body = {"to": CLEAR, "from": CALLER, "campaign": "acme-fibre", "call_id": call_id}
        async with running.client.post("/v1/check", json=body) as answer:
            decision_ids.add((await answer.json())["decision_id"])
    assert len(decision_ids) == 2
