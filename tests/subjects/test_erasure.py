"""Tests of erasure. Data is erased, restricted or kept as required, and no file contains the unencrypted number."""

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

from dialgate.cluster.peer_questions import RemoveFromLists
from dialgate.core.ledger_events import ContractMade, Draft
from dialgate.core.model import DAY, HOUR, Attempt
from dialgate.store.sqlite import SqliteStore
from dialgate.subjects.erasure import last_used
from dialgate.subjects.list_removal import NotRemoved, remove_from_lists
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
    "goods": ["broadband"],
    "call_types": ["agent"],
    "artefact": f"recordings/{MOBILE}.wav",
    "artefact_sha256": "a" * 64,
}


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    async with world.running(tmp_path, clients=CLIENTS) as running:
        world.publish_answers(running.app.config.data, {MOBILE: False}, NOW - 2 * HOUR)
        await world.load_list(running)
        yield running


async def report(gate: World) -> Any:
    return await gate.get(f"/v1/subjects/{PERSON}?purpose=case")


async def erase(gate: World, **more: Any) -> Any:
    case = await gate.post(
        f"/v1/subjects/{PERSON}/requests", {"kind": "erasure", "identified": f"call back to {MOBILE}"}
    )
    return await gate.post(f"/v1/subjects/{PERSON}/erasure", {"request": case["id"], **more}, 200)


def outcomes(response: Any) -> list[tuple[str, str, str]]:
    return [(item["what"], item["name"], item["done"]) for item in response["items"]]


async def test_unused_permission_is_erased_used_one_restricted_revocation_kept(
    gate: World,
) -> None:
    await gate.post("/v1/consents", CONSENT)
    allowed = await gate.post("/v1/check", CALL, 200)
    assert allowed["decision"] == "allow"
    await gate.post("/v1/consents", {**CONSENT, "id": "form-2"})
    await gate.post("/v1/contracts", {"number": MOBILE, "id": "C-1", "starts": "2026-01-01"})
    revoked = await gate.post(
        "/v1/revocations", {"number": MOBILE, "scope": "campaign", "campaign": "acme-fibre"}
    )
    await gate.post(f"/v1/revocations/{revoked['seq']}/lift", {"ground": "error", "reason": "typed wrong"})
    response = await erase(gate)
    assert outcomes(response) == [
        ("consent", "form-1", "restricted"),
        ("consent", "form-2", "erased"),
        ("contract", "C-1", "erased"),
        ("revoked", f"entry {revoked['seq']}", "kept"),
        ("lifted", f"entry {revoked['seq'] + 1}", "kept"),
        ("registry answer", "rpo", "kept"),
        ("decisions", "1", "restricted"),
        ("requests and look-ups", "", "kept"),
    ]
    assert response["items"][0]["until"] == "2031-11-24T09:00:00.000Z"
    assert all(re.search(r"GDPR art\. \d+", item["law"]) for item in response["items"])
    contents = await report(gate)
    assert [entry["kind"] for entry in contents["ledger"]] == ["revoked", "lifted", "revoked"]
    assert [item["details"]["id"] for item in contents["restricted"]] == ["form-1"]
    assert contents["restricted"][0]["details"]["artefact"] == CONSENT["artefact"]
    case = await gate.get(f"/v1/subject-requests/{response['request']}")
    assert case["steps"][-1]["text"] == "2 erased, 2 restricted, 4 kept"
    assert contents["requests"][0].get("closed_at", "") == ""  # it is still to be answered


async def test_erased_number_is_denied_even_if_its_consent_is_sent_again(gate: World) -> None:
    """A CRM may export the erased consent again."""
    await gate.post("/v1/consents", CONSENT)
    response = await erase(gate, proof=f"letter of {MOBILE}")
    await gate.post("/v1/consents", CONSENT)
    denied = await gate.post("/v1/check", CALL, 200)
    assert "revocation.revoked" in [reason["code"] for reason in denied["reasons"]]
    suppression = (await report(gate))["ledger"][0]
    assert suppression["seq"] == response["suppression"]["seq"]
    assert (suppression["channel"], suppression["proof"]) == ("erasure", f"letter of {MOBILE}")


