"""The rights of the person called, asked over HTTP of a gate that runs."""

import re
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from dialgate.core.model import DAY, HOUR
from dialgate.core.request_deadlines import due
from tests.support import world
from tests.support.world import CALL, CLEAR, World

SCOPES = (*world.SCOPES, "subjects")
AT = "2026-11-20T10:00:00+01:00"
PERSON = quote(CLEAR)
RECORDING = "recordings/06 1234-5678.wav"
CONSENT = {
    "number": CLEAR,
    "id": f"form-{CLEAR}",
    "collected_at": AT,
    "purposes": ["sale"],
    "call_types": ["agent"],
    "artefact": RECORDING,
    "artefact_sha256": "a" * 64,
}
CONTRACT = {"number": CLEAR, "id": "C-1", "starts": "2026-01-01", "sector": "telecommunications"}
WISH = {"number": CLEAR, "id": "web-1", "requested_at": AT, "expires_at": "2026-12-20T10:00:00+01:00"}
CLIENTS = [world.client("tests", world.KEY, *SCOPES), world.client("other", "other-key", "simulate", "read")]


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[World]:
    async with world.running(tmp_path, clients=CLIENTS) as running:
        await world.load_list(running)
        yield running


async def send(made: World, path: str, body: dict[str, Any], status: int = 201) -> Any:
    async with made.client.post(path, json=body) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def get(made: World, path: str, status: int = 200, **headers: str) -> Any:
    async with made.client.get(path, headers=headers) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def fill(made: World) -> None:
    for path, body in (
        ("/v1/consents", CONSENT),
        ("/v1/contracts", CONTRACT),
        ("/v1/call-requests", WISH),
    ):
        await send(made, path, body)


async def ask(made: World, kind: str, **more: Any) -> Any:
    body = {"kind": kind, "identified": "code read back on a call to it", "channel": "pec", **more}
    return await send(made, f"/v1/subjects/{PERSON}/requests", body)


async def report(made: World, **more: str) -> Any:
    query = "&".join(f"{name}={quote(value)}" for name, value in {"purpose": "case 7", **more}.items())
    return await get(made, f"/v1/subjects/{PERSON}?{query}")


# ---- access ----------------------------------------------------------------------------------------------------------


async def test_the_report_holds_everything_and_who_saw_it(made: World) -> None:
    await fill(made)
    allowed = await send(made, "/v1/check", CALL, 200)
    await send(made, "/v1/outcomes", {"decision_id": allowed["decision_id"], "outcome": "answered"}, 200)
    await send(made, "/v1/revocations", {"number": CLEAR, "proof": f"call to {CLEAR}"})
    denied = await send(made, "/v1/check", CALL, 200)
    await ask(made, "access")
    told = await report(made)
    assert [entry["kind"] for entry in told["ledger"]] == ["consent", "contract", "call_request", "revoked"]
    assert told["ledger"][0]["details"]["artefact"] == RECORDING
    assert told["ledger"][3]["proof"] == f"call to {CLEAR}"
    assert [(each["id"], each["decision"], each["result"]) for each in told["decisions"]] == [
        (denied["decision_id"], "deny", ""),
        (allowed["decision_id"], "allow", "answered"),
    ]
    assert "revocation.revoked" in [why["code"] for why in told["decisions"][0]["reasons"]]
    assert [(each["list"], each["basis"], each["origin"]["collected_by"]) for each in told["lists"]] == [
        ("rome", "directory", "Acme")
    ]
    assert [(each["registry"], each["answer"]) for each in told["registries"]] == [("rpo", "clear")]
    assert [(each["kind"], each["identified"]) for each in told["requests"]] == [
        ("access", "code read back on a call to it")
    ]
    assert [(each["client"], each["what"], each["purpose"]) for each in told["lookups"]] == [
        ("tests", "everything", "case 7")
    ]
    assert told["days_of_storage"]["consents"] == 1826


