"""Messages that wait because they could not be applied: the rights of the people in them, and damage."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from dialgate.config import loader
from dialgate.core.model import MINUTE, SECOND
from tests.interfaces.webhooks.test_incoming import (
    CONSENT,
    CRMS,
    EVENTS,
    MOBILE,
    SECRET,
    STOP,
    correct,
    history,
    place,
    post,
    rfc3339,
    send,
    zoho,
)
from tests.support import world
from tests.support.world import ANSWERS, KEY, NOW, World

OTHER = "+393287654321"
CRM = {"X-Webhook-Key": SECRET}
FOLDER = "dead-letters"


@pytest.fixture
async def crm(tmp_path: Path) -> AsyncIterator[World]:
    """Run a gate with the webhooks `crm`, of several events, and `zoho`, of one."""
    clients = [world.client("tests", KEY, *world.SCOPES, "admin", "subjects")]
    answers = {**ANSWERS, MOBILE: False, OTHER: False}
    prepare = lambda folder: place(folder, "generic", "zoho")  # noqa: E731 - one expression
    async with world.running(tmp_path, prepare=prepare, answers=answers, clients=clients) as made:
        await world.load_list(made)
        yield made


async def letters(made: World) -> list[Any]:
    return list((await made.get("/v1/dead-letters"))["letters"])


async def report(made: World, number: str = MOBILE) -> Any:
    return await made.get(f"/v1/subjects/{quote(number)}?purpose=case")


async def erase(made: World, number: str = MOBILE) -> list[tuple[str, str]]:
    """Return the messages about a number, and what the erasure did with each."""
    person = f"/v1/subjects/{quote(number)}"
    case = await made.post(f"{person}/requests", {"kind": "erasure", "identified": "call back"})
    response = await made.post(f"{person}/erasure", {"request": case["id"]}, 200)
    return [
        (item["name"].split()[0], item["done"]) for item in response["items"] if item["what"] == "message"
    ]


WRITTEN = ["+39 328 123 45 67", "0039328/1234567", "328.1234567 (home)", 3281234567, "+39 (0)328 1234567", "3281234567 ext 2"]  # fmt: skip


@pytest.mark.parametrize("written", WRITTEN)
async def test_access_and_erasure_find_a_number_however_it_is_written(crm: World, written: str | int) -> None:
    await send(crm, {"type": "x", "number": written}, status=202)
    await send(crm, {"type": "x", "number": OTHER}, status=202)
    (shown,) = (await report(crm))["letters"]
    assert json.loads(shown["body"])["events"][0]["number"] == written
    assert await erase(crm) == [("crm", "erased")]
    (left,) = await letters(crm)
    assert OTHER in left["body"]
    assert (await report(crm))["letters"] == []


@pytest.mark.parametrize("number", ["+393271234567", "+443281234567", "+3932812345670", "+3932812345"])
async def test_another_number_is_not_found(crm: World, number: str) -> None:
    await send(crm, {"type": "x", "number": number}, status=202)
    assert (await report(crm))["letters"] == []
    assert await erase(crm) == []
    assert len(await letters(crm)) == 1


@pytest.mark.parametrize(
    "events",
    [
        [{"type": "x", "number": MOBILE}, {"type": "x", "number": OTHER}],
        [{"type": "x", "number": MOBILE}, {"type": "x", "number": "of a person, unreadable"}],
        [{"type": "x", "number": OTHER, "recommended_by": MOBILE}],
    ],
)
async def test_a_message_about_others_is_neither_shown_nor_erased(
    crm: World, events: list[dict[str, Any]]
) -> None:
    """It may be the only trace of another person's stop."""
    await send(crm, *events, status=202)
    assert [letter["body"] for letter in (await report(crm))["letters"]] == [""]
    page = await crm.client.get(
        f"/v1/subjects/{quote(MOBILE)}?purpose=case&language=it", headers={"Accept": "text/html"}
    )
    assert "riguarda anche altre persone" in await page.text()
    assert await erase(crm) == [("crm", "kept")]
    assert len(await letters(crm)) == 1


async def test_a_held_number_keeps_its_messages(crm: World) -> None:
    await post(crm, "zoho", zoho({"phone": MOBILE, "do_not_call": "maybe"}), 202)
    await crm.post("/v1/holds", {"number": MOBILE, "reason": "a claim"})
    assert await erase(crm) == [("zoho", "restricted")]
    assert len(await letters(crm)) == 1


async def test_a_replay_records_no_permission_from_before_an_erasure(crm: World) -> None:
    given = EVENTS[0] | {"type": "given", "entry": "c", **CONSENT}
    made_contract = EVENTS[4] | {"type": "signed"}
    await send(crm, given, made_contract, STOP | {"type": "gone"}, given | {"number": OTHER}, status=202)
    crm.hand.at += MINUTE
    await erase(crm)
    crm.hand.at += MINUTE
    await send(
        crm,
        given | {"at": rfc3339(NOW + MINUTE + SECOND)},
        STOP | {"type": "unknown", "number": OTHER},
        status=202,
    )
    correct(crm, given="consent", signed="contract", gone="stop", unknown="nothing")
    replayed = await crm.post("/v1/dead-letters/replay", {}, 200)
    assert replayed == {"gone": 2, "letters": [], "skipped": 2}
    kinds = [type(entry.event).__name__ for entry in await history(crm)]
    assert kinds == [
        "Revoked",
        "Revoked",
        "ConsentGiven",
    ]  # the erasure's, the message's; a consent given since
    assert [type(entry.event).__name__ for entry in await history(crm, OTHER)] == ["ConsentGiven"]