async def test_new_erasure_suppresses_again_after_a_lift(gate: World) -> None:
    """A new erasure appends a new suppression, even with the same proof and time as the lifted suppression."""
    first = (await erase(gate, proof="letter 7"))["suppression"]["seq"]
    lift = {"ground": "error", "reason": "typed wrong"}
    await gate.post(f"/v1/revocations/{first}/lift", lift)
    second = (await erase(gate, proof="letter 7"))["suppression"]["seq"]
    await gate.post(f"/v1/revocations/{second}/lift", lift)
    gate.hand.at += DAY
    third = (await erase(gate, proof="letter 7"))["suppression"]["seq"]
    assert first < second < third
    assert "revocation.revoked" in [
        reason["code"] for reason in (await gate.post("/v1/check", CALL, 200))["reasons"]
    ]


async def test_revocation_for_one_campaign_is_not_a_suppression(gate: World) -> None:
    case = await gate.post(f"/v1/subjects/{PERSON}/requests", {"kind": "erasure", "identified": "id card"})
    stop = {
        "number": MOBILE,
        "scope": "campaign",
        "campaign": "acme-fibre",
        "channel": "erasure",
        "proof": "letter 7",
    }
    seq = (await gate.post("/v1/revocations", stop))["seq"]
    response = await gate.post(
        f"/v1/subjects/{PERSON}/erasure", {"request": case["id"], "proof": "letter 7"}, 200
    )
    assert response["suppression"]["seq"] > seq


async def test_damaged_list_is_not_rewritten_as_valid(gate: World) -> None:
    """A rewritten list would have a valid checksum, so gates would use the wrong legal basis in the damaged list."""
    store, folder = gate.app._store, gate.app.config.data / "lists"
    await gate.post(
        "/v1/lists",
        {**LIST, "id": "mixed", "numbers": ["numero;basis", f"{CLEAR};directory", f"{MOBILE};consent"]},
    )
    before = await store.lists()
    for record in before:
        flip(folder / record.file, -1)
    response = await erase(gate)
    (damaged,) = response["missing"].values()
    assert damaged.startswith("restore the files of these call lists, or retire the lists: mixed (")
    assert "call list" not in [item["what"] for item in response["items"]]
    assert await store.lists() == before


async def test_two_numbers_are_removed_from_a_list_at_once(gate: World) -> None:
    store, folder = gate.app._store, gate.app.config.data / "lists"
    await gate.post("/v1/lists", {**LIST, "id": "mixed", "numbers": NUMBERS})
    done = await asyncio.gather(*(remove_from_lists(store, folder, "acme", number) for number in NUMBERS))
    assert all("mixed" in names for names in done)
    assert {call_list.id: call_list.numbers for call_list in await store.lists()}["mixed"] == 0


def test_attempt_in_the_store_counts_before_its_record_is_logged() -> None:
    counted = [
        Attempt(decision="log-1", at=at, campaign="acme-fibre", basis="consent:form-1") for at in (7, 9, 8)
    ]
    assert last_used([], counted) == {"consent:form-1": 9}


async def test_confirmation_is_erased_with_its_consent(gate: World) -> None:
    """If a CRM sends the consent again, the consent needs a new confirmation."""
    await gate.post("/v1/consents", {**CONSENT, "double_opt_in": True})
    await gate.post("/v1/consents/confirm", {"number": MOBILE, "id": "form-1"})
    response = await erase(gate)
    assert outcomes(response)[:2] == [
        ("consent", "form-1", "erased"),
        ("consent_confirmed", "form-1", "erased"),
    ]


async def test_number_is_removed_from_call_lists_and_others_stay(gate: World) -> None:
    """The lists include retired lists and lists with several legal bases."""
    rows = [f"{CLEAR};directory", f"{MOBILE};consent", f"{LISTED};contract"]
    for name in ("mixed", "retired"):
        body = {**LIST, "id": name, "numbers": ["numero;basis", *rows]}
        await gate.post("/v1/lists", body)
    await gate.post("/v1/lists", {**LIST, "id": "alone", "numbers": [MOBILE]})
    await gate.post("/v1/lists/retired/retire", {}, 200)
    await gate.app.tick()
    response = await erase(gate)
    assert outcomes(response)[:3] == [
        (("call list"), name, "erased") for name in ("alone", "mixed", "retired")
    ]
    assert (await report(gate))["lists"] == []
    async with gate.client.get("/v1/lists") as answer:
        numbers = {call_list["id"]: call_list["numbers"] for call_list in (await answer.json())["lists"]}
    assert numbers == {"alone": 0, "mixed": 2, "retired": 2, "rome": 2}
    files = {path.name for path in (gate.app.config.data / "lists").iterdir()}
    assert len(files) == 4
    await gate.app.tick()
    assert (await gate.post("/v1/check", {**CALL, "to": CLEAR}, 200))["decision"] == "allow"
    async with gate.client.get(f"/v1/subjects/{quote(LISTED)}?purpose=case") as answer:
        bases = {call_list["list"]: call_list["basis"] for call_list in (await answer.json())["lists"]}
    assert bases == {"mixed": "contract", "retired": "contract", "rome": "directory"}


