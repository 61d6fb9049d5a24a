"""The nightly pull: for each CRM what it records, what a lost message no longer costs, and how it fails."""

import asyncio
import csv
import json
import os
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from dialgate.config import loader
from dialgate.config.configuration import ConfigError
from dialgate.core.model import DAY, HOUR, MINUTE, SECOND
from dialgate.runtime.clock import wall_clock
from dialgate.tools import backup
from tests.interfaces.webhooks.test_incoming import (
    CRMS,
    MOBILE,
    faults_after,
    gate,
    history,
    place,
    post,
    reasons,
    rfc3339,
    send,
    verdict,
)
from tests.support import crm_servers, world
from tests.support.crm_servers import KEY, Crm, HubSpot, OldOdoo
from tests.support.world import NOW, World

GIVEN = {"call_consent": True, "call_consent_at": rfc3339(NOW - HOUR), "consent_file": "a.pdf", "consent_sha256": "0" * 64}  # fmt: skip
CONTACT = 4711
JSON_RPC = {
    "url": "https://your.odoo/jsonrpc",
    "body": '{"jsonrpc": "2.0", "method": "call", "params": {"service": "object", "method": "execute_kw", "args":'
    ' ["DATABASE", 2, "{secret}", "res.partner", "search_read", [[["write_date", ">=", "{since}"], ["id", ">", {next}],'
    ' ["phone", "!=", false], ["active", "in", [true, false]]]], {"fields": ["phone", "x_do_not_call", "x_call_consent",'
    ' "x_call_consent_at", "write_date", "x_consent_file", "x_consent_sha256", "x_consent_attested_by",'
    ' "x_consent_attested_at"], "order": "id", "limit": 1000}]}}',
    "headers": {"Content-Type": "application/json"},
    "records": "result",
}


@asynccontextmanager
async def pulled(folder: Path, crm: Crm, **changes: Any) -> AsyncIterator[World]:
    """Run a gate with the shipped webhook of a CRM, and the CRM with more contacts than a page has."""
    async with crm_servers.serving(crm) as address, gate(folder, crm.name) as made:
        crm_servers.point(folder / f"webhooks/{crm.name}.yaml", address, **changes)
        for other in range(1, 6):
            crm.change(other, phone=f"+39328555000{other}", do_not_call=other == 5)
        yield made


async def pull(made: World, *words: str, code: int = 0) -> dict[str, Any]:
    (report,) = json.loads(await made.output("webhook", "pull", *words, "--json", code=code))
    return dict(report)


@pytest.mark.parametrize("crm", [*crm_servers.SERVERS.values(), OldOdoo])
async def test_the_next_pull_brings_what_messages_lost(tmp_path: Path, crm: type[Crm]) -> None:
    hub = crm()
    changes = JSON_RPC if crm is OldOdoo else {}
    async with pulled(tmp_path, hub, **changes) as made:
        hub.change(CONTACT, phone=MOBILE, do_not_call=False, **GIVEN)
        assert await verdict(made) == "deny"
        report = await pull(made, hub.name)
        assert (report["records"], report["kept"]) == (6, 0), report
        assert await verdict(made) == "allow"
        assert "revocation.revoked" in await reasons(made, "+393285550005")

        hub.change(CONTACT, call_consent=False)  # the message is lost
        assert (await pull(made, hub.name))["records"] == 6  # within the overlap of a day
        assert await verdict(made) == "deny"
        before = await history(made)
        assert [type(entry.event).__name__ for entry in before] == ["ConsentGiven", "ConsentWithdrawn"]
        await pull(made, "--all")
        assert await history(made) == before
        assert {entry.actor for entry in before} == {f"webhook.{hub.name}"}


@pytest.mark.parametrize("crm", crm_servers.SERVERS.values())
async def test_a_delivered_message_closes_within_a_second_and_the_pull_adds_nothing(
    tmp_path: Path, crm: type[Crm]
) -> None:
    hub = crm()
    async with pulled(tmp_path, hub) as made:
        hub.change(CONTACT, phone=MOBILE, do_not_call=False, **GIVEN)
        await pull(made, hub.name)
        assert await verdict(made) == "allow"
        hub.change(CONTACT, do_not_call=True)
        at = hub.contacts[CONTACT]["changed"] // SECOND * SECOND
        hub.contacts[CONTACT]["changed"] = at
        contact = f"{CONTACT:018}" if hub.name == "salesforce" else CONTACT
        fields = {"phone": MOBILE, "contact_id": contact, "do_not_call": True, "changed_at": rfc3339(at)}
        start = time.monotonic()
        await post(made, hub.name, CRMS[hub.name](fields))
        assert await verdict(made) == "deny"
        assert time.monotonic() - start < 1
        stops = [entry for entry in await history(made) if type(entry.event).__name__ == "Revoked"]
        await pull(made, hub.name)
        assert [entry for entry in await history(made) if type(entry.event).__name__ == "Revoked"] == stops