@pytest.mark.parametrize(
    ("language", "headers", "words"),
    [
        ("it", {}, ["I Suoi dati presso Acme Telecomunicazioni", "Decisioni sulle chiamate", "permessa"]),
        ("en", {}, ["Your data held by Acme Telecomunicazioni", "Who looked at this data", "allowed"]),
        ("", {"Accept": "text/html", "Accept-Language": "de-DE,en;q=0.8,it;q=0.5"}, ["Your data held by"]),
        ("", {"Accept": "text/html"}, ["I Suoi dati presso"]),
    ],
)
async def test_the_report_is_a_page_to_read(
    made: World, language: str, headers: dict[str, str], words: list[str]
) -> None:
    """What people entered is text on it, and nothing else."""
    await fill(made)
    await send(made, "/v1/revocations", {"number": CLEAR, "proof": "<script>alert(1)</script>"})
    await send(made, "/v1/consents/withdraw", {"number": CLEAR, "id": CONSENT["id"]})
    await send(made, "/v1/revocations/4/lift", {"ground": "error", "reason": "typed wrong"})
    await send(made, "/v1/check", CALL, 200)
    query = f"purpose=case%207{language and f'&language={language}'}"
    async with made.client.get(f"/v1/subjects/{PERSON}?{query}", headers=headers) as answer:
        assert answer.content_type == "text/html"
        assert answer.headers["Cache-Control"] == "no-store"
        page = await answer.text()
    for word in (*words, CLEAR, "rome"):
        assert word in page
    assert "<script" not in page


@pytest.mark.parametrize(
    ("language", "lines"),
    [
        (
            "it",
            [
                "Titolare del trattamento</strong>: Acme Telecomunicazioni S.p.A.<br>Via Esempio 1, 00100 Roma",
                "Responsabile della protezione dei dati (DPO)</strong>: Dott.ssa Maria Esempio, dpo@acme.example",
                "Preparata il 24/11/2026 10:00 CET. Fuso orario: Europe/Rome.",
                "finalità: vendita; pubblicità<br>tipi di chiamata: ",
                "raccolto il: 20/10/2026 09:00 CEST",
                "provenienza: raccolto da Lead Srl, raccolto il 01/10/2026, cessioni da Lead Srl, a acme, il 02/10/2026, persone informate sì",
            ],
        ),
        (
            "en",
            [
                "Controller</strong>: Acme Telecomunicazioni S.p.A.<br>Via Esempio 1",
                "Prepared on 24/11/2026 10:00 CET. Time zone: Europe/Rome.",
                "purposes: to sell something; to advertise<br>",
                "disclosure to third parties: yes",
            ],
        ),
    ],
)
async def test_the_page_names_who_answers_and_shows_values_as_people_write_them(
    made: World, language: str, lines: list[str]
) -> None:
    transfer = {"by": "Lead Srl", "to": "acme", "on": "2026-10-02", "subjects_told": True}
    origin = {"collected_by": "Lead Srl", "collected_on": "2026-10-01", "transfers": [transfer]}
    given = {
        "id": "c2",
        "purposes": ["sale", "advertising"],
        "collected_at": "2026-10-20T07:00:00Z",
        "artefact": "recordings/1.wav",
    }
    await send(made, "/v1/consents", {**CONSENT, **given, "origin": origin, "third_party": True})
    async with made.client.get(f"/v1/subjects/{PERSON}?purpose=case%207&language={language}") as answer:
        page = await answer.text()
    for line in lines:
        assert line in page
    for code in ("UTC", "(&#x27;", "&#x27;,", "collected_at", "T07:00"):
        assert code not in page
    # A word is broken only where no column could hold it.
    assert "a" * 64 in page
    assert re.findall(r'<span class="long">(.*?)</span>', page) == ["a" * 64]


async def test_nothing_is_shown_without_a_reason(made: World) -> None:
    for path in (f"/v1/subjects/{PERSON}", f"/v1/revocations?number={PERSON}"):
        told = await get(made, path, 400)
        assert told["error"]["field"] == "purpose"
    assert (await report(made))["lookups"][0]["what"] == "everything"  # the first that is recorded


async def test_every_way_to_read_of_a_number_is_recorded(made: World) -> None:
    await send(made, "/v1/simulate", CALL, 200)
    await get(made, f"/v1/consents?number={PERSON}&purpose=complaint")
    await get(made, f"/v1/subjects/{PERSON}/portability?purpose=case%208")
    await get(made, f"/v1/decisions?number={PERSON}&purpose=case%209")
    seen = [(each["what"], each["purpose"]) for each in (await report(made))["lookups"]]
    assert seen == [
        ("simulation", "campaign acme-fibre"),
        ("consent", "complaint"),
        ("portability", "case 8"),
        ("decisions", "case 9"),
        ("everything", "case 7"),
    ]


async def test_what_can_be_taken_elsewhere_is_what_the_person_provided(made: World) -> None:
    await fill(made)
    await send(made, "/v1/check", CALL, 200)
    await send(made, "/v1/revocations", {"number": CLEAR})
    told = await get(made, f"/v1/subjects/{PERSON}/portability?purpose=case%207")
    assert (told["format"], told["number"]) == ("dialgate-portability-1", CLEAR)
    assert [each["artefact"] for each in told["consents"]] == [RECORDING]
    assert [each["id"] for each in told["contracts"]] == ["C-1"]
    assert [each["id"] for each in told["call_requests"]] == ["web-1"]
    assert told.keys() == {
        "format", "number", "controller", "controller_name", "made_at", "consents", "contracts", "call_requests"
    }  # fmt: skip