async def test_erasure_needs_its_own_request(gate: World) -> None:
    """The request must be open, for erasure, and about this number."""
    path = f"/v1/subjects/{PERSON}/erasure"
    access = await gate.post(f"/v1/subjects/{PERSON}/requests", {"kind": "access", "identified": "id card"})
    others = await gate.post(
        f"/v1/subjects/{quote(CLEAR)}/requests", {"kind": "erasure", "identified": "id card"}
    )
    for name in (access["id"], others["id"], "none"):
        assert (await gate.post(path, {"request": name}, 404))["error"]["code"] == "subject.unknown"
    done = await erase(gate)
    closing = {"outcome": "answered", "reason": "letter sent"}
    await gate.post(f"/v1/subject-requests/{done['request']}", closing, 200)
    assert (await gate.post(path, {"request": done["request"]}, 409))["error"]["code"] == "subject.closed"


async def test_restricted_data_is_deleted_after_its_term(gate: World) -> None:
    await gate.post("/v1/consents", CONSENT)
    await gate.post("/v1/check", CALL, 200)
    await erase(gate)
    for days, left in ((1826, 1), (1, 0)):
        gate.hand.at += days * DAY
        world.store_time(gate.app.config.data, gate.hand.at)
        await gate.app.subjects.retire(gate.hand.at, drop=True)
        subject = gate.app.registrar.access.keys.subject("acme", MOBILE)
        assert len(await gate.app.subjects._file.restricted(subject)) == left


async def test_nothing_is_erased_under_a_legal_hold_until_it_is_lifted(gate: World) -> None:
    """The hold restricts the consent and the call list. After the hold is lifted, retention removes both."""
    holds = gate.app.subjects.holds
    await holds.place(MOBILE, at=NOW, by="dpo", reason="case 4711")
    await gate.post("/v1/consents", CONSENT)
    await gate.post("/v1/lists", {**LIST, "id": "alone", "numbers": [MOBILE]})
    response = await erase(gate)
    assert [outcome for outcome in outcomes(response) if outcome[0] in {"consent", "call list"}] == [
        ("consent", CONSENT["id"], "restricted"), ("call list", "alone", "restricted")
    ]  # fmt: skip
    assert all("hold" in item["why"] for item in response["items"] if item["done"] == "restricted")
    assert [call_list["list"] for call_list in (await report(gate))["lists"]] == ["alone"]
    await gate.post("/v1/check", CALL, 200)
    await gate.post("/v1/lists/alone/retire", {}, 200)
    gate.hand.at += 4000 * DAY
    world.store_time(gate.app.config.data, gate.hand.at)

    async def removed_kinds() -> set[str]:
        removed = await gate.app.subjects.retire(gate.hand.at, drop=True)
        return {item.kind for item in removed if item.count} & {"restricted", "lists"}

    assert await removed_kinds() == set()
    await holds.lift(MOBILE, at=gate.hand.at, by="dpo", reason="closed")
    assert await removed_kinds() == {"restricted", "lists"}


