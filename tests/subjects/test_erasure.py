"""Erasure: what goes, what stays and why; and that the number stands nowhere in clear."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dialgate.audit.legal_holds import Holds
from dialgate.core.ledger_events import ContractMade, Draft
from dialgate.core.model import DAY, HOUR, Attempt
from dialgate.store.sqlite import SqliteStore
from dialgate.subjects.erasure import last_used
from dialgate.subjects.list_removal import remove_from_lists
from tests.support import world
from tests.support.damage import flip
from tests.support.world import CALLER, CLEAR, LIST, LISTED, NOW, World

MOBILE = "+393289876543"
NUMBERS = [MOBILE, CLEAR, LISTED]
PERSON = quote(MOBILE)
TAIL = MOBILE[-7:]
CLIENTS = [world.client("tests", world.KEY, *world.SCOPES, "subjects")]
CALL = {"to": MOBILE, "from": CALLER, "campaign": "acme-fibre"}
CONSENT = {
    "number": MOBILE,
    "id": "form-1",
    "collected_at": "2026-11-20T10:00:00+01:00",
    "purposes": ["sale"],
    "call_types": ["agent"],
    "artefact": f"recordings/{MOBILE}.wav",
    "artefact_sha256": "a" * 64,
}


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[World]:
    async with world.running(tmp_path, clients=CLIENTS) as running:
        world.publish_answers(running.app.config.data, {MOBILE: False}, NOW - 2 * HOUR)
        await world.load_list(running)
        yield running


async def send(made: World, path: str, body: dict[str, Any], status: int = 201) -> Any:
    async with made.client.post(path, json=body) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def report(made: World) -> Any:
    async with made.client.get(f"/v1/subjects/{PERSON}?purpose=case") as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def erase(made: World, **more: Any) -> Any:
    asked = await send(
        made, f"/v1/subjects/{PERSON}/requests", {"kind": "erasure", "identified": f"call back to {MOBILE}"}
    )
    return await send(made, f"/v1/subjects/{PERSON}/erasure", {"request": asked["id"], **more}, 200)


def outcomes(told: Any) -> list[tuple[str, str, str]]:
    return [(each["what"], each["name"], each["done"]) for each in told["items"]]


async def test_what_permits_goes_what_forbids_stays_and_what_proves_a_call_is_put_out_of_use(
    made: World,
) -> None:
    await send(made, "/v1/consents", CONSENT)
    allowed = await send(made, "/v1/check", CALL, 200)
    assert allowed["decision"] == "allow"
    await send(made, "/v1/consents", {**CONSENT, "id": "form-2"})
    await send(made, "/v1/contracts", {"number": MOBILE, "id": "C-1", "starts": "2026-01-01"})
    revoked = await send(
        made, "/v1/revocations", {"number": MOBILE, "scope": "campaign", "campaign": "acme-fibre"}
    )
    await send(made, f"/v1/revocations/{revoked['seq']}/lift", {"ground": "error", "reason": "typed wrong"})
    told = await erase(made)
    assert outcomes(told) == [
        ("consent", "form-1", "restricted"),
        ("consent", "form-2", "erased"),
        ("contract", "C-1", "erased"),
        ("revoked", f"entry {revoked['seq']}", "kept"),
        ("lifted", f"entry {revoked['seq'] + 1}", "kept"),
        ("registry answer", "rpo", "kept"),
        ("decisions", "1", "restricted"),
        ("requests and look-ups", "", "kept"),
    ]
    assert told["items"][0]["until"] == "2031-11-24T09:00:00.000Z"
    assert all(re.search(r"GDPR art\. \d+", each["law"]) for each in told["items"])
    held = await report(made)
    assert [each["kind"] for each in held["ledger"]] == ["revoked", "lifted", "revoked"]
    assert [each["details"]["id"] for each in held["restricted"]] == ["form-1"]
    assert held["restricted"][0]["details"]["artefact"] == CONSENT["artefact"]
    assert held["requests"][0]["outcome"] == "2 erased, 2 restricted, 4 kept"


async def test_an_erased_number_is_refused_from_the_receipt_on_also_when_it_comes_back(made: World) -> None:
    """As an export of the CRM brings it, with the consent that was erased."""
    await send(made, "/v1/consents", CONSENT)
    told = await erase(made, proof=f"letter of {MOBILE}")
    await send(made, "/v1/consents", CONSENT)
    denied = await send(made, "/v1/check", CALL, 200)
    assert "revocation.revoked" in [each["code"] for each in denied["reasons"]]
    suppression = (await report(made))["ledger"][0]
    assert suppression["seq"] == told["suppression"]["seq"]
    assert (suppression["channel"], suppression["proof"]) == ("erasure", f"letter of {MOBILE}")


async def test_an_erasure_stops_again_what_was_lifted_since_another(made: World) -> None:
    """On the same proof, at the same instant, or later."""
    first = (await erase(made, proof="letter 7"))["suppression"]["seq"]
    lift = {"ground": "error", "reason": "typed wrong"}
    await send(made, f"/v1/revocations/{first}/lift", lift)
    second = (await erase(made, proof="letter 7"))["suppression"]["seq"]
    await send(made, f"/v1/revocations/{second}/lift", lift)
    made.hand.at += DAY
    third = (await erase(made, proof="letter 7"))["suppression"]["seq"]
    assert first < second < third
    assert "revocation.revoked" in [
        each["code"] for each in (await send(made, "/v1/check", CALL, 200))["reasons"]
    ]


async def test_a_stop_of_one_campaign_is_no_erasures_stop(made: World) -> None:
    asked = await send(made, f"/v1/subjects/{PERSON}/requests", {"kind": "erasure", "identified": "id card"})
    stop = {
        "number": MOBILE,
        "scope": "campaign",
        "campaign": "acme-fibre",
        "channel": "erasure",
        "proof": "letter 7",
    }
    seq = (await send(made, "/v1/revocations", stop))["seq"]
    told = await send(
        made, f"/v1/subjects/{PERSON}/erasure", {"request": asked["id"], "proof": "letter 7"}, 200
    )
    assert told["suppression"]["seq"] > seq


async def test_a_damaged_list_is_not_made_the_valid_one(made: World) -> None:
    """A bit that moved somebody to another basis would do so at every gate."""
    store, folder = made.app._store, made.app.config.data / "lists"
    await send(
        made,
        "/v1/lists",
        {**LIST, "id": "mixed", "numbers": ["numero;basis", f"{CLEAR};directory", f"{MOBILE};consent"]},
    )
    before = await store.lists()
    for record in before:
        flip(folder / record.file, -1)
    told = await erase(made)
    assert "call list" not in [each["what"] for each in told["items"]]
    assert await store.lists() == before


async def test_two_numbers_leave_a_list_at_once(made: World) -> None:
    store, folder = made.app._store, made.app.config.data / "lists"
    await send(made, "/v1/lists", {**LIST, "id": "mixed", "numbers": NUMBERS})
    done = await asyncio.gather(*(remove_from_lists(store, folder, "acme", number) for number in NUMBERS))
    assert all("mixed" in names for names in done)
    assert {each.id: each.numbers for each in await store.lists()}["mixed"] == 0


def test_what_the_store_counts_is_used_also_before_a_log_says_so() -> None:
    counted = [
        Attempt(decision="log-1", at=at, campaign="acme-fibre", basis="consent:form-1") for at in (7, 9, 8)
    ]
    assert last_used([], counted) == {"consent:form-1": 9}


async def test_the_confirmation_of_a_consent_goes_with_it(made: World) -> None:
    """Else a consent that an export brings back would come back confirmed."""
    await send(made, "/v1/consents", {**CONSENT, "double_opt_in": True})
    await send(made, "/v1/consents/confirm", {"number": MOBILE, "id": "form-1"})
    told = await erase(made)
    assert outcomes(told)[:2] == [("consent", "form-1", "erased"), ("consent_confirmed", "form-1", "erased")]


async def test_a_number_leaves_the_call_lists_and_the_others_stay(made: World) -> None:
    """Retired ones and those that rest on several bases too."""
    rows = [f"{CLEAR};directory", f"{MOBILE};consent", f"{LISTED};contract"]
    for name in ("mixed", "retired"):
        body = {**LIST, "id": name, "numbers": ["numero;basis", *rows]}
        await send(made, "/v1/lists", body)
    await send(made, "/v1/lists", {**LIST, "id": "alone", "numbers": [MOBILE]})
    await send(made, "/v1/lists/retired/retire", {}, 200)
    await made.app.tick()
    told = await erase(made)
    assert outcomes(told)[:3] == [(("call list"), name, "erased") for name in ("alone", "mixed", "retired")]
    assert (await report(made))["lists"] == []
    async with made.client.get("/v1/lists") as answer:
        numbers = {each["id"]: each["numbers"] for each in (await answer.json())["lists"]}
    assert numbers == {"alone": 0, "mixed": 2, "retired": 2, "rome": 2}
    files = {path.name for path in (made.app.config.data / "lists").iterdir()}
    assert len(files) == 4
    await made.app.tick()
    assert (await send(made, "/v1/check", {**CALL, "to": CLEAR}, 200))["decision"] == "allow"
    async with made.client.get(f"/v1/subjects/{quote(LISTED)}?purpose=case") as answer:
        bases = {each["list"]: each["basis"] for each in (await answer.json())["lists"]}
    assert bases == {"mixed": "contract", "retired": "contract", "rome": "directory"}


async def test_an_erasure_needs_its_own_request(made: World) -> None:
    """Of that number, open, and for erasure: it says how the asker was identified."""
    path = f"/v1/subjects/{PERSON}/erasure"
    access = await send(made, f"/v1/subjects/{PERSON}/requests", {"kind": "access", "identified": "id card"})
    others = await send(
        made, f"/v1/subjects/{quote(CLEAR)}/requests", {"kind": "erasure", "identified": "id card"}
    )
    for name in (access["id"], others["id"], "none"):
        assert (await send(made, path, {"request": name}, 404))["error"]["code"] == "subject.unknown"
    done = await erase(made)
    assert (await send(made, path, {"request": done["request"]}, 409))["error"]["code"] == "subject.closed"


async def test_what_was_restricted_goes_when_its_time_is_over(made: World) -> None:
    await send(made, "/v1/consents", CONSENT)
    await send(made, "/v1/check", CALL, 200)
    await erase(made)
    for days, left in ((1826, 1), (1, 0)):
        made.hand.at += days * DAY
        world.confirm_clock(made.app.config.data, made.hand.at)
        await made.app.subjects.retire(made.hand.at, drop=True)
        subject = made.app.registrar.access.keys.subject("acme", MOBILE)
        assert len(await made.app.subjects._file.restricted(subject)) == left


async def test_of_a_number_under_a_legal_hold_nothing_is_destroyed_until_it_is_lifted(made: World) -> None:
    """And nobody may call it: what permits calls is out of use, and the suppression binds."""
    holds = Holds(made.app.config.data, made.app.subjects._keys)
    holds.add(MOBILE, at=NOW, by="dpo", reason="case 4711")
    await send(made, "/v1/consents", CONSENT)
    await send(made, "/v1/lists", {**LIST, "id": "alone", "numbers": [MOBILE]})
    told = await erase(made)
    assert [each for each in outcomes(told) if each[0] in {"consent", "call list"}] == [
        ("consent", CONSENT["id"], "restricted"), ("call list", "alone", "restricted")
    ]  # fmt: skip
    assert all("hold" in each["why"] for each in told["items"] if each["done"] == "restricted")
    assert [each["list"] for each in (await report(made))["lists"]] == ["alone"]
    await send(made, "/v1/check", CALL, 200)
    await send(made, "/v1/lists/alone/retire", {}, 200)
    made.hand.at += 4000 * DAY
    world.confirm_clock(made.app.config.data, made.hand.at)

    async def gone() -> set[str]:
        removed = await made.app.subjects.retire(made.hand.at, drop=True)
        return {each.kind for each in removed if each.count} & {"restricted", "lists"}

    assert await gone() == set()
    holds.lift(MOBILE, at=made.hand.at, by="dpo", reason="closed")
    assert await gone() == {"restricted", "lists"}


async def test_nothing_is_erased_while_nobody_can_tell_what_is_held(made: World) -> None:
    await send(made, "/v1/consents", CONSENT)
    body = {"kind": "erasure", "identified": "id card"}
    name = (await send(made, f"/v1/subjects/{PERSON}/requests", body))["id"]
    (made.app.config.data / "holds.json").write_text("{")
    told = await send(made, f"/v1/subjects/{PERSON}/erasure", {"request": name}, 503)
    assert told["error"]["code"] == "store.unavailable"
    assert [each["kind"] for each in (await report(made))["ledger"]] == ["consent", "revoked"], (
        "a stop binds first"
    )


# ---- no byte of it ---------------------------------------------------------------------------------------------------


def files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, path.read_bytes()


def clear_in(folder: Path) -> list[str]:
    """The files in which the number stands, whatever stands between its digits."""
    pattern = re.compile(rb"[^0-9A-Za-z]{0,3}".join(bytes([digit]) for digit in TAIL.encode()))
    return [path.name for path, content in files(folder) if pattern.search(content)]


def test_the_search_for_the_number_finds_it(tmp_path: Path) -> None:
    for name, text in (("plain", MOBILE), ("parted", "328 987-65.43"), ("none", "3289876544")):
        (tmp_path / name).write_text(text)
    assert clear_in(tmp_path) == ["parted", "plain"]


FORMS = ["{}", "tel:{}", "+39 328 987 6543", "(328) 987-65-43", "rec/0039{}.wav", "x{}y"]
texts = st.sampled_from(FORMS).map(lambda form: form.format(MOBILE.removeprefix("+39")))


@settings(
    max_examples=8,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(words=st.lists(texts, min_size=9, max_size=9))
def test_no_file_holds_the_number_in_clear_after_an_erasure(
    tmp_path_factory: pytest.TempPathFactory, words: list[str]
) -> None:
    """Nor before it: not the database, its log or its free pages, not the decision log, not the lists."""
    asyncio.run(_lives_and_is_erased(tmp_path_factory.mktemp("life"), words))


async def _lives_and_is_erased(folder: Path, words: list[str]) -> None:
    told = iter(words)
    async with world.running(folder, clients=CLIENTS) as made:
        data = made.app.config.data
        world.publish_answers(data, {MOBILE: False}, NOW - 2 * HOUR)
        await send(made, "/v1/lists", {**LIST, "numbers": [*LIST["numbers"], MOBILE]})
        await made.app.tick()
        name = next(told)
        await send(made, "/v1/consents", {**CONSENT, "id": name, "artefact": next(told), "proof": next(told)})
        answer = await send(made, "/v1/check", {**CALL, "call_id": next(told)}, 200)
        assert answer["decision"] == "allow"
        stop = await send(
            made, "/v1/revocations", {"number": MOBILE, "proof": next(told), "actor": next(told)}
        )
        await send(made, f"/v1/revocations/{stop['seq']}/lift", {"ground": "error", "reason": next(told)})
        await send(made, "/v1/consents/withdraw", {"number": MOBILE, "id": name})
        async with made.client.get(f"/v1/consents?number={PERSON}&purpose={quote(next(told))}") as answer_:
            assert (await answer_.json())["entries"][0]["kind"] == "consent"
        await made.app.tick()
        assert clear_in(data) == []
        await erase(made, proof=next(told))
        await made.app.tick()
        assert clear_in(data) == []
    assert clear_in(data) == []


async def test_what_is_removed_from_the_ledger_is_overwritten(tmp_path: Path) -> None:
    """Whatever stood in it: its bytes are in no page of the file once the store is closed."""
    store = SqliteStore.open(tmp_path / "store.db", patience=5)
    event = ContractMade(id="SECRET-WORD", starts=date(2026, 1, 1))
    entries = [
        Draft(at=NOW, controller="acme", subject=bytes([n]) * 16, event=event, actor="a", channel="b")
        for n in range(200)
    ]
    seqs = await store.append(entries)
    assert await store.remove(seqs[10:], [entries[0]]) == [201]
    await store.close()
    content = b"".join(content for _, content in files(tmp_path))
    assert content.count(b"SECRET-WORD") == 11
