"""History and search of decisions: all decisions about a number, only for clients that may see them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientSession
from msgspec.structs import replace

from dialgate.audit.number_history import Inquiry, Visibility
from dialgate.audit.search import DecisionQuery, Hit, search
from dialgate.core.model import DAY, Block
from dialgate.crypto.keys import Keys
from dialgate.decision_log.chains import Chains
from dialgate.decision_log.span import LogSpan
from registry_sync import publication
from registry_sync.publication import PublishTarget
from tests.support import world, yaml_files
from tests.support.world import CALL, CALLER, CLEAR, KEY, LISTED, NOW, SCOPES, World

OTHER_KEY = "key-of-another-controller"
MOBILE = "+393331234567"


async def ask(gate: World, to: str = CLEAR, **changes: Any) -> str:
    async with gate.client.post("/v1/check", json={**CALL, "to": to, **changes}) as answer:
        assert answer.status == 200
        return str((await answer.json())["decision_id"])


async def report(gate: World, decision: str, outcome: str) -> None:
    body = {"decision_id": decision, "outcome": outcome}
    async with gate.client.post("/v1/outcomes", json=body) as answer:
        assert answer.status == 200


async def about(gate: World, number: str = CLEAR, more: str = "", **headers: str) -> dict[str, Any]:
    async with gate.client.get(
        f"/v1/decisions?number={quote(number)}&purpose=test{more}", headers=headers
    ) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Cache-Control"] == "no-store"
        response: dict[str, Any] = await answer.json()
        return response


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[World]:
    """Run a gate with two controllers. The client `tests` belongs to `acme`, and the client `other` to `rival`."""
    rival = yaml_files.read(world.CONFIG / "controllers/acme.yaml")
    rival |= {"id": "rival", "name": "Rival S.r.l."}
    rival["campaigns"][0] |= {"id": "rival-fibre", "caller_ids": ["+390844999999"]}
    other = {**world.client("other", OTHER_KEY, *SCOPES), "controllers": ["rival"]}
    folder = tmp_path / "two"
    (folder / "more").mkdir(parents=True)
    (folder / "more/acme.yaml").write_bytes((world.CONFIG / "controllers/acme.yaml").read_bytes())
    yaml_files.write(folder / "more/rival.yaml", rival)
    clients = [world.client("tests", KEY, *SCOPES), other]
    async with world.running(folder, controllers="more", clients=clients) as gate:
        await world.load_list(gate)
        yield gate


def inside(gate: World, decision: str) -> str:
    """Translate a decision id that clients see into the id in the log."""
    return Keys.open(gate.app.config.data / "keys.json").ids.inside(decision)


# ---- history of a number ---------------------------------------------------------------------------------------------


async def test_history_is_newest_first_with_outcomes(
    running: World,
) -> None:
    first = await ask(running)
    await report(running, first, "no_answer")
    await report(running, first, "answered")
    running.hand.at += DAY
    second = await ask(running)
    await ask(running, LISTED)
    response = await about(running)
    assert [decision["decision_id"] for decision in response["decisions"]] == [second, first]
    assert [outcome["result"] for outcome in response["decisions"][1]["outcomes"]] == [
        "no_answer",
        "answered",
    ]
    assert "answered." in response["decisions"][1]["words"][-1]
    assert response["decisions"][0]["outcomes"] == []
    assert (response["more"], response["retired_months"], response["notices"]) == (False, [], [])


NATIONAL = "06 1234 5678"  # CLEAR in national form


async def test_number_is_found_in_national_and_international_form(running: World) -> None:
    """A dialer and a data subject can each write a number in national form or in E.164."""
    names = [await ask(running, to) for to in (CLEAR, NATIONAL, NATIONAL.replace(" ", ""))]
    for written in (CLEAR, NATIONAL):
        response = await about(running, written)
        assert [decision["decision_id"] for decision in response["decisions"]] == names[::-1]
    data = running.app.config.data
    inquiry = Inquiry(data, Keys.open(data / "keys.json"))
    assert [found.record.id for found in inquiry.find(CLEAR, Visibility())] == names[::-1]
    assert inquiry.find(LISTED, Visibility()) == []


async def test_a_national_number_with_two_readings_is_refused(tmp_path: Path) -> None:
    """NATIONAL is a landline number in Rome and a French mobile number."""
    french = yaml_files.read(world.CONFIG / "controllers/acme.yaml")
    french |= {"id": "french", "name": "French S.r.l."}
    french["campaigns"][0] |= {"id": "french-fibre", "caller_ids": ["+33162123456"], "dial_region": "FR"}
    (tmp_path / "both").mkdir()
    (tmp_path / "both/acme.yaml").write_bytes((world.CONFIG / "controllers/acme.yaml").read_bytes())
    yaml_files.write(tmp_path / "both/french.yaml", french)
    client = {**world.client("tests", KEY, *SCOPES), "controllers": ["acme", "french"]}
    async with world.running(tmp_path, controllers="both", clients=[client]) as gate:
        query = f"/v1/decisions?number={quote(NATIONAL)}&purpose=test"
        async with gate.client.get(query) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (400, "number.invalid")
        async with gate.client.get(f"{query}&controller=acme") as answer:
            assert (answer.status, (await answer.json())["decisions"]) == (200, [])


async def test_a_listing_that_bars_a_part_of_the_calls_is_shown_with_it(running: World) -> None:
    folder = running.app.config.data / "snapshots"
    with publication.lock_folder(folder):
        answers = publication.read_current(folder, "rpo", "acme")
        states = tuple(
            replace(state, blocks=(Block(categories=("insurance",)),), since=NOW - DAY)
            if state.answer == "listed"
            else state
            for state in answers.contents.states
        )
        contents = replace(answers.contents, states=states)
        publication.publish_answers(PublishTarget(folder=folder), answers._replace(contents=contents), NOW)
    await running.app.tick()
    await ask(running, LISTED)
    decision = (await about(running, LISTED))["decisions"][0]
    assert decision["decision"] == "allow"
    answer = decision["registries"][0]
    assert (answer["answer"], answer["blocks"], answer["listed_since"]) == (
        "listed",
        [{"categories": ["insurance"]}],
        "2026-11-23T09:00:00.000Z",
    )
    assert any("was enrolled for some calls only" in words for words in decision["words"])


async def test_directory_call_is_explained_in_english(
    running: World,
) -> None:
    await ask(running)
    response = (await about(running))["decisions"][0]
    assert response["basis"]["kind"] == "directory"
    assert response["registries"][0]["receipt"] == "TICKET-1"
    assert response["words"] == [
        "On 24 November 2026 at 10:00 (Italian time) a call to this number on behalf of Acme Telecomunicazioni S.p.A. was allowed.",
        "The call was for the campaign acme-fibre (sale, by a live agent).",
        "The subject was broadband.",
        f"The caller ID was {CALLER}.",
        "The legal basis was the number's entry in the public directory, according to the list rome.",
        "The opposition registry RPO was consulted on 23 November 2026 and answered that the number was not enrolled (consultation at-1795424400000, receipt TICKET-1).",
        "The number was on the list rome, collected by Acme on 1 October 2026.",
        "The result of the call was not reported.",
    ]


async def test_denial_is_explained_in_italian(running: World) -> None:
    await ask(running, LISTED)
    response = await about(running, LISTED, **{"Accept-Language": "it-IT,it;q=0.9"})
    assert response["language"] == "it"
    decision = response["decisions"][0]
    assert decision["decision"] == "deny"
    words = decision["words"]
    assert words[0].startswith("In data 24 novembre 2026 alle 10:00 (ora italiana) una chiamata")
    assert words[0].endswith("per conto di Acme Telecomunicazioni S.p.A. è stata negata.")
    assert "Motivo: Il numero è iscritto al registro delle opposizioni." in words
    assert (
        "Norma: D.P.R. 26/2022 art. 8 c. 2: una consultazione vale 15 giorni; L. 5/2018 art. 1 c. 5 e 12."
        in words
    )
    assert {"rule": "hours_open", "result": "pass"}.items() <= _check(decision, "hours_open").items()


def _check(decision: dict[str, Any], rule: str) -> dict[str, Any]:
    return next(check for check in decision["checks"] if check["rule"] == rule)


async def test_consent_is_explained_with_collector_and_transfers(running: World) -> None:
    world.publish_answers(running.app.config.data, {MOBILE: False}, NOW - DAY + 1)
    origin = {
        "collected_by": "Raccolta S.r.l.",
        "collected_on": "2026-09-01",
        "transfers": [{"by": "Raccolta S.r.l.", "to": "acme", "on": "2026-09-15", "subjects_told": True}],
    }
    consent = {
        "number": MOBILE,
        "id": "web-1:a",
        "collected_at": "2026-09-01T10:00:00+02:00",
        "purposes": ["sale"],
        "goods": ["broadband"],
        "call_types": ["agent"],
        "artefact": "forms/1.pdf",
        "artefact_sha256": "a" * 64,
        "origin": origin,
        "third_party": True,
    }
    assert (await running.client.post("/v1/consents", json=consent)).status == 201
    await running.app.tick()
    await ask(running, MOBILE)
    response = (await about(running, MOBILE))["decisions"][0]
    assert (response["basis"]["kind"], response["basis"]["id"]) == ("consent", "web-1:a")
    index = response["words"].index(
        "The legal basis was consent web-1:a, given on 1 September 2026 and collected by Raccolta S.r.l."
    )
    assert response["words"][index + 1] == (
        "Raccolta S.r.l. passed the consent on to Acme Telecomunicazioni S.p.A. on 15 September 2026."
    )


BASES = [
    (
        "/v1/contracts",
        {
            "id": "C-1",
            "proof": "scan 7",
            "starts": "2025-03-01",
            "sector": "telecommunications",
            "marketing": True,
        },
        "The legal basis was contract C-1, in force since 1 March 2025.",
    ),
    (
        "/v1/call-requests",
        {
            "id": "form-7",
            "goods": "broadband",
            "requested_at": "2026-11-20T10:00:00+01:00",
            "expires_at": "2026-12-20T10:00:00+01:00",
        },
        "The legal basis was call request form-7, made on 20 November 2026.",
    ),
]


@pytest.mark.parametrize(("path", "body", "sentence"), BASES)
async def test_contract_and_call_request_are_explained_as_basis(
    running: World, path: str, body: dict[str, Any], sentence: str
) -> None:
    assert (await running.client.post(path, json={"number": MOBILE, **body})).status == 201
    await ask(running, MOBILE)
    response = (await about(running, MOBILE))["decisions"][0]
    assert sentence in response["words"]
    assert "The opposition registry RPO had not been consulted about this number." in response["words"]


async def test_decision_by_id_contains_no_called_number(running: World) -> None:
    name = await ask(running)
    async with running.client.get(f"/v1/decisions/{name}?language=it") as answer:
        assert answer.status == 200
        text = await answer.text()
        response = await answer.json()
    assert (response["decision_id"], response["seq"]) == (name, int(name.rpartition("-")[2]))
    assert response == (await about(running, more="&language=it"))["decisions"][0]
    assert CLEAR.removeprefix("+39") not in text


async def test_pages_contain_every_decision_once(running: World) -> None:
    names = [await ask(running, LISTED) for _ in range(5)]
    response: list[str] = []
    before = ""
    for _ in range(3):
        page = await about(running, LISTED, f"&limit=2&before={before}")
        response += [decision["decision_id"] for decision in page["decisions"]]
        before = response[-1]
    assert response == names[::-1]
    assert page["more"] is False
    assert (await about(running, LISTED, f"&before={before}"))["notices"] == []


async def test_number_without_decisions_gets_a_notice(running: World) -> None:
    await ask(running)
    response = await about(running, MOBILE)
    assert (response["decisions"], response["notices"]) == (
        [],
        ["No decision about this number is on record."],
    )


async def test_live_months_are_found_and_retired_ones_reported(running: World) -> None:
    keys = Keys.open(running.app.config.data / "keys.json")
    names = []
    for at in (NOW, NOW + 20 * DAY, NOW + 70 * DAY):  # nothing in January
        running.hand.at = at
        names.append(await ask(running))
    found = [decision["decision_id"] for decision in (await about(running))["decisions"]]
    assert found == names[::-1]
    keys.retire("2026-11")
    response = await about(running)
    assert [decision["decision_id"] for decision in response["decisions"]] == names[:0:-1]
    assert response["retired_months"] == ["2026-11"]
    assert "November 2026" in response["notices"][0]
    async with running.client.get(f"/v1/decisions/{names[0]}") as answer:
        assert answer.status == 200  # the record exists, without a link to its number


# ---- who may read ----------------------------------------------------------------------------------------------------


async def test_other_clients_decisions_look_like_none(shared: World) -> None:
    name = await ask(shared)
    stranger = await ask(
        shared, campaign="rival-fibre"
    )  # not a campaign of this client: the strictest rules apply, and no controller owns it
    mine = [decision["decision_id"] for decision in (await about(shared))["decisions"]]
    assert mine == [stranger, name]
    headers = {"Authorization": f"Bearer {OTHER_KEY}"}
    async with ClientSession(f"http://127.0.0.1:{shared.port}", headers=headers) as other:
        answers = []
        for number in (CLEAR, MOBILE):
            async with other.get(f"/v1/decisions?number={quote(number)}&purpose=test") as answer:
                answers.append((answer.status, await answer.json()))
        assert answers[0] == answers[1]
        assert answers[0][1]["decisions"] == []
        refused = []
        log, _, seq = inside(shared, name).partition("-")
        for item in (
            name,
            stranger,
            f"{log}-{seq}",
            f"{log}-{int(seq) + 1000}",
            f"{log}-1",
            "x",
            f"00000000-{seq}",
            f"{log}-{'9' * 5000}",
        ):
            async with other.get(f"/v1/decisions/{item}") as answer:
                refused.append((answer.status, await answer.json()))
        assert refused == [refused[0]] * len(refused)
        assert refused[0][1]["error"]["code"] == "decision.unknown"
        async with other.get(f"/v1/decisions?number={quote(CLEAR)}&purpose=test&controller=acme") as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (404, "controller.unknown")


async def test_invalid_query_is_refused_without_repeating_the_number(running: World) -> None:
    number = "number=%2B390612345678"
    for query in (
        "",
        "number=12",
        *(f"{number}&{more}" for more in ("limit=0", "x=1", "language=de", "before=1")),
    ):
        async with running.client.get(f"/v1/decisions?purpose=test&{query}") as answer:
            assert answer.status == 400, query
            assert "612345678" not in await answer.text()


# ---- search ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def searched(shared: World) -> tuple[World, list[str]]:
    """Return a gate and the ids of three decisions.

    The first decision permits a call, which is answered. The second denies a call. The third permits a call a day
    later.
    """
    names = [await ask(shared, call_id="a-1"), await ask(shared, LISTED)]
    await report(shared, names[0], "busy")
    await report(shared, names[0], "answered")
    shared.hand.at += DAY
    names.append(await ask(shared))
    return shared, [inside(shared, name) for name in names]


def hits(gate: World, query: DecisionQuery | None = None, within: LogSpan | None = None) -> list[Hit]:
    return list(search(Chains(gate.app.config.data), query or DecisionQuery(), within or LogSpan()))


async def test_search_returns_exactly_the_matching_decisions(searched: tuple[World, list[str]]) -> None:
    gate, (answered, denied, later) = searched
    inquiry = Inquiry(gate.app.config.data, Keys.open(gate.app.config.data / "keys.json"))
    found: list[tuple[DecisionQuery, LogSpan, list[str]]] = [
        (DecisionQuery(), LogSpan(), [answered, denied, later]),
        (DecisionQuery(verdict="allow"), LogSpan(), [answered, later]),
        (DecisionQuery(verdict="deny", campaign="acme-fibre"), LogSpan(), [denied]),
        (DecisionQuery(code="registry.listed"), LogSpan(), [denied]),
        (DecisionQuery(code="registry"), LogSpan(), [denied]),
        (DecisionQuery(code="reg"), LogSpan(), []),
        (DecisionQuery(campaign="other"), LogSpan(), []),
        (DecisionQuery(client="tests", controller="acme"), LogSpan(), [answered, denied, later]),
        (DecisionQuery(client="other"), LogSpan(), []),
        (DecisionQuery(controller="rival"), LogSpan(), []),
        (DecisionQuery(), LogSpan(since=NOW + 1), [later]),
        (DecisionQuery(), LogSpan(until=NOW + 1), [answered, denied]),
        (DecisionQuery(hashes=inquiry.chains.hashes(CLEAR)), LogSpan(), [later, answered]),
        (DecisionQuery(hashes=inquiry.chains.hashes(CLEAR)), LogSpan(until=NOW + DAY), [answered]),
        (DecisionQuery(hashes=inquiry.chains.hashes(MOBILE)), LogSpan(), []),
    ]
    for query, within, names in found:
        assert [hit.decision_id for hit in hits(gate, query, within)] == names, (query, within)


async def test_search_adds_the_strictest_outcome(
    searched: tuple[World, list[str]],
) -> None:
    gate, _ = searched
    inquiry = Inquiry(gate.app.config.data, Keys.open(gate.app.config.data / "keys.json"))
    assert [hit.outcome for hit in hits(gate)] == ["answered", "", ""]
    assert [hit.outcome for hit in hits(gate, DecisionQuery(hashes=inquiry.chains.hashes(CLEAR)))] == [
        "",
        "answered",
    ]
    first = hits(gate)[0]
    assert (first.call_id, first.caller_id, first.basis) == ("a-1", CALLER, "directory:rome")
