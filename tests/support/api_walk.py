"""A walk through all endpoints of a gate. Its exchanges are the examples of the API description.

`make reference` runs it and writes `dialgate/interfaces/http/examples.json`. An example that still holds keeps its
instants and ids, so that a new run changes only what the gate now answers differently.
"""

import asyncio
import json
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import ClientResponse, ClientSession, UnixConnector
from msgspec import Struct, structs

from dialgate.config.report_mail import ReportMail, ReportSchedule
from dialgate.core.local_time import instant_in
from dialgate.core.model import HOUR, MINUTE
from dialgate.interfaces import http_application
from dialgate.interfaces.http import examples, openapi
from dialgate.interfaces.http.endpoint import FORM, NDJSON, Endpoint
from dialgate.interfaces.http.examples import Examples
from dialgate.lists.release_holds import ReleaseRequired, require_release
from dialgate.runtime.gate_address import short_path
from dialgate.store import HourCount
from dialgate.store.report_mails import ReportDelivery
from dialgate.store.sqlite import campaign_counts
from tests.support import people, world
from tests.support.world import CALL, CALLER, CLEAR, CONFIG, KEY, LIST, LISTED, World

ENDPOINTS: Final = {endpoint.name: endpoint for endpoint in http_application.EVERY}
JSON: Final = "application/json"
# Texts and lists longer than this are shortened in examples.
_MOST_CHARACTERS, _MOST_ITEMS = 600, 3
_KEPT_WHOLE = 700  # characters of a text that is only little longer
_VARIABLE: Final = re.compile(r"[0-9a-f]{8,}|[\d.]+(e[+-]\d+)?")


class Exchange(Struct, frozen=True, kw_only=True):
    """A request and its response. `label` names the response among the examples of its status."""

    endpoint: Endpoint
    parameters: Mapping[str, Any]
    request_media: str
    request: Any
    status: int
    media: str
    response: Any
    label: str


class Walk:
    """A client that sends requests by the names of endpoints, and keeps the exchanges."""

    def __init__(self, running: World) -> None:
        self.running = running
        self.exchanges: list[Exchange] = []
        self._fresh = iter(FRESH)

    def cases(self) -> tuple[tuple[str, str], ...]:
        """Return a number that may be called and one that may not, each with the label of its answer."""
        return ((next(self._fresh), "allow"), (LISTED, "deny"))

    async def __call__(
        self,
        name: str,
        status: int,
        json_body: Any = None,
        *,
        label: str = "success",
        place: Mapping[str, Any] = {},
        local: bool = False,
        **options: Any,
    ) -> Any:
        """Send a request and return the body of its response. Fails if the status is another.

        `place` has the parameters of the path; `options` are those of aiohttp: `params`, `data`, `headers`.
        With `local`, the request goes over the gate's socket, without a key.
        """
        endpoint, params, data = ENDPOINTS[name], options.get("params", {}), options.get("data")
        async with (
            _client_of(self.running, local=local) as client,
            client.request(
                endpoint.method,
                openapi.plain(endpoint.path).format(**place),
                json=json_body,
                allow_redirects=False,
                **options,
            ) as response,
        ):
            assert response.status == status, await response.text()
            media, body = await _content(response)
        pairs = [*params.items()] if isinstance(params, dict) else [*params]
        self.exchanges.append(
            Exchange(
                endpoint=endpoint,
                parameters={**_parameters(pairs), **place},
                request_media=JSON if data is None else options.get("headers", {}).get("Content-Type", FORM),
                request=json_body if data is None else data,
                status=status,
                media=media,
                response=body,
                label=label,
            )
        )
        return body


@asynccontextmanager
async def _client_of(running: World, *, local: bool) -> AsyncIterator[ClientSession]:
    if not local:
        yield running.client
        return
    with short_path(running.app.config.data) as path:
        async with ClientSession("http://localhost", connector=UnixConnector(str(path))) as client:
            yield client


async def _content(response: ClientResponse) -> tuple[str, Any]:
    """Return the media type, as the description names it, and the body."""
    media, body = response.headers.get("Content-Type", ""), await response.read()
    if media == JSON:
        return media, json.loads(re.sub(rb'"cli:[^"]+"', b'"cli:root"', body))  # whoever runs the walk
    return f"{FORM}; charset=utf-8" if media == FORM else media, body.decode()