async def test_a_pull_never_permits_what_was_stopped_or_withdrawn_here(tmp_path: Path) -> None:
    hub = HubSpot()
    async with pulled(tmp_path, hub) as made:
        stopped, withdrawn = MOBILE, "+393281234568"
        hub.change(CONTACT, phone=stopped, **GIVEN)
        hub.change(CONTACT + 1, phone=withdrawn, **GIVEN)
        await made.post("/v1/revocations", {"number": stopped, "channel": "call", "proof": "tape 1"})
        ask = {"number": withdrawn, "id": str(CONTACT + 1), "channel": "call", "at": rfc3339(NOW - MINUTE)}
        await pull(made, hub.name)
        await made.post("/v1/consents/withdraw", ask)
        for _ in range(2):  # the CRM does not know, and changes the contacts for other reasons
            hub.change(CONTACT)
            hub.change(CONTACT + 1)
            await pull(made, hub.name)
            assert await verdict(made, stopped) == "deny"
            assert await verdict(made, withdrawn) == "deny"


async def test_a_pull_records_no_consent_from_before_an_erasure(tmp_path: Path) -> None:
    hub = HubSpot()
    async with pulled(tmp_path, hub) as made:
        hub.change(CONTACT, phone=MOBILE, **GIVEN)
        await pull(made, hub.name)
        case = await made.post(
            f"/v1/subjects/{MOBILE}/requests", {"kind": "erasure", "identified": "id card"}
        )
        await made.post(f"/v1/subjects/{MOBILE}/erasure", {"request": case["id"]}, 200)
        made.hand.at += HOUR
        hub.change(CONTACT)  # the CRM does not know
        await pull(made, hub.name)
        assert [type(entry.event).__name__ for entry in await history(made)] == ["Revoked"]
        hub.change(CONTACT, call_consent_at=rfc3339(NOW + MINUTE))
        await pull(made, hub.name)
        assert [type(entry.event).__name__ for entry in await history(made)] == ["Revoked", "ConsentGiven"]
        assert await verdict(made) == "deny"


async def test_a_file_of_the_night_is_read_row_by_row(tmp_path: Path) -> None:
    file = tmp_path / "export.csv"
    columns = (
        "type",
        "number",
        "entry",
        "at",
        "purposes",
        "call_types",
        "goods",
        "artefact",
        "artefact_sha256",
    )
    consent = ("consent", MOBILE, "c", rfc3339(NOW - HOUR), "sale", "agent", "broadband", "a.pdf", "0" * 64)

    def write(*rows: tuple[str, ...]) -> None:
        with file.open("w", newline="", encoding="utf-8-sig") as text:
            csv.writer(text, delimiter=";").writerows([columns, *rows])

    async with gate(tmp_path, "generic") as made:
        config = tmp_path / "webhooks/generic.yaml"
        data = yaml.safe_load(config.read_text())
        data["pull"]["url"] = f"file://{file}"
        config.write_text(yaml.safe_dump(data))
        write(consent)
        assert (await pull(made, "crm"))["recorded"] == 1
        assert await verdict(made) == "allow"
        await send(made, {"type": "withdrawal", "number": MOBILE, "entry": "c", "at": rfc3339(NOW - MINUTE)})
        write(consent)  # the export does not know
        await pull(made, "crm")
        assert await verdict(made) == "deny"
        write(consent, ("stop", MOBILE, "", rfc3339(NOW), *[""] * 5), ("never", MOBILE, *[""] * 7))
        report = await pull(made, "crm")
        assert (report["records"], report["kept"]) == (3, 1)
        assert "revocation.revoked" in await reasons(made, MOBILE)
        assert MOBILE in await made.output("webhook", "list")
        for content, problem in (
            (file.read_bytes()[:-10] + b"\r\nstop;+39", "not as many cells"),
            (b"\xff\xfe", "cannot be read"),
            (b"number\r\n1\r\n", "No record has artefact"),
        ):
            file.write_bytes(content)
            assert problem in (await pull(made, "crm", code=1))["problem"]
        write(consent)
        os.utime(file, (wall_clock() / SECOND - 3 * 86_400,) * 2)
        assert "not written for two days" in (await pull(made, "crm", code=1))["problem"]