async def test_daily_run_finishes_an_erasure_after_the_legal_hold_is_lifted(gate: World) -> None:
    """An unused consent and the numbers on the lists of that time are erased. A used consent stays for its term."""
    holds = gate.app.subjects.holds
    await gate.post("/v1/consents", CONSENT)
    await gate.post("/v1/check", CALL, 200)
    await gate.post("/v1/consents", {**CONSENT, "id": "unused"})
    await gate.post("/v1/lists", {**LIST, "id": "alone", "numbers": [MOBILE]})
    await holds.place(MOBILE, at=NOW, by="dpo", reason="case 4711")
    response = await erase(gate)
    until = {
        item["name"]: item.get("until", "") for item in response["items"] if item["done"] == "restricted"
    }
    assert (until["unused"], until["alone"], until["form-1"][:4]) == ("", "", "2031")
    await gate.post("/v1/lists", {**LIST, "id": "later", "numbers": [MOBILE]})

    async def kept_data() -> tuple[list[str], list[str]]:
        await gate.app.subjects.retire(gate.hand.at, drop=True)
        seen = await report(gate)
        consents = [entry["details"]["id"] for entry in seen["restricted"]]
        return sorted(entry["list"] for entry in seen["lists"]), consents

    assert await kept_data() == (["alone", "later"], ["form-1", "unused"])
    gate.hand.at += 1000 * DAY
    world.store_time(gate.app.config.data, gate.hand.at)
    assert await kept_data() == (["alone", "later"], ["form-1", "unused"])
    await holds.lift(MOBILE, at=gate.hand.at, by="dpo", reason="closed")
    assert await kept_data() == (["later"], ["form-1"])
    assert await gate.app.subjects.deadlines.postponed_erasures() == []


async def file_of(gate: World, name: str) -> Path:
    (record,) = [record for record in await gate.app._store.lists() if record.id == name]
    return gate.app.config.data / "lists" / record.file


async def lists_with_the_number(gate: World) -> list[str]:
    return [entry["list"] for entry in (await report(gate))["lists"]]


async def erase_under_hold(gate: World) -> str:
    """Erase a number that is on the list `alone` and under a legal hold, and return the request."""
    await gate.post("/v1/lists", {**LIST, "id": "alone", "numbers": [MOBILE]})
    await gate.app.subjects.holds.place(MOBILE, at=NOW, by="dpo", reason="case 4711")
    return str((await erase(gate))["request"])


@pytest.mark.parametrize("fault", ["damaged", "missing"])
async def test_erasure_is_complete_once_an_unreadable_list_is_restored_or_retired(
    gate: World, fault: str
) -> None:
    """Until then, the number is removed from the other lists only."""
    for name in ("aaa", "bbb", "zzz"):
        await gate.post("/v1/lists", {**LIST, "id": name, "numbers": [MOBILE]})
    paths = [await file_of(gate, name) for name in ("aaa", "bbb")]
    intact = [path.read_bytes() for path in paths]
    for path in paths:
        flip(path, -1) if fault == "damaged" else path.unlink()
    response = await erase(gate)
    (problem,) = response["missing"].values()
    assert ("aaa (" in problem, "bbb (" in problem, "zzz (" in problem) == (True, True, False)
    assert "zzz" not in await lists_with_the_number(gate)
    paths[0].write_bytes(intact[0])
    await gate.post("/v1/lists/bbb/retire", {}, 200)
    again = await gate.post(f"/v1/subjects/{PERSON}/erasure", {"request": response["request"]}, 200)
    assert again["missing"] == {}
    assert ("call list", "aaa", "erased") in outcomes(again)
    paths[0].write_bytes(intact[0])  # the former file; the list has another one now
    assert not paths[1].exists()
    assert await lists_with_the_number(gate) == []


async def test_erasure_sent_again_keeps_its_result(gate: World) -> None:
    await gate.post("/v1/consents", CONSENT)
    await gate.post("/v1/lists", {**LIST, "id": "alone", "numbers": [MOBILE]})
    name = (await erase(gate))["request"]
    results = []
    for _ in range(2):
        case = await gate.get(f"/v1/subject-requests/{name}?purpose=case")
        results.append([(item["what"], item["name"]) for item in case["items"] if item["done"] == "erased"])
        await gate.post(f"/v1/subjects/{PERSON}/erasure", {"request": name}, 200)
    assert results[0] == results[1]
    assert ("call list", "alone") in results[0]


async def test_a_list_that_was_damaged_under_a_hold_is_cleared_once_both_are_over(gate: World) -> None:
    holds = gate.app.subjects.holds
    await gate.post("/v1/lists", {**LIST, "id": "alone", "numbers": [MOBILE]})
    await holds.place(MOBILE, at=NOW, by="dpo", reason="case 4711")
    path = await file_of(gate, "alone")
    flip(path, 2)
    await erase(gate)
    flip(path, 2)
    await holds.lift(MOBILE, at=NOW, by="dpo", reason="closed")
    assert await lists_with_the_number(gate) == ["alone"]
    await gate.app.subjects.retire(gate.hand.at, drop=True)
    assert await lists_with_the_number(gate) == []