# ---- enumeration -----------------------------------------------------------------------------------------------------


async def test_a_client_that_enumerates_numbers_is_stopped_for_an_hour(tmp_path: Path) -> None:
    """However it asks; a number that it has looked up already is no new one; and no other client is touched."""
    async with world.running(tmp_path, clients=CLIENTS, limits={"lookups_an_hour": 3}) as made:
        await get(made, "/v1/revocations?number=%2B390612345670&purpose=abc")
        made.hand.at += 60_000
        await send(made, "/v1/simulate", {**CALL, "to": "+390612345671"}, 200)
        await get(made, "/v1/subjects/%2B390612345672?purpose=abc")
        for path in ("/v1/contracts?number=", "/v1/subjects/"):
            glue = "&" if "?" in path else "?"
            async with made.client.get(f"{path}%2B390612345673{glue}purpose=abc") as answer:
                assert answer.status == 429
                assert answer.headers["Retry-After"] == str(59 * 60)
                assert (await answer.json())["error"]["code"] == "lookup.throttled"
        await send(made, "/v1/simulate", {**CALL, "to": "+390612345673"}, 429)
        await get(made, "/v1/subjects/%2B390612345670?purpose=abc")
        assert made.sample("dialgate_lookups_throttled_total", client="tests") == 3
        async with made.client.get(
            "/v1/contracts?number=%2B390612345673&purpose=abc", headers={"Authorization": "Bearer other-key"}
        ) as answer:
            assert answer.status == 200
        made.hand.at += HOUR
        await get(made, "/v1/contracts?number=%2B390612345673&purpose=abc")


async def test_the_limit_holds_across_a_restart(tmp_path: Path) -> None:
    async with world.running(tmp_path, clients=CLIENTS, limits={"lookups_an_hour": 1}) as made:
        await report(made)
    for folder in ("countries", "controllers"):
        shutil.rmtree(tmp_path / folder)
    async with world.running(tmp_path, clients=CLIENTS, limits={"lookups_an_hour": 1}) as made:
        await get(made, "/v1/contracts?number=%2B390612345673&purpose=abc", 429)
        assert len((await report(made))["lookups"]) == 2


# ---- the clock -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("received", "months", "until"),
    [
        ("2026-11-24", 1, "2026-12-24"),
        ("2026-01-31", 1, "2026-02-28"),
        ("2028-01-31", 1, "2028-02-29"),
        ("2026-12-15", 1, "2027-01-15"),
        ("2026-11-30", 3, "2027-02-28"),
        ("2026-10-24", 3, "2027-01-24"),
    ],
)
def test_a_month_ends_on_its_day_or_on_the_months_last(received: str, months: int, until: str) -> None:
    assert due(instant(received), months) == instant(until)


def instant(day: str) -> int:
    return int(datetime.fromisoformat(f"{day}T12:00:00.250").replace(tzinfo=UTC).timestamp() * 1000)


async def test_a_clock_runs_on_each_request_until_it_is_answered(made: World) -> None:
    first = await ask(made, "access", received_at="2026-11-10T10:00:00+01:00")
    second = await ask(made, "erasure")
    assert (first["due_at"], first["days_left"]) == ("2026-12-10T09:00:00.000Z", 16)
    listed = (await get(made, "/v1/subject-requests"))["requests"]
    assert [each["id"] for each in listed] == [first["id"], second["id"]]
    await made.app.tick()
    assert made.sample("dialgate_subject_requests_open", kind="access") == 1
    assert made.sample("dialgate_subject_request_left_seconds") == 16 * 86_400
    told = await send(
        made, f"/v1/subject-requests/{first['id']}", {"outcome": "extended", "reason": "many calls"}, 200
    )
    assert told["due_at"] == "2027-02-10T09:00:00.000Z"
    told = await send(
        made, f"/v1/subject-requests/{second['id']}", {"outcome": "refused", "reason": "not theirs"}, 200
    )
    assert told["refused"]
    await made.app.tick()
    assert made.sample("dialgate_subject_requests_open", kind="erasure") == 0
    assert made.sample("dialgate_subject_request_left_seconds") == 78 * 86_400
    made.hand.at += 80 * DAY
    await made.app.tick()
    assert made.sample("dialgate_subject_request_left_seconds") == -2 * 86_400


