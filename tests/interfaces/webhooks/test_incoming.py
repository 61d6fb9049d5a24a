"""Messages of platforms and CRMs: what they record, once and in any order, and those that wait because they could not be applied."""

import asyncio
import base64
import hmac
import json
import os
import random
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from itertools import permutations
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from msgspec import structs

from dialgate.config import loader
from dialgate.config.configuration import ConfigError
from dialgate.config.incoming_webhooks import FIELDS
from dialgate.core.ledger_events import ConsentGiven, Entry
from dialgate.core.ledger_state import fold
from dialgate.core.model import DAY, HOUR, MINUTE, SECOND, Known
from dialgate.interfaces.webhooks.operations import REQUESTS
from dialgate.ledger.request_fields import fields_of
from tests.support import running_gate, world
from tests.support.commands import run_command
from tests.support.paths import ROOT
from tests.support.world import ANSWERS, CALL, CLEAR, KEY, NOW, World

EXAMPLES = ROOT / "config/webhooks/examples"
ORDERS = int(os.environ.get("DIALGATE_ORDERS", "12"))  # in which the same events arrive
MOBILE = "+393281234567"  # clear in the registry, on no list: only a consent opens a call
SECRET = "a-secret-of-the-platform"
URL = "https://gate.example/v1/webhooks/in/"
SCOPES = (*world.SCOPES, "admin", "subjects")
CONSENT = {
    "purposes": ["sale"],
    "goods": ["broadband"],
    "call_types": ["agent"],
    "artefact": "a.pdf",
    "artefact_sha256": "0" * 64,
}


def place(folder: Path, *names: str, **changes: Any) -> None:
    """Copy shipped webhooks into a configuration, with their secrets."""
    (folder / "webhooks").mkdir(exist_ok=True)
    for name in names:
        data = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text()) | changes
        (folder / "webhooks" / f"{name}.yaml").write_text(yaml.safe_dump(data))
        secret = f"whsec_{base64.b64encode(SECRET.encode()).decode()}" if data["id"] == "signed" else SECRET
        (folder / data["signature"]["secret_file"]).write_text(f"{secret}\n")


def faults_after(folder: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> str:
    """Return what is reported about a configuration with a shipped webhook, changed."""
    path = world.write_folder(folder)
    place(folder, name)
    file = folder / f"webhooks/{name}.yaml"
    data = yaml.safe_load(file.read_text())
    change(data)
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError) as raised:
        loader.load(path)
    return str(raised.value)


@asynccontextmanager
async def gate(folder: Path, *names: str, **settings: Any) -> AsyncIterator[World]:
    clients = [world.client("tests", KEY, *SCOPES)]
    answers, prepare = {**ANSWERS, MOBILE: False}, lambda folder: place(folder, *names)
    async with world.running(folder, prepare=prepare, answers=answers, clients=clients, **settings) as made:
        yield made


@pytest.fixture
async def crm(tmp_path: Path) -> AsyncIterator[World]:
    """Run a gate with the shipped generic webhook."""
    async with gate(tmp_path, "generic") as made:
        await world.load_list(made)
        yield made