async def test_the_cursor_moves_only_after_a_complete_pull(tmp_path: Path) -> None:
    hub = HubSpot()
    async with pulled(tmp_path, hub) as made:
        await pull(made, hub.name)
        assert set(hub.since) == {0}
        first = await pull(made, hub.name, "--since", "2026-11-01T00:00:00+00:00")
        await pull(made, hub.name, "--dry-run")
        hub.answers.append(web.Response(status=400, text=f"no property, {MOBILE}, {KEY}"))
        failed = await pull(made, hub.name, code=1)
        assert "status 400: no property" in failed["problem"]
        assert MOBILE not in failed["problem"]
        assert KEY not in failed["problem"]
        hub.since.clear()
        await pull(made, hub.name)
        assert set(hub.since) == {first["began"] - DAY}
        hub.since.clear()
        # What changed before this time was not asked for, so the next pull must.
        later = f"{rfc3339(wall_clock() + DAY)[:-1]}+00:00"
        assert (await pull(made, hub.name, "--since", later))["records"] == 0
        second = await pull(made, hub.name)
        assert hub.since[-1] < second["began"] - DAY


async def test_a_backup_has_no_position_that_is_ahead_of_its_store(tmp_path: Path) -> None:
    hub = HubSpot()
    async with pulled(tmp_path, hub) as made:
        await pull(made, hub.name)
        data = made.app.config.data
        assert (data / "webhook-pulls/hubspot.cursor").stat().st_mode & 0o077 == 0
        await asyncio.to_thread(backup.back_up, data, tmp_path / "copy", lambda *_: None)
        assert (tmp_path / "copy/store.db").exists()
        assert not (tmp_path / "copy/webhook-pulls").exists()


@pytest.mark.parametrize("content", [b'{"webhook": "hubspot", "began": 9999999999999}', b"{", b"[]"])
async def test_a_position_that_cannot_be_true_is_not_used(tmp_path: Path, content: bytes) -> None:
    hub = HubSpot()
    async with pulled(tmp_path, hub) as made:
        folder = made.app.config.data / "webhook-pulls"
        folder.mkdir()
        (folder / "hubspot.cursor").write_bytes(content)
        await pull(made, hub.name)
        assert set(hub.since) == {0}


async def test_a_dry_run_records_nothing(tmp_path: Path) -> None:
    hub = HubSpot()
    async with pulled(tmp_path, hub) as made:
        hub.change(CONTACT, phone=MOBILE, **GIVEN)
        hub.change(CONTACT + 1, phone=MOBILE, call_consent=True)  # without a date
        report = await pull(made, hub.name, "--dry-run")
        assert (report["recorded"], report["kept"]) == (2, 1)
        assert await history(made) == []
        assert not (made.app.config.data / "webhook-pulls").exists()
        assert "kept could not be applied" in await made.output("webhook", "pull", "--all")


async def test_a_busy_crm_is_asked_again_and_an_expired_key_renewed(tmp_path: Path) -> None:
    for name, answers in (
        ("hubspot", [web.Response(status=429, headers={"Retry-After": "1"}), web.Response(status=503)]),
        ("zoho", [web.json_response({"access_token": "old"})]),
    ):
        hub = crm_servers.SERVERS[name]()
        hub.answers += answers
        async with pulled(tmp_path / name, hub) as made:
            start = time.monotonic()
            assert (await pull(made, name))["records"] == 5
            assert name == "zoho" or time.monotonic() - start >= 3


@pytest.mark.parametrize(
    ("name", "answer", "problem"),
    [
        ("hubspot", {"status": 302, "headers": {"Location": "http://localhost:1/"}}, "status 302"),
        ("hubspot", {"status": 429, "headers": {"Retry-After": "9999"}}, "does not answer: status 429"),
        ("hubspot", {"text": "<html>"}, "no JSON"),
        ("hubspot", {"text": "[" * 100_000}, "no JSON"),
        ("hubspot", {"text": '{"error": "scope"}'}, "no list at `results`"),
        ("hubspot", {"text": '{"results": [{}]}'}, "has no `id`"),
        ("hubspot", {"text": '{"results": [{"id": "0"}]}'}, "returned twice"),
        ("hubspot", {"text": '{"results": [7, {"id": "9"}]}'}, "No record has properties.call_consent"),
        ("salesforce", {"text": '{"error": "invalid_client"}'}, "gave no access_token"),
    ],
)  # fmt: skip
async def test_an_answer_that_is_no_page_ends_the_pull(
    tmp_path: Path, name: str, answer: dict[str, Any], problem: str
) -> None:
    hub = crm_servers.SERVERS[name]()
    async with pulled(tmp_path, hub) as made:
        hub.contacts.clear()
        hub.answers.append(web.Response(**answer))
        report = await pull(made, name, code=1)
        assert problem in report["problem"], report
        assert not (made.app.config.data / "webhook-pulls").exists()