async def test_a_request_is_closed_once_and_extended_once_and_in_time(made: World) -> None:
    one = (await ask(made, "access"))["id"]
    path = f"/v1/subject-requests/{one}"
    await send(made, path, {"outcome": "extended", "reason": "many calls"}, 200)
    again = await send(made, path, {"outcome": "extended", "reason": "many calls"}, 409)
    assert again["error"]["code"] == "subject.closed"
    await send(made, path, {"outcome": "answered", "reason": "sent by pec"}, 200)
    await send(made, path, {"outcome": "refused", "reason": "sent by pec"}, 409)
    late = (await ask(made, "access"))["id"]
    made.hand.at += 40 * DAY
    await send(made, f"/v1/subject-requests/{late}", {"outcome": "extended", "reason": "late"}, 409)
    await send(made, "/v1/subject-requests/none", {"outcome": "answered", "reason": "sent"}, 404)


async def test_a_request_says_how_the_asker_was_identified_and_cannot_come_from_tomorrow(made: World) -> None:
    path = f"/v1/subjects/{PERSON}/requests"
    told = await send(made, path, {"kind": "access"}, 400)
    assert told["error"]["field"] == "identified"
    told = await send(
        made,
        path,
        {"kind": "access", "identified": "id card", "received_at": "2026-11-25T10:00:00+01:00"},
        400,
    )
    assert told["error"]["field"] == "received_at"


# ---- rectification ---------------------------------------------------------------------------------------------------


async def test_a_rectification_is_a_later_entry_that_counts(made: World) -> None:
    wrong = await send(
        made, "/v1/consents", {**CONSENT, "id": "paper-7", "collected_at": "2026-11-02T10:00:00+01:00"}
    )
    asked = await ask(made, "rectification")
    right = {"collected_at": "2026-11-03T10:00:00+01:00", "goods": ["broadband"]}
    told = await send(
        made,
        f"/v1/subjects/{PERSON}/rectification",
        {"request": asked["id"], "of": wrong["seq"], "fields": right},
    )
    ledger = (await report(made))["ledger"]
    assert [(each["seq"], each["channel"]) for each in ledger] == [
        (wrong["seq"], "api"),
        (told["receipt"]["seq"], "rectification"),
    ]
    assert ledger[0]["details"]["collected_at"] == "2026-11-02T09:00:00.000Z"
    assert ledger[1]["details"] == {
        **ledger[0]["details"], "collected_at": "2026-11-03T09:00:00.000Z", "goods": ["broadband"]
    }  # fmt: skip
    subject = made.app.registrar.access.keys.subject("acme", CLEAR)
    known = (await made.app._store.read([subject])).known[0]
    assert [(each.id, each.goods) for each in known.consents] == [("paper-7", ("broadband",))]
    assert (await report(made))["requests"][0]["outcome"].startswith(f"entry {wrong['seq']} was rectified")


WRONG_RECTIFICATIONS: list[tuple[dict[str, Any], int, str]] = [
    ({"of": 99, "fields": {"goods": ["x"]}}, 404, "of"),
    ({"of": 2, "fields": {"goods": ["x"]}}, 404, "of"),  # a revocation
    ({"of": 1, "fields": {}}, 400, "fields"),
    ({"of": 1, "fields": {"id": "other"}}, 400, "fields"),
    ({"of": 1, "fields": {"number": "+390612345670"}}, 400, "fields"),
    ({"of": 1, "fields": {"purposes": ["theft"]}}, 400, "fields"),
    ({"of": 1, "fields": {"collected_at": "2027-01-01T00:00:00Z"}}, 400, "collected_at"),
    ({"of": 1, "fields": {"goods": ["x"]}, "request": "none"}, 404, "request"),
]


@pytest.mark.parametrize(("body", "status", "field"), WRONG_RECTIFICATIONS)
async def test_a_rectification_that_is_none_changes_nothing(
    made: World, body: dict[str, Any], status: int, field: str
) -> None:
    await send(made, "/v1/consents", CONSENT)
    await send(made, "/v1/revocations", {"number": CLEAR})
    asked = await ask(made, "rectification")
    told = await send(made, f"/v1/subjects/{PERSON}/rectification", {"request": asked["id"], **body}, status)
    assert told["error"]["field"] == field
    held = await report(made)
    assert len(held["ledger"]) == 2
    assert not held["requests"][0]["closed_at"]


async def test_only_a_client_with_the_scope_may_act_for_a_person(made: World) -> None:
    for path in (f"/v1/subjects/{PERSON}?purpose=abc", "/v1/subject-requests"):
        async with made.client.get(path, headers={"Authorization": "Bearer other-key"}) as answer:
            assert answer.status == 403