def rfc3339(at: int) -> str:
    return datetime.fromtimestamp(at / SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def send(made: World, *events: dict[str, Any], name: str = "crm", status: int = 200) -> Any:
    headers = {"X-Webhook-Key": SECRET}
    async with made.client.post(
        f"/v1/webhooks/in/{name}", json={"events": events}, headers=headers
    ) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


def rewrite(made: World, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the generic webhook, and reload the configuration."""
    file = made.folder / "webhooks/generic.yaml"
    data = yaml.safe_load(file.read_text())
    change(data)
    file.write_text(yaml.safe_dump(data))
    made.app.reload(loader.load(made.folder / "dialgate.yaml"))


async def verdict(made: World, number: str = MOBILE) -> str:
    answer = await made.post("/v1/check", {**CALL, "to": number}, 200)
    return str(answer["decision"])


async def reasons(made: World, number: str) -> list[str]:
    answer = await made.post("/v1/check", {**CALL, "to": number}, 200)
    return [reason["code"] for reason in answer.get("reasons", [])]


async def history(made: World, number: str = MOBILE) -> list[Entry]:
    access = made.app.registrar.access
    return await access.store.history(access.keys.subject("acme", number))


# ---- CRMs ------------------------------------------------------------------------------------------------------------

Post = tuple[bytes, dict[str, str]]  # a body and its headers


def hubspot(fields: dict[str, Any]) -> Post:
    body = json.dumps(fields).encode()
    signed = b"POST" + (URL + "hubspot").encode() + body + str(NOW).encode()
    signature = base64.b64encode(hmac.digest(SECRET.encode(), signed, "sha256")).decode()
    return body, {"X-HubSpot-Signature-v3": signature, "X-HubSpot-Request-Timestamp": str(NOW)}


def zoho(fields: dict[str, Any]) -> Post:
    names = {
        "phone": "Phone", "do_not_call": "Do_Not_Call", "call_consent": "Call_Consent", "call_consent_at": "Call_Consent_At",
        "contact_id": "Contact_Id", "changed_at": "Modified_Time", "consent_file": "Consent_File", "consent_sha256": "Consent_SHA256",
        "consent_attested_by": "Consent_Attested_By", "consent_attested_at": "Consent_Attested_At",
    }  # fmt: skip
    form = {
        names[name]: str(value).lower() if isinstance(value, bool) else value
        for name, value in fields.items()
    }
    return urlencode({"token": SECRET, "channel_id": "1000000068001", **form}).encode(), {}


def salesforce(fields: dict[str, Any]) -> Post:
    names = {
        "phone": "Phone", "do_not_call": "DoNotCall", "call_consent": "Call_Consent__c", "call_consent_at": "Call_Consent_At__c",
        "contact_id": "Id", "changed_at": "SystemModstamp", "consent_file": "Consent_File__c", "consent_sha256": "Consent_SHA256__c",
        "consent_attested_by": "Consent_Attested_By__c", "consent_attested_at": "Consent_Attested_At__c",
    }  # fmt: skip
    members = "".join(f"<sf:{names[name]}>{str(value).lower() if isinstance(value, bool) else value}</sf:{names[name]}>" for name, value in fields.items())  # fmt: skip
    event = sha256(members.encode()).hexdigest()[:18]
    body = (
        '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/">'
        '<soapenv:Body><notifications xmlns="http://soap.sforce.com/2005/09/outbound"><OrganizationId>00D000000000000EAA</OrganizationId>'
        f'<ActionId>04k</ActionId><Notification><Id>{event}</Id><sObject xsi:type="sf:Contact" xmlns:sf="urn:sobject.enterprise.soap.sforce.com"'
        f' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">{members}</sObject></Notification></notifications></soapenv:Body></soapenv:Envelope>'
    )  # fmt: skip
    return body.encode(), {"X-Webhook-Key": SECRET}


def odoo(fields: dict[str, Any]) -> Post:
    names = {
        "do_not_call": "x_do_not_call", "call_consent": "x_call_consent", "call_consent_at": "x_call_consent_at",
        "contact_id": "_id", "changed_at": "write_date", "consent_file": "x_consent_file", "consent_sha256": "x_consent_sha256",
        "consent_attested_by": "x_consent_attested_by", "consent_attested_at": "x_consent_attested_at",
    }  # fmt: skip
    # Odoo's times are in UTC, without an offset.
    values = {names.get(name, name): value for name, value in fields.items()}
    for name in ("write_date", "x_call_consent_at"):
        if name in values:
            values[name] = values[name].replace("T", " ").removesuffix("Z")
    return json.dumps({"_action": "Send", "_model": "res.partner", **values}).encode(), {
        "X-Webhook-Key": SECRET
    }


CRMS = {"hubspot": hubspot, "zoho": zoho, "salesforce": salesforce, "odoo": odoo}


async def post(made: World, name: str, sent: Post, status: int = 200) -> str:
    body, headers = sent
    async with made.client.post(f"/v1/webhooks/in/{name}", data=body, headers=headers) as answer:
        assert answer.status == status, await answer.text()
        return await answer.text()


@pytest.mark.parametrize("name", CRMS)
async def test_a_consent_in_the_crm_opens_a_call_and_its_withdrawal_closes_it(
    tmp_path: Path, name: str
) -> None:
    fields = {"phone": MOBILE, "contact_id": 4711, "do_not_call": False}
    given = {
        "call_consent": True,
        "call_consent_at": rfc3339(NOW - HOUR),
        "consent_file": "a.pdf",
        "consent_sha256": "0" * 64,
    }
    empty = False if name == "odoo" else ""
    attested = {"consent_attested_by": "Anna Bo", "consent_attested_at": rfc3339(NOW - MINUTE)}
    async with gate(tmp_path, name) as made:
        await post(
            made,
            name,
            CRMS[name](fields | given | attested | dict.fromkeys(["consent_sha256", "consent_file"], empty)),
        )
        (entry,) = await history(made)
        assert isinstance(entry.event, ConsentGiven)
        assert (entry.event.other_proofs, entry.event.crm_reference) == (("crm_reference",), "4711")
        assert await verdict(made) == "deny"
        await post(made, name, CRMS[name](fields | given))
        assert await verdict(made) == "allow"
        await post(
            made, name, CRMS[name](fields | {"call_consent": False, "changed_at": rfc3339(NOW - MINUTE)})
        )
        assert await verdict(made) == "deny"
        assert [type(entry.event).__name__ for entry in await history(made)] == [
            "ConsentGiven",
            "ConsentGiven",
            "ConsentWithdrawn",
        ]
        await post(made, name, CRMS[name](fields | {"do_not_call": True, "changed_at": rfc3339(NOW)}))
        assert "revocation.revoked" in await reasons(made, MOBILE)
        assert (await history(made))[-1].actor == f"webhook.{name}"


async def test_salesforce_gets_its_acknowledgement(tmp_path: Path) -> None:
    async with gate(tmp_path, "salesforce") as made:
        answer = await post(made, "salesforce", salesforce({"phone": "no number", "do_not_call": True}))
        assert "<Ack>true</Ack>" in answer
        assert made.sample("dialgate_dead_letters") == 1


async def test_xml_with_entities_is_kept_and_never_expanded(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>'
    async with gate(tmp_path, "generic") as made:
        await post(made, "crm", (bomb.encode(), {"X-Webhook-Key": SECRET}), 202)
        assert "document type" in str(await made.get("/v1/dead-letters"))


# ---- once, and in any order ------------------------------------------------------------------------------------------

EVENTS: Sequence[dict[str, Any]] = (
    {"id": "1", "type": "consent", "number": MOBILE, "entry": "c", "at": rfc3339(NOW - 3 * HOUR), **CONSENT},
    {"id": "2", "type": "withdrawal", "number": MOBILE, "entry": "c", "at": rfc3339(NOW - 2 * HOUR)},
    {"id": "3", "type": "consent", "number": MOBILE, "entry": "c", "at": rfc3339(NOW - HOUR), **CONSENT},
    {"id": "4", "type": "contract_end", "number": MOBILE, "entry": "d", "ends": "2026-11-20"},
    {"id": "5", "type": "contract", "number": MOBILE, "entry": "d", "starts": "2026-01-01", "proof": "d.pdf"},
)
STOP = {"id": "6", "type": "stop", "number": MOBILE, "at": rfc3339(NOW - 4 * HOUR)}


def essence_of(entries: list[Entry]) -> Known:
    """Return the state of a number without the numbers of its entries, which depend on the order."""
    state = fold(entries)
    return structs.replace(
        state,
        seq=0,
        revocations=tuple(structs.replace(item, seq=0) for item in state.revocations),
        consents=tuple(sorted(state.consents, key=lambda item: item.id)),
        contracts=tuple(structs.replace(item, entered_at=0) for item in state.contracts),
    )


async def test_deliveries_out_of_order_and_repeated_give_the_same_state(
    tmp_path: Path, store_settings: dict[str, Any]
) -> None:
    async with gate(tmp_path, "generic", **store_settings) as made:
        numbers = iter(f"+3932812{at:05}" for at in range(1_000))
        states, verdicts = set(), set()
        orders = list(permutations(EVENTS))
        for order in random.Random(7).sample(orders, min(ORDERS, len(orders))):
            number = next(numbers)
            repeated = [event for event in order for _ in range(random.Random(number).randint(1, 2))]
            for event in (*order, *repeated):
                await send(made, event | {"number": number})
            entries = await history(made, number)
            assert len(entries) == len(EVENTS)
            states.add(essence_of(entries))
            verdicts.add(tuple(await reasons(made, number)))
        assert len(states) == 1
        assert len(verdicts) == 1
        (state,) = states
        assert [consent.withdrawn_at for consent in state.consents] == [0]
        assert [objection.consent for objection in state.objections] == ["c"]


async def test_a_late_stop_wins_over_every_consent(crm: World) -> None:
    for at in range(len(EVENTS) + 1):
        number = f"+393281234{at:03}"
        events = [*EVENTS[:at], STOP, *EVENTS[at:]]
        for event in events:
            await send(crm, event | {"number": number})
        assert await verdict(crm, number) == "deny"


async def test_a_stop_that_is_delivered_again_is_not_recorded_again_even_after_it_was_lifted(
    crm: World,
) -> None:
    assert await send(crm, STOP) == {"recorded": 1, "kept": 0}
    (entry,) = await history(crm)
    assert (entry.proof, entry.channel) == ("webhook:crm:6", "webhook")
    await crm.post(f"/v1/revocations/{entry.seq}/lift", {"ground": "error", "reason": "another's number"})
    await send(crm, STOP, STOP)
    assert len(await history(crm)) == 2
    await send(crm, STOP | {"id": "7"})
    assert len(await history(crm)) == 3


async def test_stops_of_one_event_with_different_scopes_are_all_recorded(crm: World) -> None:
    def add_scope(data: dict[str, Any]) -> None:
        data["write"]["stop"] |= {"scope": ["event.scope"], "campaign": ["event.campaign"]}

    rewrite(crm, add_scope)
    stops = [STOP | {"scope": "campaign", "campaign": "acme-fibre"}, STOP | {"scope": "controller"}]
    for _ in range(2):
        await send(crm, *stops)
    assert [getattr(entry.event, "scope", "") for entry in await history(crm)] == ["campaign", "controller"]


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%Y%m%d"])
@pytest.mark.parametrize("given_first", [True, False])
async def test_a_withdrawal_on_a_day_ends_what_was_given_on_it(
    crm: World, form: str, *, given_first: bool
) -> None:
    rewrite(crm, lambda data: data.update(zone="Europe/Rome"))
    day = datetime.fromtimestamp((NOW - DAY) / SECOND, UTC)
    events = [EVENTS[0] | {"at": day.isoformat()}, EVENTS[1] | {"at": day.strftime(form)}]
    for event in events if given_first else reversed(events):
        await send(crm, event)
    assert await verdict(crm) == "deny"
    await send(crm, EVENTS[2])
    assert await verdict(crm) == "allow"


@pytest.mark.parametrize("at", ["-1e18", "0", "24112026", "20261124100000", "1e999", -1e18])
async def test_a_stop_or_withdrawal_with_an_unreadable_time_is_in_force_from_now(
    crm: World, at: str | float
) -> None:
    await send(crm, EVENTS[2])
    await send(crm, EVENTS[1] | {"at": at}, STOP | {"at": at, "number": CLEAR})
    assert await verdict(crm) == "deny"
    assert [getattr(entry.event, "at", 0) for entry in await history(crm, CLEAR)] == [NOW]


async def test_a_stop_without_id_or_time_is_recorded_each_time(tmp_path: Path) -> None:
    async with gate(tmp_path, "odoo") as made:
        for _ in range(2):
            await post(made, "odoo", odoo({"phone": MOBILE, "do_not_call": True}))
            made.hand.at += SECOND
        assert len(await history(made)) == 2


async def test_a_withdrawal_without_a_time_ends_what_was_given_so_far(crm: World) -> None:
    await send(crm, EVENTS[2])
    assert await verdict(crm) == "allow"
    await send(crm, {key: value for key, value in EVENTS[1].items() if key != "at"})
    assert await verdict(crm) == "deny"


async def test_two_deliveries_at_the_same_time_record_one_stop(crm: World) -> None:
    await asyncio.gather(*(send(crm, STOP) for _ in range(8)))
    assert len(await history(crm)) == 1


async def test_outcomes_are_recorded_and_a_busy_line_is_no_refusal(crm: World) -> None:
    decision = (await crm.post("/v1/check", CALL, 200))["decision_id"]
    busy = {"id": "1", "type": "busy", "decision_id": decision}
    answered, opt_out = busy | {"type": "answered"}, busy | {"type": "opt_out"}
    for event in (answered, busy, busy, answered):
        assert await send(crm, event) == {"recorded": 1, "kept": 0}
    assert await history(crm, CLEAR) == []
    for _ in range(3):
        await send(crm, opt_out)
    assert len(await history(crm, CLEAR)) == 1
    assert await verdict(crm, CLEAR) == "deny"


@pytest.mark.parametrize(("reason", "recorded"), [("user_requested_dnc", 1), ("user_hangup", 0)])
async def test_who_calls_back_and_asks_for_no_more_calls_is_not_called(
    tmp_path: Path, reason: str, recorded: int
) -> None:
    call = {
        "call_id": "c",
        "direction": "inbound",
        "from_number": MOBILE,
        "to_number": CLEAR,
        "disconnection_reason": reason,
    }
    async with gate(tmp_path, "retell") as made:
        for event in ("call_ended", "call_analyzed"):
            body = json.dumps({"event": event, "call": call}).encode()
            digest = hmac.digest(SECRET.encode(), body + str(NOW).encode(), "sha256").hex()
            await post(made, "retell", (body, {"X-Retell-Signature": f"v={NOW},d={digest}"}))
        assert len(await history(made)) == recorded


async def test_an_outcome_of_another_controller_is_kept_as_unknown(crm: World) -> None:
    assert await send(crm, {"type": "busy", "decision_id": "00000000-1"}, status=202) == {
        "recorded": 0,
        "kept": 1,
    }
    (letter,) = (await crm.get("/v1/dead-letters"))["letters"]
    assert letter["problem"]["code"] == "decision.unknown"


async def test_a_webhook_writes_for_its_controller_only(tmp_path: Path) -> None:
    async with gate(tmp_path, "generic") as made:
        event = STOP | {"controller": "other", "scope": "everyone"}
        await send(made, event)
        assert [entry.controller for entry in await history(made)] == ["acme"]


async def test_a_message_is_sent_again_while_the_store_is_down(crm: World) -> None:
    await crm.app._store.close()
    answer = await send(crm, STOP, status=503)
    assert answer["error"]["code"] in {"store.unavailable", "gate.unavailable"}
    assert crm.app.registrar.dead_letters.count() == 0


# ---- who may send ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "headers", "status", "code"),
    [
        ("crm", {}, 401, "webhook.unsigned"),
        ("crm", {"X-Webhook-Key": "wrong"}, 401, "webhook.unsigned"),
        ("crm", {"X-Webhook-Key": SECRET, "Content-Encoding": "gzip"}, 415, "request.compressed"),
        ("none", {"X-Webhook-Key": SECRET}, 404, "webhook.unknown"),
    ],
)
async def test_a_message_that_is_not_authentic_gets_the_one_error_shape(
    crm: World, name: str, headers: dict[str, str], status: int, code: str
) -> None:
    body = json.dumps({"events": [STOP]}).encode()
    async with crm.client.post(f"/v1/webhooks/in/{name}", data=body, headers=headers) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (status, code)
        assert set(error) == {"code", "message", "field"}
    assert await history(crm) == []


async def test_a_body_has_a_limit(crm: World) -> None:
    headers = {"X-Webhook-Key": SECRET}
    async with crm.client.post("/v1/webhooks/in/crm", data=b" " * (300 << 10), headers=headers) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (413, "request.too_large")


async def test_an_old_message_is_refused(tmp_path: Path) -> None:
    sent = hubspot({"phone": MOBILE, "do_not_call": True})
    async with gate(tmp_path, "hubspot") as made:
        await post(made, "hubspot", sent)
        made.hand.at += 6 * MINUTE
        assert "more than 300 s" in await post(made, "hubspot", sent, 401)
        assert made.sample("dialgate_webhooks_received_total", webhook="hubspot", result="refused") == 1


WRONG: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda data: data.pop("signature"), "missing key `signature`"),
    (lambda data: data.update(controller="nobody"), "no such controller: nobody"),
    (lambda data: data["signature"].update(secret_file="none"), "cannot read none"),
    (lambda data: data["signature"].update(place="query.key"), "A key in a URL is logged"),
    (lambda data: data["signature"].update(digest="hmac-sha256"), "signed: is missing"),
    (lambda data: data["signature"].update(digest="hmac-sha256", signed="{timestamp}"), "must contain {body} or {form}"),
    (lambda data: data["signature"].update(digest="hmac-sha256", signed="{body}"), "could be sent again for ever"),
    (lambda data: data["signature"].update(digest="hmac-sha1", signed="{url}{body}"), "{url} needs `url`"),
    (lambda data: data["signature"].update(digest="hmac-sha1", signed="{form}"), "{form} needs {url}"),
    (lambda data: data["signature"].update(digest="hmac-sha1", signed="{body}", timestamp="header.T"), "sign {timestamp}"),
    (lambda data: data["signature"].update(signed="{body}"), "signed: leave it out"),
    (lambda data: data["signature"].update(pattern="("), "no regular expression"),
    (lambda data: data["signature"].update(pattern="x"), "must have the group"),
    (lambda data: data["read"][0]["means"].update(x="refusal"), "means"),
    (lambda data: data["write"].pop("stop"), "write: stop is missing"),
    (lambda data: data["write"]["stop"].pop("number"), "write: stop needs number"),
    (lambda data: data["write"]["stop"].update(numbr=["body.x"]), "write: stop has no field numbr"),
    (lambda data: data["write"]["stop"].update(number=["=+39"]), "cannot be a constant"),
    (lambda data: data["write"]["stop"].update(number=["x"]), "body.NAME"),
    (lambda data: data.update(zone="Rome"), "is no time zone"),
    (lambda data: data.update(events=""), "needs `events`"),
    (lambda data: data.update(direction="out"), "direction"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_wrong_webhook_is_reported(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    assert message in (text := faults_after(tmp_path, "generic", change)), text


def test_an_unsigned_place_is_reported(tmp_path: Path) -> None:
    path = world.write_folder(tmp_path)
    place(tmp_path, "telnyx", event_id=["query.id"])
    (tmp_path / "telnyx.public-key").write_text(base64.b64encode(b"k" * 32).decode())
    with pytest.raises(ConfigError, match=r"query\.id: is not signed"):
        loader.load(path)
    place(tmp_path, "telnyx")
    (tmp_path / "telnyx.public-key").write_text("c2hvcnQ=")
    with pytest.raises(ConfigError, match="32 bytes in base64"):
        loader.load(path)


def test_a_short_secret_is_reported(tmp_path: Path) -> None:
    path = world.write_folder(tmp_path)
    place(tmp_path, "generic")
    (tmp_path / "crm.secret").write_text("12345")
    with pytest.raises(ConfigError, match="can be guessed"):
        loader.load(path)


def test_the_fields_are_those_of_the_requests() -> None:
    for name, kind in REQUESTS.items():
        names = {field.rstrip("*"): field.endswith("*") for field in FIELDS[name].split()}
        known = {field.name: field.required for field in fields_of(kind) if field.shape != "structure"}
        given = {"controller", "actor", "channel", "dated", "rectify", "outcome", "proof"}
        assert {field: known[field] for field in names} == names
        assert known.keys() - names.keys() <= given


# ---- messages that wait ----------------------------------------------------------------------------------------------


def correct(made: World, **means: str) -> None:
    """Give values of the generic webhook a meaning, and reload the configuration."""
    rewrite(made, lambda data: data["read"][0]["means"].update(means))


async def test_a_value_without_a_meaning_is_kept_encrypted_and_replayed(crm: World) -> None:
    unknown = STOP | {"type": "never call again"}
    assert await send(crm, EVENTS[0], unknown, status=202) == {"recorded": 1, "kept": 1}
    assert crm.sample("dialgate_dead_letters") == 1
    assert crm.sample("dialgate_webhooks_received_total", webhook="crm", result="kept") == 1
    (file,) = (crm.app.config.data / "dead-letters").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    content = file.read_bytes()
    assert MOBILE.encode() not in content
    assert b"never" not in content
    (letter,) = (await crm.get("/v1/dead-letters"))["letters"]
    assert (letter["webhook"], letter["problem"]["code"]) == ("crm", "webhook.unreadable")
    assert MOBILE in letter["body"]
    still = await crm.post("/v1/dead-letters/replay", {}, 200)
    assert (still["gone"], len(still["letters"])) == (0, 1)
    assert await reasons(crm, MOBILE) == []
    correct(crm, **{"never call again": "stop"})
    assert await crm.post("/v1/dead-letters/replay", {}, 200) == {"gone": 1, "letters": [], "skipped": 0}
    assert await verdict(crm) == "deny"
    assert len(await history(crm)) == 2
    assert crm.sample("dialgate_dead_letters") == 0


async def test_a_replayed_stop_without_a_time_is_in_force_from_its_arrival(crm: World) -> None:
    await send(crm, {"type": "x", "number": MOBILE}, status=202)
    crm.hand.at += HOUR
    correct(crm, x="stop")
    await crm.post("/v1/dead-letters/replay", {}, 200)
    (entry,) = await history(crm)
    assert getattr(entry.event, "at", 0) == NOW


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "webhook.unreadable"),
        (b"\xff", "webhook.unreadable"),
        (b"", "webhook.unreadable"),
        (b"{}", "webhook.unreadable"),
        (b"<a>", "webhook.unreadable"),
        (b"[" * 100_000, "webhook.unreadable"),
        (b"<a>" * 50_000, "webhook.unreadable"),
        (b'{"events": [{}]}', "webhook.unreadable"),
        (b'{"events": [{"type": "stop", "number": "none"}]}', "number.invalid"),
        (b'{"events": [{"type": "stop"}]}', "request.invalid"),
        (b'{"events": [{"type": "consent", "number": "+393281234567", "entry": "c"}]}', "request.invalid"),
        (b'{"events": [{"type": "consent", "number": "+393281234567", "entry": "c", "at": "yesterday"}]}', "request.invalid"),
    ],
)  # fmt: skip
async def test_what_cannot_be_read_is_kept(crm: World, body: bytes, code: str) -> None:
    await post(crm, "crm", (body, {"X-Webhook-Key": SECRET}), 202)
    (letter,) = (await crm.get("/v1/dead-letters"))["letters"]
    assert letter["problem"]["code"] == code
    assert await history(crm) == []


async def test_messages_can_be_dropped_and_expire(crm: World) -> None:
    for number in range(3):
        await send(crm, {"type": f"x{number}"}, status=202)
        crm.hand.at += SECOND
    first, second, _ = [letter["id"] for letter in (await crm.get("/v1/dead-letters"))["letters"]]
    report = await crm.post("/v1/dead-letters/replay", {"drop": [first]}, 200)
    assert (report["gone"], next(letter["id"] for letter in report["letters"])) == (1, second)
    removals = await crm.app.subjects.retire(NOW + 90 * DAY + 2 * SECOND, drop=False)
    assert {removal.kind: removal.count for removal in removals}["dead_letters"] == 1
    assert crm.app.registrar.dead_letters.expire(NOW + 3 * SECOND, drop=True) == 2
    assert (await crm.get("/v1/dead-letters"))["letters"] == []


async def test_a_letter_of_a_removed_webhook_stays(crm: World) -> None:
    await send(crm, {"type": "x"}, status=202)
    shutil.rmtree(crm.folder / "webhooks")
    crm.app.reload(loader.load(crm.folder / "dialgate.yaml"))
    (letter,) = (await crm.post("/v1/dead-letters/replay", {}, 200))["letters"]
    assert letter["problem"]["code"] == "webhook.unknown"


async def test_an_acknowledged_letter_survives_a_kill(tmp_path: Path) -> None:
    path = world.write_folder(tmp_path, clients=[world.client("tests", KEY, *SCOPES)], operations={"port": 0})
    place(tmp_path, "generic")
    headers, body = {"X-Webhook-Key": SECRET}, {"events": [{"type": "x", "number": MOBILE}]}
    async with running_gate.serving(path) as made:
        async with made.client.post("/v1/webhooks/in/crm", json=body, headers=headers) as answer:
            assert answer.status == 202
        await running_gate.kill(made.process)
    async with running_gate.serving(path) as made, made.client.get("/v1/dead-letters") as answer:
        (letter,) = (await answer.json())["letters"]
        assert MOBILE in letter["body"]


# ---- commands --------------------------------------------------------------------------------------------------------


async def test_commands_test_list_and_replay(crm: World) -> None:
    message = json.dumps({"events": [STOP, {"type": "x"}]}).encode()
    code, shown = await tried(crm, "crm", message)
    assert code == 1
    assert MOBILE in shown
    assert "It would be kept: webhook.unreadable" in shown
    assert (await tried(crm, "crm", json.dumps({"events": [STOP]}).encode()))[0] == 0
    assert (await tried(crm, "none", b"{}"))[0] == 2
    assert await history(crm) == []
    await send(crm, STOP, {"type": "x"}, status=202)
    listed = json.loads(await crm.output("webhook", "list", "--json"))
    assert "Still waiting: 1" in await crm.output("webhook", "replay", code=1)
    assert "Applied or dropped: 1" in await crm.output("webhook", "replay", "--drop", listed[0]["id"])


async def tried(made: World, name: str, message: bytes) -> tuple[int, str]:
    """Return the exit code and the output of `dialgate webhook test`."""
    words = ("webhook", "test", name, "--config", made.folder / "dialgate.yaml")
    wide = os.environ | {"COLUMNS": "200"}
    done = await asyncio.to_thread(run_command, "dialgate", *words, environment=wide, message=message)
    return done.code, done.out