async def test_a_hold_placed_during_an_erasure_leaves_it_open(gate: World) -> None:
    """The lists keep the number, so the erasure must not count as complete."""
    subjects = gate.app.subjects
    await gate.post("/v1/lists", {**LIST, "id": "alone", "numbers": [MOBILE]})
    await subjects.holds.place(MOBILE, at=NOW, by="dpo", reason="case 4711")
    with pytest.raises(NotRemoved, match="under a legal hold meanwhile: send the erasure again"):
        await subjects.erasing.remove_from_lists(RemoveFromLists("acme", MOBILE, ()))
    assert await lists_with_the_number(gate) == ["alone"]


async def test_a_request_is_kept_until_its_postponed_erasure_is_done(gate: World) -> None:
    deadlines, holds = gate.app.subjects.deadlines, gate.app.subjects.holds
    name = await erase_under_hold(gate)
    await gate.post(f"/v1/subject-requests/{name}", {"outcome": "answered", "reason": "letter sent"}, 200)
    gate.hand.at += 9000 * DAY
    world.store_time(gate.app.config.data, gate.hand.at)
    await holds.lift(MOBILE, at=gate.hand.at, by="dpo", reason="closed")
    waiting = []
    for _ in range(2):
        flip(await file_of(gate, "alone"), -1)  # the second time, the file is intact again
        await gate.app.subjects.retire(gate.hand.at, drop=True)
        waiting.append(len(await deadlines.postponed_erasures()))
    assert waiting == [1, 0]
    assert await lists_with_the_number(gate) == []


async def test_postponed_erasure_waits_for_a_damaged_list(gate: World) -> None:
    deadlines, holds = gate.app.subjects.deadlines, gate.app.subjects.holds
    await erase_under_hold(gate)
    await holds.lift(MOBILE, at=NOW, by="dpo", reason="closed")
    waiting = []
    for _ in range(2):
        flip(await file_of(gate, "alone"), -1)  # the second time, the file is intact again
        await gate.app.subjects.retire(gate.hand.at, drop=True)
        waiting.append(len(await deadlines.postponed_erasures()))
    assert waiting == [1, 0]
    assert "alone" not in await lists_with_the_number(gate)


@pytest.mark.parametrize("outcome", ["", "answered", "refused", "withdrawn"])
async def test_every_postponed_erasure_is_finished_whatever_became_of_its_request(
    gate: World, outcome: str
) -> None:
    """All steps have the same instant, also those of two erasures from the same list."""
    deadlines, holds = gate.app.subjects.deadlines, gate.app.subjects.holds
    await gate.post("/v1/lists", {**LIST, "id": "both", "numbers": [MOBILE, CLEAR]})
    for number in (MOBILE, CLEAR):
        await holds.place(number, at=NOW, by="dpo", reason="case")
        person = f"/v1/subjects/{quote(number)}"
        case = await gate.post(f"{person}/requests", {"kind": "erasure", "identified": "id card"})
        await gate.post(f"{person}/erasure", {"request": case["id"]}, 200)
        if outcome:
            closing = {"outcome": outcome, "reason": "letter sent"}
            await gate.post(f"/v1/subject-requests/{case['id']}", closing, 200)
        await holds.lift(number, at=NOW, by="dpo", reason="closed")
    assert len(await deadlines.postponed_erasures()) == 2
    for _ in range(2):  # the second run finds nothing to do
        await gate.app.subjects.retire(gate.hand.at, drop=True)
        assert await deadlines.postponed_erasures() == []
    for number in (MOBILE, CLEAR):
        seen = await gate.get(f"/v1/subjects/{quote(number)}?purpose=case")
        assert "both" not in [entry["list"] for entry in seen["lists"]]
        (request,) = seen["requests"]
        assert bool(request.get("closed_at")) is bool(outcome)