async def test_a_page_on_another_host_gets_no_key(tmp_path: Path) -> None:
    hub, other = crm_servers.SERVERS["salesforce"](), Crm()
    async with crm_servers.serving(other) as address, pulled(tmp_path, hub) as made:
        page = web.json_response({"records": [], "nextRecordsUrl": f"{address}/next"})
        hub.answers += [web.json_response({"access_token": KEY}), page]
        assert "another host" in (await pull(made, hub.name, code=1))["problem"]
        assert other.asked == []


async def test_a_certificate_that_is_not_trusted_ends_the_pull(tmp_path: Path) -> None:
    hub, context = HubSpot(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    world.write_certificate(tmp_path)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    async with crm_servers.serving(hub, context) as address, gate(tmp_path, hub.name) as made:
        crm_servers.point(tmp_path / "webhooks/hubspot.yaml", address)
        assert "Certificate" in (await pull(made, hub.name, code=1))["problem"]
        assert hub.asked == []
        await made.output("webhook", "pull", hub.name, SSL_CERT_FILE=str(tmp_path / "cert.pem"))
        assert hub.asked


async def test_metrics_have_the_last_complete_pull(tmp_path: Path) -> None:
    hub, file = HubSpot(), tmp_path / "pull.prom"
    async with pulled(tmp_path, hub) as made:
        hub.answers.append(web.Response(status=403))
        await pull(made, hub.name, "--textfile", str(file), code=1)
        assert 'success_timestamp_seconds{webhook="hubspot"} 0.0' in file.read_text()
        report = await pull(made, hub.name, "--textfile", str(file))
        hub.answers.append(web.Response(status=403))
        await pull(made, hub.name, "--textfile", str(file), code=1)
        lines = dict(line.rsplit(" ", 1) for line in file.read_text().splitlines() if line[0] != "#")
        assert float(lines.pop('dialgate_webhook_pull_success_timestamp_seconds{webhook="hubspot"}')) == report["began"] / SECOND  # fmt: skip
        assert sorted(lines.values()) == ["0.0", "1.0", "5.0"]


async def test_a_pull_needs_a_webhook_and_a_gate_that_knows_it(tmp_path: Path) -> None:
    hub = HubSpot()
    async with pulled(tmp_path, hub) as made:
        for words in ((), ("none",), (hub.name, "--all"), (hub.name, "--since", "yesterday")):
            await made.output("webhook", "pull", *words, code=2)


async def test_a_batch_needs_a_key_for_the_controller_of_the_webhook(tmp_path: Path) -> None:
    async with gate(tmp_path, "generic") as made:
        for name, key, status in (("crm", world.KEY, 200), ("none", world.KEY, 404), ("crm", "x", 401)):
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/x-ndjson"}
            path = f"/v1/webhooks/in/{name}/batch"
            async with made.client.post(path, data=b'{"events": []}\n', headers=headers) as answer:
                assert answer.status == status, await answer.text()


WRONG = [
    ({"url": "http://crm.example/"}, "https://HOST/PATH"),
    ({"url": "https://user:key@crm.example/"}, "leave out the user"),
    ({"url": "https://crm.example/?key={secret}"}, "logged by every proxy"),
    ({"url": "file://host/export.csv"}, "https://HOST/PATH"),
    ({"login": "http://crm.example/token"}, "login: write https"),
    ({"secret_file": ""}, "secret_file: is missing"),
    ({"next": ""}, "next: is missing"),
    ({"paging": "once"}, "{next} needs `keyset`"),
    ({"body": "{}"}, "`keyset` needs {next}"),
    ({"paging": "token"}, "parameter: is for `token`"),
    ({"format": "csv"}, "a file has one page"),
    ({"event": {}}, "event: is empty"),
    ({"event": {"phone": "a..b"}}, "event"),
    ({"event": {"a": "b", "a.c": "d"}}, "a place cannot have a value and other places in it"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_a_wrong_query_is_reported(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    def change(data: dict[str, Any]) -> None:
        data["pull"] |= changes

    assert message in (text := faults_after(tmp_path, "hubspot", change)), text


def test_a_stop_without_a_time_cannot_be_pulled(tmp_path: Path) -> None:
    path = world.write_folder(tmp_path)
    place(tmp_path, "hubspot", write={"stop": {"number": ["body.phone"]}})
    with pytest.raises(ConfigError, match="stop and withdrawal need at"):
        loader.load(path)
