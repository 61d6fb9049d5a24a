"""The rights of data subjects, exercised over HTTP against a running gate."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from dialgate.audit.key_retirement import retire
from dialgate.audit.legal_holds import Holds
from dialgate.config import loader
from dialgate.core.model import DAY, HOUR
from dialgate.core.periods import add_months
from dialgate.crypto.keys import Keys
from dialgate.interfaces.cli import main
from tests.support import world, yaml_files
from tests.support.world import CALL, CLEAR, World

SCOPES = (*world.SCOPES, "subjects", "officer")
AT = "2026-11-20T10:00:00+01:00"
PERSON = quote(CLEAR)
RECORDING = "recordings/06 1234-5678.wav"
CONSENT = {
    "number": CLEAR,
    "id": f"form-{CLEAR}",
    "collected_at": AT,
    "purposes": ["sale"],
    "goods": ["broadband"],
    "call_types": ["agent"],
    "artefact": RECORDING,
    "artefact_sha256": "a" * 64,
}
CONTRACT = {"number": CLEAR, "id": "C-1", "starts": "2026-01-01", "sector": "telecommunications"}
WISH = {"number": CLEAR, "id": "web-1", "requested_at": AT, "expires_at": "2026-12-20T10:00:00+01:00"}
CLIENTS = [world.client("tests", world.KEY, *SCOPES), world.client("other", "other-key", "simulate", "read")]


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    async with world.running(tmp_path, clients=CLIENTS) as running:
        await world.load_list(running)
        yield running


async def fill(gate: World) -> None:
    for path, body in (
        ("/v1/consents", CONSENT),
        ("/v1/contracts", CONTRACT),
        ("/v1/call-requests", WISH),
    ):
        await gate.post(path, body)


async def ask(gate: World, kind: str, **more: Any) -> Any:
    body = {"kind": kind, "identified": "code read back on a call to it", "channel": "pec", **more}
    return await gate.post(f"/v1/subjects/{PERSON}/requests", body)


async def report(gate: World, **more: str) -> Any:
    query = "&".join(f"{name}={quote(value)}" for name, value in {"purpose": "case 7", **more}.items())
    return await gate.get(f"/v1/subjects/{PERSON}?{query}")


# ---- access ----------------------------------------------------------------------------------------------------------


async def test_report_holds_all_data_and_look_ups(gate: World) -> None:
    await fill(gate)
    allowed = await gate.post("/v1/check", CALL, 200)
    await gate.post("/v1/outcomes", {"decision_id": allowed["decision_id"], "outcome": "answered"}, 200)
    await gate.post("/v1/revocations", {"number": CLEAR, "proof": f"call to {CLEAR}"})
    denied = await gate.post("/v1/check", CALL, 200)
    await ask(gate, "access")
    response = await report(gate)
    assert [entry["kind"] for entry in response["ledger"]] == [
        "consent",
        "contract",
        "call_request",
        "revoked",
    ]
    assert response["ledger"][0]["details"]["artefact"] == RECORDING
    assert response["ledger"][3]["proof"] == f"call to {CLEAR}"
    assert [
        (decision["id"], decision["decision"], decision["result"]) for decision in response["decisions"]
    ] == [
        (denied["decision_id"], "deny", ""),
        (allowed["decision_id"], "allow", "answered"),
    ]
    assert "revocation.revoked" in [why["code"] for why in response["decisions"][0]["reasons"]]
    assert [
        (call_list["list"], call_list["basis"], call_list["origin"]["collected_by"])
        for call_list in response["lists"]
    ] == [("rome", "directory", "Acme")]
    assert [(registry["registry"], registry["answer"]) for registry in response["registries"]] == [
        ("rpo", "clear")
    ]
    assert [(case["kind"], case["identified"]) for case in response["requests"]] == [
        ("access", "code read back on a call to it")
    ]
    assert [(lookup["client"], lookup["what"], lookup["purpose"]) for lookup in response["lookups"]] == [
        ("tests", "everything", "case 7")
    ]
    assert response["days_of_storage"]["consents"] == 1826
    assert response["days_of_storage"]["decisions"] == 3652  # 120 months


async def test_report_holds_results_older_than_the_attempts(gate: World) -> None:
    allowed = await gate.post("/v1/check", CALL, 200)
    for outcome in ("answered", "opt_out"):
        await gate.post("/v1/outcomes", {"decision_id": allowed["decision_id"], "outcome": outcome}, 200)
    gate.hand.at += 120 * DAY
    world.store_time(gate.app.config.data, gate.hand.at)
    await gate.app.subjects.retire(gate.hand.at, drop=True)
    assert [decision["result"] for decision in (await report(gate))["decisions"]] == ["opt_out"]


@pytest.mark.parametrize(
    ("language", "headers", "words"),
    [
        ("it", {}, ["riscontro alla Sua richiesta di accesso", "Decisioni sulle chiamate", "consentita"]),
        ("en", {}, ["answer to your request for access", "Who looked at this data", "allowed"]),
        (
            "",
            {"Accept": "text/html", "Accept-Language": "de-DE,en;q=0.8,it;q=0.5"},
            ["answer to your request for access"],
        ),
        ("", {"Accept": "text/html", "Accept-Language": "it;q=0, en"}, ["answer to your request for access"]),
        ("", {"Accept": "text/html"}, ["riscontro alla Sua richiesta"]),
    ],
)
async def test_report_page_has_language_and_no_script(
    gate: World, language: str, headers: dict[str, str], words: list[str]
) -> None:
    """Text that people entered is escaped."""
    await fill(gate)
    await gate.post("/v1/revocations", {"number": CLEAR, "proof": "<script>alert(1)</script>"})
    await gate.post("/v1/consents/withdraw", {"number": CLEAR, "id": CONSENT["id"]})
    await gate.post("/v1/revocations/4/lift", {"ground": "error", "reason": "typed wrong"})
    await gate.post("/v1/check", CALL, 200)
    query = f"purpose=case%207{language and f'&language={language}'}"
    async with gate.client.get(f"/v1/subjects/{PERSON}?{query}", headers=headers) as answer:
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
                "<strong>Acme Telecomunicazioni S.p.A.</strong><br>Via Esempio 1, 00100 Roma",
                "Responsabile della protezione dei dati (DPO): Dott.ssa Maria Esempio, dpo@acme.example",
                "24 novembre 2026</p>",
                "orari: ora italiana",
                "finalità: vendita; pubblicità<br>tipi di chiamata: ",
                "raccolto il: 20/10/2026 09:00 CEST",
                "provenienza: raccolto da Lead Srl, raccolto il 01/10/2026, cessioni da Lead Srl, a acme, il 02/10/2026, persone informate sì",
            ],
        ),
        (
            "en",
            [
                "<strong>Acme Telecomunicazioni S.p.A.</strong><br>Via Esempio 1",
                "24 November 2026</p>",
                "times: Italian time",
                "purposes: sale; advertising<br>",
                "disclosure to third parties: yes",
            ],
        ),
    ],
)
async def test_page_names_controller_and_officer_and_translates_values(
    gate: World, language: str, lines: list[str]
) -> None:
    transfer = {"by": "Lead Srl", "to": "acme", "on": "2026-10-02", "subjects_told": True}
    origin = {"collected_by": "Lead Srl", "collected_on": "2026-10-01", "transfers": [transfer]}
    given = {
        "id": "c2",
        "purposes": ["sale", "advertising"],
        "goods": ["broadband"],
        "collected_at": "2026-10-20T07:00:00Z",
        "artefact": "recordings/1.wav",
    }
    await gate.post("/v1/consents", {**CONSENT, **given, "origin": origin, "third_party": True})
    async with gate.client.get(f"/v1/subjects/{PERSON}?purpose=case%207&language={language}") as answer:
        page = await answer.text()
    for line in lines:
        assert line in page
    for code in ("UTC", "(&#x27;", "&#x27;,", "collected_at", "T07:00"):
        assert code not in page
    assert "a" * 64 not in page  # a hash says nothing to a person


async def test_a_report_states_profiling_only_as_configured_or_recorded(tmp_path: Path) -> None:
    """GDPR art. 15(1)(h). Without a profiling campaign, the report says nothing of profiling, not that there is none."""

    def profile(folder: Path, *, profiling: bool = True) -> None:
        owner = yaml_files.read(folder / "controllers/acme.yaml")
        (fibre,) = owner["campaigns"]
        changed = [fibre | {"profiling": profiling}]
        yaml_files.write(folder / "controllers/acme.yaml", owner | {"campaigns": changed})

    async with world.running(tmp_path, prepare=profile, clients=CLIENTS) as gate:
        await world.load_list(gate)
        assert (await report(gate))["profiling_campaigns"] == ["acme-fibre"]  # from its list
        await gate.post("/v1/check", CALL, 200)
        profile(tmp_path, profiling=False)
        gate.app.reload(loader.load(tmp_path / "dialgate.yaml"))
        assert (await report(gate))["profiling_campaigns"] == ["acme-fibre"]  # from the record of the call
        assert [line["profiling"] for line in (await report(gate))["decisions"]] == [True]
        for language, sentence in (
            ("en", "These campaigns select people"),
            ("it", "Queste campagne scelgono"),
        ):
            async with gate.client.get(
                f"/v1/subjects/{PERSON}?purpose=case%207&language={language}"
            ) as answer:
                assert re.search(f"{sentence}[^<]*<strong>acme-fibre</strong>", await answer.text())


@pytest.mark.parametrize("language", ["it", "en"])
async def test_a_report_without_profiling_does_not_mention_it(gate: World, language: str) -> None:
    assert (await report(gate))["profiling_campaigns"] == []
    async with gate.client.get(f"/v1/subjects/{PERSON}?purpose=case%207&language={language}") as answer:
        assert answer.status == 200
        assert not re.search("profil", await answer.text(), re.IGNORECASE)


async def test_report_holds_decisions_under_a_hold_and_names_retired_months(gate: World) -> None:
    held = await gate.post("/v1/check", CALL, 200)
    config = gate.app.config
    keys = Keys.open(config.data / "keys.json")
    Holds(config.data, keys).add(CLEAR, at=world.NOW, by="dpo", reason="case 7")
    gate.hand.at += 40 * DAY
    recent = await gate.post("/v1/check", CALL, 200)
    retire(config, keys, "2026-11")
    response = await report(gate)
    ids = [decision["id"] for decision in response["decisions"]]
    assert ids == [recent["decision_id"], held["decision_id"]]
    assert response["retired_months"] == ["2026-11"]
    async with gate.client.get(f"/v1/subjects/{PERSON}?purpose=case%207&language=en") as answer:
        assert "For November 2026 no answer is possible" in await answer.text()
    options = ("--purpose", "case 7", "--config", str(gate.folder / "dialgate.yaml"))
    shown = await asyncio.to_thread(CliRunner().invoke, main.app, ["subject", "show", CLEAR, *options])
    assert "For November 2026 no answer is possible" in shown.output


async def test_a_new_holder_gets_no_data_of_the_previous_one(gate: World) -> None:
    await fill(gate)
    await gate.get(f"/v1/consents?number={PERSON}&purpose=complaint")
    await ask(gate, "access")
    wrong = await gate.post("/v1/check", CALL, 200)
    gate.hand.at += HOUR
    outcome = {"decision_id": wrong["decision_id"], "outcome": "wrong_number"}
    await gate.post("/v1/outcomes", outcome, 200)
    gate.hand.at += HOUR
    await gate.post("/v1/consents", {**CONSENT, "id": "new", "collected_at": "2026-11-24T11:30:00+01:00"})
    response, path = await report(gate), f"/v1/subjects/{PERSON}/portability?purpose=case%207"
    assert [entry["kind"] for entry in response["ledger"]] == ["wrong_number", "consent"]
    assert response["holder_changed_at"] == "2026-11-24T10:00:00.000Z"
    assert [decision["id"] for decision in response["decisions"]] == [wrong["decision_id"]]
    assert response["requests"] == []
    assert [lookup["what"] for lookup in response["lookups"]] == ["everything"]
    portable = await gate.get(path)
    assert [consent["id"] for consent in portable["consents"]] == ["new"]
    assert (portable["contracts"], portable["call_requests"]) == ([], [])
    async with gate.client.get(f"/v1/subjects/{PERSON}?purpose=case%207&language=en") as answer:
        assert "left out. Date of the report: 24/11/2026 11:00 CET." in await answer.text()
    seq = response["ledger"][0]["seq"]
    await gate.post(f"/v1/wrong-numbers/{seq}/lift", {"ground": "error", "reason": "wrong button"})
    response = await report(gate)
    assert (response["holder_changed_at"], len(response["ledger"])) == ("", 6)
    assert len((await gate.get(path))["contracts"]) == 1


async def test_no_data_is_shown_without_a_purpose(gate: World) -> None:
    for path in (f"/v1/subjects/{PERSON}", f"/v1/revocations?number={PERSON}"):
        response = await gate.get(path, 400)
        assert response["error"]["field"] == "purpose"
    assert (await report(gate))["lookups"][0]["what"] == "everything"  # the first recorded look-up


async def test_every_kind_of_look_up_is_recorded(gate: World) -> None:
    await gate.post("/v1/simulate", CALL, 200)
    await gate.get(f"/v1/consents?number={PERSON}&purpose=complaint")
    await gate.get(f"/v1/subjects/{PERSON}/portability?purpose=case%208")
    await gate.get(f"/v1/decisions?number={PERSON}&purpose=case%209")
    look_ups = [(lookup["what"], lookup["purpose"]) for lookup in (await report(gate))["lookups"]]
    assert look_ups == [
        ("simulation", "campaign acme-fibre"),
        ("consent", "complaint"),
        ("portability", "case 8"),
        ("decisions", "case 9"),
        ("everything", "case 7"),
    ]


async def test_portable_data_is_what_the_person_provided(gate: World) -> None:
    await fill(gate)
    await gate.post("/v1/check", CALL, 200)
    await gate.post("/v1/revocations", {"number": CLEAR})
    response = await gate.get(f"/v1/subjects/{PERSON}/portability?purpose=case%207")
    assert (response["format"], response["number"]) == ("dialgate-portability-1", CLEAR)
    assert [consent["artefact"] for consent in response["consents"]] == [RECORDING]
    assert [contract["id"] for contract in response["contracts"]] == ["C-1"]
    assert [call_request["id"] for call_request in response["call_requests"]] == ["web-1"]
    assert response.keys() == {
        "format", "number", "controller", "controller_name", "made_at", "consents", "contracts", "call_requests"
    }  # fmt: skip


# ---- enumeration -----------------------------------------------------------------------------------------------------


async def test_client_that_enumerates_numbers_is_blocked_for_an_hour(tmp_path: Path) -> None:
    """The limit applies to the different numbers that a client looks up through any endpoint.

    The client can look up the same number again. Other clients are not affected.
    """
    async with world.running(tmp_path, clients=CLIENTS, limits={"lookups_an_hour": 3}) as gate:
        await gate.get("/v1/revocations?number=%2B390612345670&purpose=abc")
        gate.hand.at += 60_000
        await gate.post("/v1/simulate", {**CALL, "to": "+390612345671"}, 200)
        await gate.get("/v1/subjects/%2B390612345672?purpose=abc")
        for path in ("/v1/contracts?number=", "/v1/subjects/"):
            glue = "&" if "?" in path else "?"
            async with gate.client.get(f"{path}%2B390612345673{glue}purpose=abc") as answer:
                assert answer.status == 429
                assert answer.headers["Retry-After"] == str(59 * 60)
                assert (await answer.json())["error"]["code"] == "lookup.throttled"
        await gate.post("/v1/simulate", {**CALL, "to": "+390612345673"}, 429)
        await gate.get("/v1/subjects/%2B390612345670?purpose=abc")
        assert gate.sample("dialgate_lookups_throttled_total", client="tests") == 3
        async with gate.client.get(
            "/v1/contracts?number=%2B390612345673&purpose=abc", headers={"Authorization": "Bearer other-key"}
        ) as answer:
            assert answer.status == 200
        gate.hand.at += HOUR
        await gate.get("/v1/contracts?number=%2B390612345673&purpose=abc")


async def test_disclosed_evidence_does_not_count_towards_the_look_up_limit(tmp_path: Path) -> None:
    async with world.running(tmp_path, clients=CLIENTS, limits={"lookups_an_hour": 1}) as gate:
        subjects, client = gate.app.subjects, gate.app.config.settings.clients[0]
        await subjects.record_disclosure(client, [CLEAR, "+390612345673", "+390612345674"], "case 7")
        response = await report(gate)
        assert [lookup["what"] for lookup in response["lookups"]] == ["disclosure", "everything"]
        await subjects.record_disclosure(client, [CLEAR], "case 8")
        await gate.get("/v1/contracts?number=%2B390612345673&purpose=abc", 429)


async def test_look_up_limit_survives_a_restart(tmp_path: Path) -> None:
    async with world.running(tmp_path, clients=CLIENTS, limits={"lookups_an_hour": 1}) as gate:
        await report(gate)
    for folder in ("countries", "controllers"):
        shutil.rmtree(tmp_path / folder)
    async with world.running(tmp_path, clients=CLIENTS, limits={"lookups_an_hour": 1}) as gate:
        await gate.get("/v1/contracts?number=%2B390612345673&purpose=abc", 429)
        assert len((await report(gate))["lookups"]) == 2


# ---- deadlines -------------------------------------------------------------------------------------------------------


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
def test_deadline_is_the_same_day_or_the_last_day_of_the_month(
    received: str, months: int, until: str
) -> None:
    assert add_months(instant(received), months) == instant(until)


def instant(day: str) -> int:
    return int(datetime.fromisoformat(f"{day}T12:00:00.250").replace(tzinfo=UTC).timestamp() * 1000)


async def test_each_open_request_has_a_deadline(gate: World) -> None:
    first = await ask(gate, "access", received_at="2026-11-10T10:00:00+01:00")
    second = await ask(gate, "erasure")
    assert (first["due_at"], first["days_left"]) == ("2026-12-10T09:00:00.000Z", 16)
    listed = (await gate.get("/v1/subject-requests"))["requests"]
    assert [item["id"] for item in listed] == [first["id"], second["id"]]
    await gate.app.tick()
    assert gate.sample("dialgate_subject_requests_open", kind="access") == 1
    assert gate.sample("dialgate_subject_request_left_seconds") == 16 * 86_400
    response = await gate.post(
        f"/v1/subject-requests/{first['id']}", {"outcome": "extended", "reason": "many calls"}, 200
    )
    assert response["due_at"] == "2027-02-10T09:00:00.000Z"
    response = await gate.post(
        f"/v1/subject-requests/{second['id']}", {"outcome": "refused", "reason": "not theirs"}, 200
    )
    assert response["refused"]
    await gate.app.tick()
    assert gate.sample("dialgate_subject_requests_open", kind="erasure") == 0
    assert gate.sample("dialgate_subject_request_left_seconds") == 78 * 86_400
    gate.hand.at += 80 * DAY
    await gate.app.tick()
    assert gate.sample("dialgate_subject_request_left_seconds") == -2 * 86_400


async def test_request_is_closed_once_and_extended_once_in_time(gate: World) -> None:
    one = (await ask(gate, "access"))["id"]
    path = f"/v1/subject-requests/{one}"
    await gate.post(path, {"outcome": "extended", "reason": "many calls"}, 200)
    again = await gate.post(path, {"outcome": "extended", "reason": "many calls"}, 409)
    assert again["error"]["code"] == "subject.closed"
    await gate.post(path, {"outcome": "answered", "reason": "sent by pec"}, 200)
    await gate.post(path, {"outcome": "refused", "reason": "sent by pec"}, 409)
    late = (await ask(gate, "access"))["id"]
    gate.hand.at += 40 * DAY
    await gate.post(f"/v1/subject-requests/{late}", {"outcome": "extended", "reason": "late"}, 409)
    await gate.post("/v1/subject-requests/none", {"outcome": "answered", "reason": "sent"}, 404)


async def test_request_needs_identification_and_a_past_date(gate: World) -> None:
    path = f"/v1/subjects/{PERSON}/requests"
    response = await gate.post(path, {"kind": "access"}, 400)
    assert response["error"]["field"] == "identified"
    response = await gate.post(
        path,
        {"kind": "access", "identified": "id card", "received_at": "2026-11-25T10:00:00+01:00"},
        400,
    )
    assert response["error"]["field"] == "received_at"


# ---- rectification ---------------------------------------------------------------------------------------------------


async def test_rectification_is_a_later_entry_that_counts(gate: World) -> None:
    wrong = await gate.post(
        "/v1/consents", {**CONSENT, "id": "paper-7", "collected_at": "2026-11-02T10:00:00+01:00"}
    )
    case = await ask(gate, "rectification")
    right = {"collected_at": "2026-11-03T10:00:00+01:00", "goods": ["broadband"]}
    response = await gate.post(
        f"/v1/subjects/{PERSON}/rectification",
        {"request": case["id"], "of": wrong["seq"], "fields": right},
    )
    ledger = (await report(gate))["ledger"]
    assert [(entry["seq"], entry["channel"]) for entry in ledger] == [
        (wrong["seq"], "api"),
        (response["receipt"]["seq"], "rectification"),
    ]
    assert ledger[0]["details"]["collected_at"] == "2026-11-02T09:00:00.000Z"
    assert ledger[1]["details"] == {
        **ledger[0]["details"], "collected_at": "2026-11-03T09:00:00.000Z", "goods": ["broadband"],
        "rectify": ["collected_at", "goods"],
    }  # fmt: skip
    subject = gate.app.registrar.access.keys.subject("acme", CLEAR)
    known = (await gate.app._store.read([subject])).known[0]
    assert [(consent.id, consent.goods) for consent in known.consents] == [("paper-7", ("broadband",))]
    (request,) = (await report(gate))["requests"]
    assert (request["executed"], request.get("closed_at", "")) == (
        True,
        "",
    )  # the person is still to be answered
    path = f"/v1/subject-requests/{case['id']}"
    assert (await gate.get(path))["steps"][-1]["text"].startswith(f"entry {wrong['seq']} was rectified")
    await gate.post(path, {"outcome": "answered", "reason": "letter sent"}, 200)
    assert (await report(gate))["requests"][0]["outcome"] == "letter sent"


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
async def test_invalid_rectification_changes_nothing(
    gate: World, body: dict[str, Any], status: int, field: str
) -> None:
    await gate.post("/v1/consents", CONSENT)
    await gate.post("/v1/revocations", {"number": CLEAR})
    case = await ask(gate, "rectification")
    response = await gate.post(
        f"/v1/subjects/{PERSON}/rectification", {"request": case["id"], **body}, status
    )
    assert response["error"]["field"] == field
    contents = await report(gate)
    assert len(contents["ledger"]) == 2
    assert not contents["requests"][0]["closed_at"]


async def test_client_without_the_scope_is_refused(gate: World) -> None:
    for path in (f"/v1/subjects/{PERSON}?purpose=abc", "/v1/subject-requests"):
        async with gate.client.get(path, headers={"Authorization": "Bearer other-key"}) as answer:
            assert answer.status == 403