async def test_a_full_webhook_leaves_room_for_others(crm: World) -> None:
    await send(crm, {"type": "x"}, status=202)
    (name,) = [letter["id"] for letter in await letters(crm)]
    for number in range(9_999):
        (crm.app.config.data / FOLDER / f"{number:013}-{number:08}-crm.letter").touch()
    assert (await send(crm, {"type": "x"}, status=503))["error"]["code"] == "webhook.full"
    await post(crm, "zoho", zoho({"phone": MOBILE, "do_not_call": "maybe"}), 202)
    assert name.endswith("-crm")
    await send(crm, STOP)


async def test_a_damaged_message_stops_no_other(crm: World) -> None:
    for number in (MOBILE, OTHER):
        await send(crm, STOP | {"type": "gone", "number": number}, status=202)
        crm.hand.at += MINUTE
    first = min((crm.app.config.data / FOLDER).iterdir())
    damaged = first.read_bytes()[:-1] + b"x"
    first.write_bytes(damaged)
    assert [(letter["problem"]["code"], OTHER in letter["body"]) for letter in await letters(crm)] == [
        ("webhook.unreadable", False),
        ("webhook.unreadable", True),
    ]
    assert await erase(crm) == []
    correct(crm, gone="stop")
    replayed = await crm.post("/v1/dead-letters/replay", {}, 200)
    assert (replayed["gone"], [letter["id"] for letter in replayed["letters"]]) == (1, [first.stem])
    assert first.read_bytes() == damaged
    assert "decrypted" in replayed["letters"][0]["problem"]["message"]
    assert (await crm.post("/v1/dead-letters/replay", {"drop": [first.stem]}, 200))["gone"] == 1


TOKENS = {
    "a form": (urlencode({"token": SECRET, "Phone": MOBILE, "Do_Not_Call": "x"}).encode(), "body.token"),
    "JSON": (json.dumps({"a": [{"token": SECRET}], "Phone": MOBILE, "Do_Not_Call": "x"}).encode(), "body.a.0.token"),
    "escaped": (
        b'{"token": "\\u0061' + SECRET[1:].encode() + b'", "Phone": "%b", "Do_Not_Call": "x"}' % MOBILE.encode(), "body.token"),
    "a list": (json.dumps({"a": [SECRET], "Phone": MOBILE, "Do_Not_Call": "x"}).encode(), "body.a.0"),
    "XML": (f"<m><token>{SECRET}</token></m>".encode(), "body.m.token"),
}  # fmt: skip


@pytest.mark.parametrize("form", TOKENS)
async def test_a_key_in_the_body_is_not_kept(tmp_path: Path, form: str) -> None:
    body, at = TOKENS[form]
    signature = {"digest": "key", "place": at, "secret_file": "zoho.secret"}
    clients = [world.client("tests", KEY, *world.SCOPES, "admin", "subjects")]
    prepare = lambda folder: place(folder, "zoho", signature=signature)  # noqa: E731 - one expression
    async with world.running(tmp_path, prepare=prepare, answers={MOBILE: False}, clients=clients) as made:
        await post(made, "zoho", (body, {}), 202)
        (letter,) = await letters(made)
        assert SECRET not in letter["body"]
        assert MOBILE in letter["body"] or form == "XML"
        assert SECRET not in str(await report(made))
        file = tmp_path / "webhooks/zoho.yaml"
        file.write_text(file.read_text().replace("'false': nothing", "'false': nothing\n    x: stop"))
        made.app.reload(loader.load(tmp_path / "dialgate.yaml"))
        replayed = await made.post("/v1/dead-letters/replay", {}, 200)
        assert replayed["gone"] == (form != "XML")
        assert len(await history(made)) == (form != "XML")


async def test_reading_a_message_is_recorded_for_each_number_in_it(crm: World) -> None:
    await send(crm, {"type": "x", "number": "328 123 4567", "other": [OTHER]}, status=202)
    assert (await report(crm))["lookups"][:-1] == []
    await crm.post("/v1/dead-letters/replay", {}, 200)
    await letters(crm)
    for number in (MOBILE, OTHER):
        seen = [(line["client"], line["purpose"]) for line in (await report(crm, number))["lookups"]]
        assert ("tests", "dead letters of crm") in seen


@pytest.mark.parametrize("empty", ["", "  ", None])
@pytest.mark.parametrize("name", CRMS)
async def test_an_empty_value_says_nothing(tmp_path: Path, name: str, empty: str | None) -> None:
    """A CRM sends each field, also one that nobody has filled in."""
    value: Any = "" if empty is None and name != "hubspot" else empty  # the others have no null
    clients = [world.client("tests", KEY, *world.SCOPES, "admin")]
    prepare = lambda folder: place(folder, name)  # noqa: E731 - one expression
    async with world.running(tmp_path, prepare=prepare, answers={MOBILE: False}, clients=clients) as made:
        stop = {"phone": MOBILE, "contact_id": 4711, "do_not_call": True, "changed_at": value}
        await post(made, name, CRMS[name](stop | {"do_not_call": value, "call_consent": value}), 200 if name == "salesforce" else 202)  # fmt: skip
        assert await history(made) == []  # neither a stop nor the end of one
        assert len(await letters(made)) == 1
        await post(made, name, CRMS[name](stop | {"phone": value}), 200 if name == "salesforce" else 202)
        assert await history(made) == []  # a stop without a number is kept, for a person to read
        assert len(await letters(made)) == 2
        await post(made, name, CRMS[name](stop | {"call_consent": value}))
        assert [type(entry.event).__name__ for entry in await history(made)] == ["Revoked"]
        assert len(await letters(made)) == 2