def _parameters(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return the parameters. Those of `campaigns` are a list."""
    sent: dict[str, Any] = {}
    for name, value in pairs:
        if name == "campaigns":
            sent.setdefault(name, []).append(value)
        else:
            sent[name] = True if value == "true" else value
    return sent


CONSENT: Final = {
    "number": CLEAR, "id": "c-1", "collected_at": "2026-11-01T10:00:00+01:00", "purposes": ["sale"], "goods": ["broadband"], "call_types": ["agent"],
    "double_opt_in": True, "artefact": "forms/2026/000123.pdf",
    "artefact_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
}  # fmt: skip
PERSON: Final = {"number": CLEAR, "purpose": "a question by mail of 24 November"}
CHANNEL: Final = {
    "Unique-ID": "5f0c2a9b",
    "Caller-Destination-Number": CLEAR,
    "Caller-Caller-ID-Number": CALLER,
}
# Called once each, because further calls to a number are denied.
FRESH: Final = tuple(f"+3906123457{place:02}" for place in range(20))
QUERY: Final = {"to": CLEAR, "from": CALLER, "campaign": "acme-fibre"}
CRM: Final = {"X-Webhook-Key": "the-key-of-the-crm"}
LINES: Final = "\n".join(json.dumps(call) for call in ({**CALL, "call_id": "n"}, {**CALL, "to": LISTED}))


async def walk(folder: Path) -> list[Exchange]:
    """Call every endpoint but that between gates, and return all exchanges.

    The responses include permitted and denied calls, errors, batches and NDJSON.
    """
    shutil.copytree(CONFIG / "webhooks", folder / "webhooks")
    shutil.copy(CONFIG / "webhooks/examples/generic.yaml", folder / "webhooks/crm.yaml")
    (folder / "crm.secret").write_text(CRM["X-Webhook-Key"])
    clients = [world.client("tests", KEY, *world.SCOPES, "stream", "subjects", "watch", "admin")]
    limits = {"idle_seconds": 0.3}  # of a stream without news
    answers = {**world.ANSWERS, **dict.fromkeys(FRESH, False)}
    async with world.running(folder, clients=clients, limits=limits, answers=answers) as running:
        await running.post("/v1/lists", {**LIST, "numbers": [CLEAR, LISTED, *FRESH]})
        await running.app.tick(patience=None)
        ask = Walk(running)
        await _checks(ask)
        await _ledger(ask)
        await _webhooks(ask)
        await _stream(ask)
        await _lists(ask)
        await _subjects(ask)
        await _breaches(ask)
        await ask("listRecordsOfProcessing", 200)
        await ask("exportRecordOfProcessing", 200, place={"id": "record"})
        await ask("exportRecordOfProcessing", 400, place={"id": "processor_record"})
        await _operations(ask)
        await _campaigns(ask, running)
        await _reports(ask, running)
        await _administration(ask)
        await _accounts(ask)
        await _keys(ask)
        await _registries(ask, running)
        await running.app._store.close()
        await _without_store(ask)
    return ask.exchanges


async def _without_store(ask: Walk) -> None:
    assert await ask("checkCall", 503, CALL)
    for kind in ("Text", "Form"):
        await ask(f"checkCallAs{kind}", 503, params=QUERY)
        await ask(f"checkPostedCallAs{kind}", 503, data=QUERY)
    await ask("addRevocation", 503, {"number": CLEAR})
    await ask.running.app.tick()
    await ask("checkReadiness", 503)


async def _webhooks(ask: Walk) -> None:
    of_crm: dict[str, Any] = {"place": {"name": "crm"}}
    stop = {"id": "1", "type": "stop", "number": FRESH[-3], "at": "2026-11-24T09:00:00+01:00"}
    await ask("sendWebhook", 200, {"events": [stop]}, headers=CRM, **of_crm)
    await ask("sendWebhook", 401, {"events": [stop]}, **of_crm)
    await ask("simulateWebhook", 200, {"events": [stop | {"type": "moved"}, stop]}, **of_crm)
    await ask("sendWebhook", 202, {"events": [stop | {"type": "moved"}]}, headers=CRM, **of_crm)
    (letter,) = (await ask("listDeadLetters", 200))["letters"]
    await ask("replayDeadLetters", 200, {})
    batch = json.dumps({"events": [stop]}) + "\n"
    await ask("sendWebhookBatch", 200, data=batch, headers={"Content-Type": NDJSON}, **of_crm)
    await ask("replayDeadLetters", 200, {"drop": [letter["id"]]})


async def _stream(ask: Walk) -> None:
    """Read a revocation and a line without one, from a stream that does not end."""
    endpoint = ENDPOINTS["streamRevocations"]
    async with ask.running.client.get(endpoint.path, params={"after": 0}) as response:
        lines = [(await response.content.readline()).decode() for _ in range(3)]
        assert any("number" in json.loads(line) for line in lines)
        ask.exchanges.append(
            Exchange(
                endpoint=endpoint, parameters={"after": 0}, request_media=JSON, request=None, status=response.status,
                media=response.headers["Content-Type"], response="".join(lines), label="success",
            )
        )  # fmt: skip


async def _checks(ask: Walk) -> None:
    allow = await ask("checkCall", 200, {**CALL, "call_id": "20261124-0001"}, label="allow")
    assert allow["decision"] == "allow"
    deny = await ask("checkCall", 200, {**CALL, "to": LISTED}, label="deny")
    assert deny["reasons"]
    await ask("checkCall", 200, {**CALL, "to": LISTED, "from": "anonymous"})
    await ask("checkCall", 200, CALL)
    await ask("checkCall", 200, {**CALL, "to": "nonsense"})
    await ask("checkCall", 400, {**CALL, "colour": "red"})
    await ask("checkCall", 400, data="{")
    await ask("checkCall", 401, CALL, headers={"Authorization": "Bearer wrong"})
    await ask("checkCalls", 200, {"calls": [CALL, {**CALL, "to": LISTED}]})
    batch = await ask("checkCalls", 200, {"calls": [CALL, {**CALL, "to": LISTED}, {"to": 1}]})
    assert [*map(len, batch["answers"])][2] == 1
    await ask("checkCalls", 200, data=LINES, headers={"Content-Type": NDJSON})
    lines = await ask("checkCalls", 200, data=LINES + '\n{"to": ""}\n', headers={"Content-Type": NDJSON})
    assert len(lines.splitlines()) == 3
    for to, label in ask.cases():
        await ask("simulateCall", 200, {**CALL, "to": to}, label=label)
    for name in ("checkCallAsText", "checkCallAsForm"):
        for to, label in ask.cases():
            await ask(name, 200, params={**QUERY, "to": to}, label=label)
        await ask(name, 400, params={"to": CLEAR})
    for name in ("checkPostedCallAsText", "checkPostedCallAsForm"):
        for to, label in ask.cases():
            await ask(name, 200, data={**QUERY, "to": to}, label=label)
        await ask(name, 400, data={"to": CLEAR})
    for name in ("checkCallForHttapi", "checkPostedCallForHttapi"):
        for to, label in ask.cases():
            await ask(name, 200, params={**QUERY, "to": to}, label=label)
        await ask(name, 200, params=QUERY, headers={"Authorization": "Bearer wrong"})
    await ask("checkPostedCallForHttapi", 200, params={"campaign": "acme-fibre"}, data=CHANNEL)
    await ask(
        "checkCallForDialplan",
        200,
        params={**QUERY, "to": FRESH[-2], "bridge": "sofia/gateway/trunk"},
        data={"section": "dialplan", **CHANNEL},
    )
    for to, label in ask.cases():
        await ask("checkCallByWebhook", 200, {**QUERY, "to": to}, place={"profile": "generic"}, label=label)
    await ask("checkCallByWebhook", 200, data={**QUERY, "to": FRESH[-1]}, place={"profile": "generic"})
    wrong = {"decision_id": allow["decision_id"], "outcome": "wrong_number"}
    await ask("reportOutcome", 200, wrong)
    await ask("reportOutcome", 409, {**wrong, "outcome": "busy"})
    await ask("reportOutcome", 404, {"decision_id": "none", "outcome": "answered"})
    found = await ask("findDecisions", 200, params={**PERSON, "limit": 5})
    await ask("getDecision", 200, place={"id": found["decisions"][0]["decision_id"]})
    await ask("getDecision", 404, place={"id": "none"})


async def _ledger(ask: Walk) -> None:
    proof = {"channel": "call", "proof": "recording:2026/11/24/0001.wav", "actor": "agent-17"}
    receipt = await ask("addRevocation", 201, {"number": LISTED, **proof})
    await ask("addRevocation", 400, {"number": "none"})
    await ask("listRevocations", 200, params={**PERSON, "number": LISTED})
    await ask(
        "liftRevocation", 201, {"ground": "error", "reason": "typing error"}, place={"seq": receipt["seq"]}
    )
    await ask("liftRevocation", 404, {"ground": "error", "reason": "typing error"}, place={"seq": 999})
    await ask("addConsent", 201, CONSENT)
    await ask("confirmConsent", 201, {"number": CLEAR, "id": "c-1"})
    await ask("listConsents", 200, params=PERSON)
    await ask("listConsents", 400, params={"number": CLEAR})
    await ask("withdrawConsent", 201, {"number": CLEAR, "id": "c-1"})
    await ask("listConsents", 200, params=PERSON)
    enrolled = {
        "registry": "rpo",
        "numbers": [CLEAR],
        "listed_by": "2026-11-01T00:00:00Z",
        "proof": "RPO-4711",
    }
    await ask("voidConsents", 201, enrolled)
    await ask("addContract", 201, {"number": CLEAR, "id": "k-1", "starts": "2026-01-01"})
    await ask("endContract", 201, {"number": CLEAR, "id": "k-1", "ends": "2026-11-01"})
    await ask("listContracts", 200, params=PERSON)
    instants = {"requested_at": "2026-11-20T10:00:00Z", "expires_at": "2026-12-20T10:00:00Z"}
    await ask("addCallRequest", 201, {"number": CLEAR, "id": "r-1", **instants})
    await ask("listCallRequests", 200, params=PERSON)
    reports = await ask("listWrongNumbers", 200, params=PERSON)
    ground = {"ground": "error", "reason": "the right person"}
    await ask("liftWrongNumber", 201, ground, place={"seq": reports["entries"][0]["seq"]})
    await _export(ask)
    await _files(ask)
    await _proof_file(ask)
    await ask("addCallerIdProof", 204, {"caller_id": CALLER, "kind": "probe", "evidence": "called back"})


async def _proof_file(ask: Walk) -> None:
    octets = {"Content-Type": "application/octet-stream"}
    kept = await ask("addProofFile", 201, data="%PDF-1.7 a signed form", headers=octets)
    consent = CONSENT | {"number": CLEAR, "id": "c-3", "artefact_sha256": kept["sha256"]}
    await ask("addConsent", 201, consent)
    await ask("getProofFile", 200, params=PERSON, place={"sha256": kept["sha256"]})


async def _export(ask: Walk) -> None:
    """Keep only the first and the last line, because the order of rows and their ciphertexts differ in each walk."""
    first, *rows, last = (await ask("exportLedger", 200, params={"numbers": "true"})).splitlines(
        keepends=True
    )
    assert any(CLEAR in row for row in rows)
    ask.exchanges[-1] = structs.replace(
        ask.exchanges[-1], parameters={"numbers": True}, response=first + last
    )


async def _files(ask: Walk) -> None:
    """Send a file of each kind, as CSV, and as text with an answer in lines."""
    contents = {
        "importRevocations": f"number\n{FRESH[0]}\n12\n",
        "importConsents": f"number,id,collected_at,purposes,call_types\n{FRESH[0]},f-1,2026-11-01T10:00:00Z,sale,agent\n12,f-2,,,\n",
        "importContracts": f"number,id,starts\n{FRESH[0]},f-3,2026-01-01\n12,f-4,2026-01-01\n",
        "importCallRequests": f"number,id,requested_at,expires_at\n{FRESH[0]},f-5,2026-11-20T10:00:00Z,2026-12-20T10:00:00Z\n12,f-6,,\n",
    }
    for name, data in contents.items():
        skipping = {"skip_bad": "true", "channel": "crm", "proof": "exports/2026-11-24.csv"}
        for media, more in (("text/csv", {}), ("text/plain", {"skipped": "true"})):
            await ask(name, 201, params=skipping | more, data=data, headers={"Content-Type": media})
    requests: dict[str, dict[str, Any]] = {
        "addRevocation": {"channel": "crm"},
        "addConsent": CONSENT,
        "addContract": {"id": "k-2", "starts": "2026-01-01"},
        "addCallRequest": {
            "id": "r-2", "requested_at": "2026-11-20T10:00:00Z", "expires_at": "2026-12-20T10:00:00Z"
        },
    }  # fmt: skip
    for name, request in requests.items():
        lines = "".join(f"{json.dumps(request | {'number': number})}\n" for number in (FRESH[1], "12"))
        await ask(name, 201, data=lines, headers={"Content-Type": NDJSON})


async def _campaigns(ask: Walk, running: world.World) -> None:
    place = {"id": "acme-fibre"}
    await ask("liftPause", 409, {"ground": "new dialer"}, place=place)
    await ask("liftPause", 404, {"ground": "new dialer"}, place={"id": "another"})
    silent = HourCount(running.hand.at // HOUR, "acme-fibre", 0, 4)
    await running.app._store._write(lambda db: campaign_counts.put_counts(db, [silent]))  # type: ignore[attr-defined]
    await ask("listCampaigns", 200)
    await ask("listTasks", 200)
    await ask("liftPause", 201, {"ground": "new dialer"}, place=place)
    await ask("resumeCampaign", 409, {}, place=place)
    await ask("pauseCampaign", 201, {"reason": "wrong price in the script", "actor": "anna"}, place=place)
    await ask("pauseCampaign", 404, {"reason": "wrong price in the script"}, place={"id": "another"})
    await ask("resumeCampaign", 201, {"reason": "script corrected", "actor": "anna"}, place=place)


async def _lists(ask: Walk) -> None:
    await ask("loadCallList", 201, {**LIST, "id": "by-json"})
    for name, media in (("by-file", "text/csv"), ("by-text", "text/plain")):
        query = [(field, value) for field, value in {**LIST, "id": name}.items() if isinstance(value, str)]
        query += [("campaigns", campaign) for campaign in LIST["campaigns"]]
        headers = {"Content-Type": media}
        await ask("loadCallList", 201, params=query, data=f"{CLEAR}\n12\n", headers=headers)
        await ask("scrubList", 200, params={"campaign": "acme-fibre"}, data=f"{CLEAR}\n12\n", headers=headers)
    plan = {"campaign": "acme-fibre", "days": 1}
    await ask("planCalls", 200, params={**plan, "format": "ndjson"}, data=f"{CLEAR}\n", headers=headers)
    await ask("planCalls", 200, {**plan, "list": "by-json"})
    await ask("planCalls", 404, {**plan, "list": "none"})
    await ask(
        "loadCallList",
        201,
        params=[
            *((field, f"{value}-again" if field == "id" else value) for field, value in query),
            ("skipped", "true"),
        ],
        data=f"{CLEAR}\n12\n",
        headers=headers,
    )
    await ask("listExports", 200)
    await ask("previewCallList", 409, {"campaign": "acme-fibre"}, place={"id": "by-file"})
    many = [f"+390612344{at:03}" for at in range(50)]
    await ask("loadCallList", 201, {**LIST, "id": "long", "numbers": many})
    await ask("previewCallList", 200, {"campaign": "acme-fibre"}, place={"id": "long"})
    await ask("loadCallList", 409, {**LIST, "id": "by-json"})
    await ask("listCallLists", 200)
    await ask("getCallList", 200, place={"id": "by-file"})
    await ask("getCallList", 404, place={"id": "none"})
    await ask("retireCallList", 200, place={"id": "by-file"})


async def _subjects(ask: Walk) -> None:
    place = {"number": CLEAR}
    case = {
        "kind": "erasure",
        "identified": "code sent to the number and read back",
        "channel": "pec",
        "proof": "pec/2026-0417",
    }
    await ask("exportSubjectRegister", 200)  # without a request, because its text would have random ids
    case_id = (await ask("addSubjectRequest", 201, case, place=place))["id"]
    await ask("getSubjectData", 200, params={"purpose": "request", "controller": "acme"}, place=place)
    await ask("getSubjectData", 200, params={"purpose": "request", "language": "it"}, place=place)
    await ask("exportSubjectData", 200, params={"purpose": "request", "controller": "acme"}, place=place)
    await ask("listSubjectRequests", 200)
    history = await ask("listContracts", 200, params=PERSON)
    wrong = {"kind": "rectification", "identified": "code read back"}
    wrong_id = (await ask("addSubjectRequest", 201, wrong, place=place))["id"]
    fields = {"request": wrong_id, "of": history["entries"][0]["seq"], "fields": {"goods": ["broadband"]}}
    await ask("rectifySubjectData", 201, fields, place=place)
    await ask(
        "updateSubjectRequest", 200, {"outcome": "extended", "reason": "many requests"}, place={"id": case_id}
    )
    await ask("previewSubjectErasure", 200, params={"purpose": "request"}, place={"id": case_id})
    await ask("eraseSubjectData", 200, {"request": case_id}, place=place)
    objection = {"kind": "objection", "identified": "code read back", "channel": "mail"}
    objection_id = (await ask("addSubjectRequest", 201, objection, place=place))["id"]
    await ask("executeSubjectRequest", 200, {}, place={"id": objection_id})
    await ask("executeSubjectRequest", 404, {}, place={"id": "none"})
    octets = {"Content-Type": "application/octet-stream"}
    own, name, letter = {"id": objection_id}, {"name": "letter.pdf"}, "%PDF-1.7 a letter"
    attached = await ask("addAttachment", 201, place=own, params=name, data=letter, headers=octets)
    await ask("getSubjectRequest", 200, params={"purpose": "request"}, place={"id": objection_id})
    own["sha256"] = attached["sha256"]
    await ask("getAttachment", 200, params={"purpose": "request"}, place=own)
    await ask("eraseSubjectData", 404, {"request": "none"}, place=place)
    await ask("exportSubjectLetter", 200, {"language": "en", "place": "Roma"}, place={"id": case_id})
    await ask("exportSubjectLetter", 404, {}, place={"id": "none"})


async def _breaches(ask: Walk) -> None:
    await ask("exportBreachRegister", 200)
    opened = {
        "aware_at": "2026-11-24T09:00:00Z",
        "since": "2026-11-23T20:00:00Z",
        "until": "2026-11-24T08:30:00Z",
        "client": "dialer-7",
        "nature": "The key of the dialer was in a public repository.",
        "controller": "acme",
    }
    place = {"id": (await ask("addBreach", 201, opened))["id"]}
    await ask("findBreachExposure", 200, place=place)
    await ask("updateBreach", 200, {"outcome": "notified", "reason": "protocol 2026/4711"}, place=place)
    late = {"outcome": "not_notified", "reason": "no risk"}
    await ask("updateBreach", 409, late, place=place)
    await ask("getBreach", 200, place=place)
    await ask("getBreach", 404, place={"id": "none"})
    await ask("listBreaches", 200)
    law = (await ask("listLawChanges", 200))["laws"][0]["law"]
    await ask("exportLawAcknowledgements", 200)
    await ask("confirmLawChanges", 201, {"country": "IT", "law": law, "note": "no campaign is concerned"})
    await ask("confirmLawChanges", 400, {"country": "IT", "law": "old"})
    await ask("exportBreachNotification", 200, params={"language": "en"}, place=place)


async def _reports(ask: Walk, running: world.World) -> None:
    await _mailed_reports(ask, running)
    for form in ("html", "json"):
        query = {"controller": "acme", "day": "2026-11-24", "format": form, "language": "en"}
        await ask("getReport", 200, params=query)
    await ask("getReport", 400, params={"day": "yesterday"})
    period = {
        "controller": "acme",
        "first": "2026-11-18",
        "last": "2026-11-24",
        "from_hour": 9,
        "to_hour": 20,
    }
    await ask("getHistory", 200, params=period)
    await ask("getHistory", 400, params={**period, "first": "2026-01-01"})
    await ask(
        "searchDecisions", 200, params={"campaign": "acme-fibre", "outcome": "wrong_number", "limit": 2}
    )
    await ask("searchDecisions", 404, params={"controller": "none"})
    coverage = {"calls": 1_200, "allowed": 1_043, "shadow": 137, "counts": {"undecided": 20}}
    shadow = {"day": "2026-11-24", "format": "json", "language": "en", "coverage": coverage}
    for form in ("html", "json"):
        await ask("getShadowReport", 200, {**shadow, "format": form})
    await ask("getShadowReport", 404, {**shadow, "campaigns": ["none"]})
    decision = (await ask("findDecisions", 200, params={**PERSON, "limit": 1}))["decisions"][0]["decision_id"]
    await ask("exportEvidence", 409, {"decision": decision, "purpose": "Garante, case 4711"})
    running.hand.at += MINUTE
    await running.app.tick(patience=None)  # signs a checkpoint
    await ask("exportEvidence", 200, {"decision": decision, "purpose": "Garante, case 4711"})


async def _mailed_reports(ask: Walk, running: world.World) -> None:
    daily = ReportSchedule(name="acme-daily", controller="acme", recipients=("officer@example.com",))
    mail = ReportMail(host="mail.example.com", sender="dialgate@example.com", reports=(daily,))
    app, today = running.app, instant_in("Europe/Rome", datetime(2026, 11, 24))  # noqa: DTZ001 - a local time
    app.reload(structs.replace(app.config, settings=structs.replace(app.config.settings, mail=mail)))
    before = ReportDelivery(schedule=f"acme/{daily.name}")
    sent = structs.replace(before, period="2026-11-23", until=today, sent_at=today + 6 * HOUR)
    await app._store.change_report_delivery(before, sent)
    await ask("listScheduledReports", 200)


async def _accounts(ask: Walk) -> None:
    person, place = {"name": "anna.rossi", "role": "officer", "controllers": ["acme"]}, {"name": "anna.rossi"}
    await ask("addAccount", 201, person)
    await ask("addAccount", 409, person)
    link = (await ask("inviteAccount", 201, place=place))["link"]
    await ask("confirmAccount", 409, place=place)
    await people.accept(ask.running.app.people, ask.running.hand.at, link)
    await ask("confirmAccount", 403, place=place)
    for exchange in ask.exchanges:  # the code differs in each walk
        if exchange.endpoint.name in {"addAccount", "inviteAccount"} and exchange.status == 201:
            exchange.response["link"] = "https://gate.example/console/invitation/anna.rossi/CODE"
    await ask("confirmAccount", 200, place=place, local=True)
    await ask("updateAccount", 200, {"role": "auditor"}, place=place)
    await ask("updateAccount", 404, {"role": "auditor"}, place={"name": "nobody"})
    await ask("endSessions", 200, {}, place=place)
    await ask("listAccounts", 200)


async def _keys(ask: Walk) -> None:
    place = {"name": "tests"}
    made = await ask("addKey", 201, {"last_day": "2027-12-01"}, place=place)
    await ask("addKey", 409, {}, place=place)
    await ask("listClients", 200)
    await ask("disableKey", 200, place={**place, "id": made["id"]})
    await ask("disableKey", 404, place={**place, "id": "3f2a9c01d7be"})
    for exchange in ask.exchanges:  # the key and its id differ in each walk
        if exchange.endpoint.name == "addKey" and exchange.status == 201:
            exchange.response["key"] = "KEY"


async def _registries(ask: Walk, running: World) -> None:
    why = "30 per cent of the known answers changed"
    with suppress(ReleaseRequired):
        require_release(
            running.app.config.data / "snapshots", ("rpo", "acme", "TICKET-2"), why, running.hand()
        )
    (held,) = (await ask("listHeldImports", 200))["holds"]
    await ask("releaseHeldImport", 403, place={"id": held["id"]})
    await ask("releaseHeldImport", 200, place={"id": held["id"]}, local=True)
    await ask("releaseHeldImport", 409, place={"id": held["id"]}, local=True)


async def _administration(ask: Walk) -> None:
    await ask("removeExpiredData", 200, {"dry_run": True})
    await ask("listRemovals", 200)
    await ask("verifyLog", 200)
    await ask("getLogVerification", 200)
    span = {"since": "2026-11-24T00:00:00+01:00", "until": "2026-11-25T00:00:00+01:00"}
    await ask("findExposedData", 200, params={**span, "client": "tests"})
    await ask("findExposedData", 400, params=span)
    hold = {"number": CLEAR, "reason": "Garante, case 4711", "by": "dpo"}
    await ask("addHold", 201, hold)
    await ask("addHold", 409, hold)
    await ask("listHolds", 200, params={"number": CLEAR})
    await ask("liftHold", 201, {**hold, "reason": "case closed"})
    await ask("retireMonths", 200, {"dry_run": True})
    await ask("renewSigningKey", 201)
    await ask("getConfigurationDiff", 200, params={"days": 1})
    await ask("listNodes", 409)
    await ask("forgetNode", 409, place={"node": "milan"})
    await ask("addLookups", 204, {"numbers": [CLEAR], "purpose": "a bypass of 24 November"})
    await ask("listLookups", 200, params={"what": "reconciliation", "limit": 1})


async def _operations(ask: Walk) -> None:
    for name in (
        "checkLiveness",
        "checkReadiness",
        "getMetrics",
        "getApiDescription",
        "getApiPage",
    ):
        await ask(name, 200)
    await ask("redirectToApiPage", 302)
    await ask("getMetrics", 401, headers={"Authorization": "Bearer wrong"})


# ---- examples --------------------------------------------------------------------------------------------------------


def examples_in(exchanges: Iterable[Exchange]) -> dict[str, Examples]:
    """Return the examples of each endpoint: the first request and the first response of each kind, without errors."""
    found: dict[str, Any] = {}
    for exchange in exchanges:
        described = {exchange.endpoint.status, *(status for status, *_ in exchange.endpoint.other_statuses)}
        if exchange.status not in described:
            continue
        of_endpoint = found.setdefault(
            exchange.endpoint.name, {"parameters": {}, "requests": {}, "responses": {}}
        )
        if exchange.status == exchange.endpoint.status:
            of_endpoint["parameters"] = exchange.parameters | of_endpoint["parameters"]
            if exchange.request is not None:
                of_endpoint["requests"].setdefault(exchange.request_media, _shortened(exchange.request))
        if exchange.response not in (None, ""):
            media = of_endpoint["responses"].setdefault(str(exchange.status), {})
            bodies = media.setdefault(exchange.media, {})
            if exchange.label not in bodies and not (bodies and exchange.label == "success"):
                bodies[exchange.label] = _shortened(exchange.response)
    return msgspec.convert(found, dict[str, Examples])


def _shortened(body: Any) -> Any:
    """Return the body with long texts cut, long lists cut, and only the version of an API description."""
    if isinstance(body, str):
        return body if len(body) <= _KEPT_WHOLE else body[:_MOST_CHARACTERS] + "…"
    if isinstance(body, list):
        return [_shortened(item) for item in body[:_MOST_ITEMS]]
    if isinstance(body, dict):
        if "openapi" in body:
            return {"openapi": body["openapi"]}
        return {name: _shortened(value) for name, value in body.items()}
    return body


def masked(value: Any) -> str:
    """Return the value as text without ids, hashes and figures, which each run of a gate has anew."""
    return _VARIABLE.sub("#", msgspec.json.encode(value).decode())


def kept(recorded: Mapping[str, Examples], earlier: Mapping[str, Examples]) -> dict[str, Examples]:
    """Return the recorded examples, or the earlier ones of an endpoint where they differ in nothing but ids and instants."""
    return {
        name: earlier[name] if name in earlier and masked(earlier[name]) == masked(some) else some
        for name, some in recorded.items()
    }


def write() -> None:
    with tempfile.TemporaryDirectory() as folder:
        recorded = examples_in(asyncio.run(walk(Path(folder))))
    encoded = msgspec.json.encode(kept(recorded, examples.RECORDED))
    Path(str(examples.FILE)).write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")


if __name__ == "__main__":
    write()
