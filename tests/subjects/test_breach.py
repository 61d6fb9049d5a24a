"""The breach report for a stolen key, and the commands for data subjects."""

import asyncio
import json
import os
import pwd
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dialgate.core.model import HOUR
from dialgate.interfaces.cli import main
from dialgate.subjects.breach import BreachPeriod
from tests.support import world
from tests.support.world import CALL, CLEAR, LISTED, NOW, World

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
        gate.app._recorder._keys.month(NOW + 40 * 24 * HOUR)
        gate.app._recorder._keys.retire("2026-11")
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
    shown = await asyncio.to_thread(run, tmp_path / "dialgate.yaml", "breach", "--key", "dialer", *span)
    assert "2 numbers with a revocation" in shown


def run(config: Path, *words: str, code: int = 0, columns: int = 200) -> str:
    done = CliRunner().invoke(
        main.app,
        words,
        env={"DIALGATE_CONFIG": str(config), "COLUMNS": str(columns), "DIALGATE_ACTOR": "dpo"},
    )
    assert done.exit_code == code, done.output
    return done.output


def test_commands_do_what_the_endpoints_do(tmp_path: Path) -> None:
    config = world.write_folder(tmp_path, clients=CLIENTS)
    consent = (
        "--id",
        "c",
        "--collected-at",
        "2026-01-02T10:00:00+01:00",
        "--purpose",
        "sale",
        "--call-type",
        "agent",
    )
    entry = json.loads(run(config, "consent", "add", CLEAR, *consent, "--json"))["seq"]
    cases = [
        json.loads(run(config, "subject", "ask", CLEAR, "--kind", kind, "--identified", "id card", "--json"))[
            "id"
        ]
        for kind in ("access", "rectification", "erasure")
    ]
    # Ids must not be wrapped on a narrow terminal, because users copy them.
    assert all(name in run(config, "subject", "requests", columns=70) for name in cases)
    short = run(config, "subject", "ask", CLEAR, "--kind", "access", "--identified", "id", code=2)
    assert short == "request.invalid: identified: must have at least 3 characters\n"
    result = json.loads(run(config, "subject", "requests", "--json"))["requests"]
    assert [item["kind"] for item in result] == ["access", "rectification", "erasure"]
    run(
        config,
        "subject",
        "rectify",
        CLEAR,
        "--request",
        cases[1],
        "--of",
        str(entry),
        "--set",
        'goods=["broadband"]',
    )
    page = tmp_path / "report.html"
    page.touch(0o644)
    run(config, "subject", "show", CLEAR, "--purpose", "case 7", "--language", "it", "--out", str(page))
    assert CLEAR in page.read_text()
    assert page.stat().st_mode & 0o777 == 0o600
    report = json.loads(run(config, "subject", "show", CLEAR, "--purpose", "case 7", "--json"))
    assert [item["details"].get("goods") for item in report["ledger"]] == [None, ["broadband"]]
    assert "consent" in run(config, "subject", "show", CLEAR, "--purpose", "case 7")
    portable = json.loads(run(config, "subject", "export", CLEAR, "--purpose", "case 7"))
    assert portable["format"] == "dialgate-portability-1"
    run(config, "subject", "close", cases[0], "--outcome", "answered", "--reason", "report sent")
    assert "erased" in run(config, "subject", "erase", CLEAR, "--request", cases[2])
    assert "subject.closed" in run(config, "subject", "erase", CLEAR, "--request", cases[2], code=1)
    assert json.loads(run(config, "subject", "requests", "--json")) == {"requests": []}
    assert "Would be removed" in run(config, "retention", "--dry-run")
    assert json.loads(run(config, "retention", "--json"))["removed"] is True
    numbers = tmp_path / "numbers.txt"
    span = ("--from", "2020-01-01T00:00:00Z", "--to", "2099-01-01T00:00:00Z")
    result = json.loads(run(config, "breach", "--key", "cli:dpo", *span, "--out", str(numbers), "--json"))
    assert (result["numbers"], result["known"]) == (1, False)
    assert numbers.read_text() == f"{CLEAR}\n"
    shown = run(config, "breach", "--key", "cli:dpo", *span)
    assert CLEAR not in shown
    # A removed key may have had any scope, so "0 numbers" would be wrong.
    assert "unknown, because the client" in shown
    assert "every number: an intruder could read" in run(config, "breach", "--node", "gate", *span)
    run(config, "breach", *span, code=2)
    run(config, "breach", "--key", "cli", "--from", "yesterday", "--to", "2099-01-01T00:00:00Z", code=2)


def test_overdue_request_sets_the_exit_code(tmp_path: Path) -> None:
    config = world.write_folder(tmp_path, clients=CLIENTS)
    words = ("--kind", "access", "--identified", "id card", "--received-at", "2020-01-01T00:00:00Z")
    run(config, "subject", "ask", CLEAR, *words)
    run(config, "subject", "requests", code=1)


@pytest.mark.parametrize(
    ("named", "who"), [({}, "account"), ({"USER": "maria"}, "maria"), ({"SUDO_USER": "dpo"}, "dpo")]
)
def test_look_up_names_the_user_even_without_a_variable(
    tmp_path: Path, named: dict[str, str], who: str
) -> None:
    config = world.write_folder(tmp_path, clients=CLIENTS)
    environment = {
        "DIALGATE_CONFIG": str(config),
        "DIALGATE_ACTOR": None,
        "SUDO_USER": None,
        "USER": None,
    } | named
    for _ in range(2):
        words = ["subject", "show", CLEAR, "--purpose", "case 7", "--json"]
        done = CliRunner().invoke(main.app, words, env=environment)
    account = pwd.getpwuid(os.getuid()).pw_name if who == "account" else who
    assert f'"cli:{account}"' in done.stdout
