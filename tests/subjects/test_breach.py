"""The breach report for a stolen key, and the commands for data subjects."""

import json
import os
import pwd
from pathlib import Path
from typing import Any

from dialgate.core.model import HOUR
from dialgate.crypto.keys import Keys
from dialgate.subjects.breach import BreachPeriod
from tests.support import world
from tests.support.world import CALL, CLEAR, LISTED, NOW, World

ACTOR = f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
THIEF = {"Authorization": "Bearer stolen"}
CLIENTS = [
    world.client("tests", world.KEY, *world.SCOPES, "subjects"),
    world.client("dialer", "stolen", "check", "read"),
]


async def fill(gate: World) -> None:
    """Make checks with the client's key and with the stolen key.

    An hour later, make another check and a look-up with the stolen key.
    """
    await gate.post("/v1/check", CALL, 200)
    await gate.post("/v1/check", CALL, 200, **THIEF)
    await gate.post("/v1/check", {**CALL, "to": "nonsense"}, 200, **THIEF)
    gate.hand.at += HOUR
    await gate.post("/v1/check", {**CALL, "to": LISTED}, 200, **THIEF)
    async with gate.client.get("/v1/contracts?number=%2B393281234567&purpose=abc", headers=THIEF) as answer:
        assert answer.status == 200


async def test_breach_report_by_key_and_node_within_its_span(tmp_path: Path) -> None:
    async with world.running(tmp_path, clients=CLIENTS, node="rome-1") as gate:
        await world.load_list(gate)
        await fill(gate)
        exposed = gate.app.subjects.exposure
        whole = await exposed(BreachPeriod(client="dialer", start=NOW, end=NOW + HOUR + 1))
        assert (whole.known, whole.scopes, whole.controllers) == (True, ("check", "read"), ("acme",))
        assert (whole.decisions, whole.allows, len(whole.lookups)) == (3, 1, 1)
        assert whole.numbers == [CLEAR, LISTED, "+393281234567"]
        assert whole.could_look_up == 400
        first = await exposed(BreachPeriod(client="dialer", start=NOW, end=NOW + HOUR))
        assert (first.decisions, len(first.lookups), first.numbers) == (2, 0, [CLEAR])
        later = await exposed(BreachPeriod(client="dialer", start=NOW + 1, end=NOW + HOUR + 1))
        assert (later.decisions, len(later.lookups)) == (1, 1)
        node = await exposed(BreachPeriod(node="rome-1", start=NOW, end=NOW + HOUR + 1))
        assert (node.known, node.decisions, len(node.lookups)) == (True, 4, 1)
        other = await exposed(BreachPeriod(node="rome-2", start=NOW, end=NOW + HOUR + 1))
        assert (other.known, other.decisions, other.numbers) == (False, 0, [])
        keys = Keys.open(gate.folder / "data/keys.json")
        keys.month(NOW + 40 * 24 * HOUR)
        keys.retire("2026-11")
        retired = await exposed(BreachPeriod(client="dialer", start=NOW, end=NOW + HOUR + 1))
        assert (retired.numbers, retired.unreadable) == (["+393281234567"], 2)


async def test_a_stolen_key_for_the_stream_could_read_every_revoked_number(tmp_path: Path) -> None:
    clients = [CLIENTS[0], world.client("dialer", "stolen", "stream")]
    async with world.running(tmp_path, clients=clients) as gate:
        for number in (CLEAR, LISTED, LISTED):
            await gate.post("/v1/revocations", {"number": number, "scope": "controller"})
        exposed = gate.app.subjects.exposure
        stolen = await exposed(BreachPeriod(client="dialer", start=NOW, end=NOW + HOUR))
        assert (stolen.could_stream, stolen.could_look_up) == (2, 0)
        assert (await exposed(BreachPeriod(client="tests", start=NOW, end=NOW + HOUR))).could_stream == 0
        span = ("--from", "2026-11-24T00:00:00Z", "--to", "2026-11-25T00:00:00Z")
        shown = await gate.output("breach", "--key", "dialer", *span)
    assert "2 numbers with a revocation" in shown