async def test_request_is_kept_until_the_legal_hold_is_lifted(gate: World) -> None:
    holds = gate.app.subjects.holds
    await holds.place(MOBILE, at=NOW, by="dpo", reason="case 4711")
    await gate.post("/v1/lists", {**LIST, "id": "alone", "numbers": [MOBILE]})
    closing = {"outcome": "answered", "reason": "letter sent"}
    await gate.post(f"/v1/subject-requests/{(await erase(gate))['request']}", closing, 200)
    gate.hand.at += 9000 * DAY
    world.store_time(gate.app.config.data, gate.hand.at)
    for is_held in (True, False):
        if not is_held:
            await holds.lift(MOBILE, at=gate.hand.at, by="dpo", reason="closed")
        await gate.app.subjects.retire(gate.hand.at, drop=True)
        assert bool((await report(gate))["lists"]) is is_held
        subject = gate.app.registrar.access.keys.subject("acme", MOBILE)
        assert bool(await gate.app.subjects._file.cases(subject)) is is_held


async def test_nothing_is_erased_while_holds_are_unreadable(gate: World) -> None:
    await gate.post("/v1/consents", CONSENT)
    body = {"kind": "erasure", "identified": "id card"}
    name = (await gate.post(f"/v1/subjects/{PERSON}/requests", body))["id"]
    (gate.app.config.data / "holds.json").write_text("{")
    response = await gate.post(f"/v1/subjects/{PERSON}/erasure", {"request": name}, 503)
    assert response["error"]["code"] == "store.unavailable"
    # The report would lack decisions under a hold.
    response = await gate.get(f"/v1/subjects/{PERSON}?purpose=case%207", 503)
    assert response["error"]["code"] == "store.unavailable"
    (gate.app.config.data / "holds.json").unlink()
    assert [entry["kind"] for entry in (await report(gate))["ledger"]] == ["consent", "revoked"], (
        "the suppression comes first"
    )


# ---- no file contains the number -------------------------------------------------------------------------------------


def files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, path.read_bytes()


def clear_in(folder: Path) -> list[str]:
    """Return the files that contain the number, with any separators between its digits."""
    pattern = re.compile(rb"[^0-9A-Za-z]{0,3}".join(bytes([digit]) for digit in TAIL.encode()))
    return [path.name for path, content in files(folder) if pattern.search(content)]


def test_search_for_the_number_finds_it(tmp_path: Path) -> None:
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
def test_no_file_contains_the_unencrypted_number_after_an_erasure(
    tmp_path_factory: pytest.TempPathFactory, words: list[str]
) -> None:
    """No file contains the unencrypted number, neither before nor after the erasure.

    The search covers the decision log, the lists, and the database with its log and free pages.
    """
    asyncio.run(_fill_and_erase(tmp_path_factory.mktemp("life"), words))


async def _fill_and_erase(folder: Path, words: list[str]) -> None:
    response = iter(words)
    async with world.running(folder, clients=CLIENTS) as gate:
        data = gate.app.config.data
        world.publish_answers(data, {MOBILE: False}, NOW - 2 * HOUR)
        await gate.post("/v1/lists", {**LIST, "numbers": [*LIST["numbers"], MOBILE]})
        await gate.app.tick()
        name = next(response)
        await gate.post(
            "/v1/consents", {**CONSENT, "id": name, "artefact": next(response), "proof": next(response)}
        )
        answer = await gate.post("/v1/check", {**CALL, "call_id": next(response)}, 200)
        assert answer["decision"] == "allow"
        stop = await gate.post(
            "/v1/revocations", {"number": MOBILE, "proof": next(response), "actor": next(response)}
        )
        await gate.post(f"/v1/revocations/{stop['seq']}/lift", {"ground": "error", "reason": next(response)})
        await gate.post("/v1/consents/withdraw", {"number": MOBILE, "id": name})
        async with gate.client.get(
            f"/v1/consents?number={PERSON}&purpose={quote(next(response))}"
        ) as answer_:
            assert (await answer_.json())["entries"][0]["kind"] == "consent"
        await gate.app.tick()
        assert clear_in(data) == []
        await erase(gate, proof=next(response))
        await gate.app.tick()
        assert clear_in(data) == []
    assert clear_in(data) == []


async def test_removed_ledger_entries_are_overwritten(tmp_path: Path) -> None:
    """After the store is closed, no page of the file contains the bytes of a removed entry."""
    store = SqliteStore.open(tmp_path / "store.db")
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