async def test_commands_do_what_the_endpoints_do(tmp_path: Path) -> None:
    async with world.running(tmp_path, clients=CLIENTS) as gate:
        await _exercise_rights(gate)
        await _breaches(gate)


async def _exercise_rights(gate: World) -> None:
    subject, run = ("subject",), gate.output

    async def result(*words: object) -> Any:
        return json.loads(await run(*words, "--json"))

    consent = ("--collected-at", "2026-01-02T10:00:00+01:00", "--purpose", "sale", "--call-type", "agent")
    entry = (await result("consent", "add", CLEAR, "--id", "c", *consent))["seq"]
    cases = [
        (await result(*subject, "ask", CLEAR, "--kind", kind, "--identified", "id card"))["id"]
        for kind in ("access", "rectification", "erasure")
    ]
    # Ids must not be wrapped on a narrow terminal, because users copy them.
    narrow = await run(*subject, "requests", COLUMNS="70")
    assert all(name in narrow for name in cases)
    short = await run(*subject, "ask", CLEAR, "--kind", "access", "--identified", "id", code=2)
    assert short == "request.invalid: identified: must have at least 3 characters\n"
    listed = (await result(*subject, "requests"))["requests"]
    assert [item["kind"] for item in listed] == ["access", "rectification", "erasure"]
    goods = ("--of", entry, "--set", 'goods=["broadband"]')
    await run(*subject, "rectify", CLEAR, "--request", cases[1], *goods)
    page, show = gate.folder / "report.html", (*subject, "show", CLEAR, "--purpose", "case 7")
    page.touch(0o644)
    await run(*show, "--language", "it", "--out", page)
    assert CLEAR in page.read_text()
    assert page.stat().st_mode & 0o777 == 0o600
    report = await result(*show)
    assert [item["details"].get("goods") for item in report["ledger"]] == [None, ["broadband"]]
    assert {item["client"] for item in report["lookups"]} == {ACTOR}
    assert "consent" in await run(*show)
    portable = json.loads(await run(*subject, "export", CLEAR, "--purpose", "case 7"))
    assert portable["format"] == "dialgate-portability-1"
    await run(*subject, "close", cases[0], "--outcome", "answered", "--reason", "report sent")
    assert "The request stays open" in await run(*subject, "erase", CLEAR, "--request", cases[2])
    for name in cases[1:3]:
        await run(*subject, "close", name, "--outcome", "answered", "--reason", "letter sent")
    assert "subject.closed" in await run(*subject, "erase", CLEAR, "--request", cases[2], code=1)
    assert await result(*subject, "requests") == {"requests": []}
    assert "Would be removed" in await run("retention", "--dry-run")
    assert (await result("retention"))["removed"] is True
    overdue = ("--kind", "access", "--identified", "id card", "--received-at", "2020-01-01T00:00:00Z")
    await run(*subject, "ask", CLEAR, *overdue)
    await run(*subject, "requests", code=1)


async def _breaches(gate: World) -> None:
    numbers, run = gate.folder / "numbers.txt", gate.output
    span = ("--from", "2020-01-01T00:00:00Z", "--to", "2099-01-01T00:00:00Z")
    result = json.loads(await run("breach", "--key", ACTOR, *span, "--out", numbers, "--json"))
    assert (result["numbers"], result["known"]) == (1, False)
    assert numbers.read_text() == f"{CLEAR}\n"
    shown = await run("breach", "--key", ACTOR, *span)
    assert CLEAR not in shown
    # A removed key may have had any scope, so "0 numbers" would be wrong.
    assert "unknown, because the client" in shown
    assert "every number: an intruder could read" in await run("breach", "--node", "gate", *span)
    await run("breach", *span, code=2)
    await run("breach", "--key", "cli", "--from", "yesterday", "--to", "2099-01-01T00:00:00Z", code=2)
