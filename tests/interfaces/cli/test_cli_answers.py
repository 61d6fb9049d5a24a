"""Tests of the commands that explain, find and replay decisions while a gate runs."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from dialgate.interfaces.cli import main
from tests.support import world, yaml_files
from tests.support.commands import run_command
from tests.support.world import CALL, CLEAR, LISTED, World


class Asked(NamedTuple):
    """A running gate with two decisions: a permitted call with an outcome, and a denied call."""

    gate: World
    allowed: str
    denied: str

    @property
    def config(self) -> Path:
        return self.gate.folder / "dialgate.yaml"

    def run(self, *words: object) -> tuple[int, str]:
        """Run a command in this process. Return its exit code, and its output and errors as one text."""
        done = CliRunner().invoke(
            main.app,
            [*map(str, words), "--config", str(self.config)],
            env={"COLUMNS": "200", "NO_COLOR": "1"},
        )
        return done.exit_code, done.output


@pytest.fixture
async def cli(running: World) -> Asked:
    names = []
    for number in (CLEAR, LISTED):
        async with running.client.post("/v1/check", json={**CALL, "to": number}) as answer:
            names.append((await answer.json())["decision_id"])
    body = {"decision_id": names[0], "outcome": "answered"}
    assert (await running.client.post("/v1/outcomes", json=body)).status == 200
    return Asked(running, *names)


WHY = ("--purpose", "a complaint")


async def process(*words: str) -> tuple[int, Any]:
    """Run a command as a process, and return its exit code and its JSON output."""
    done = await asyncio.to_thread(run_command, "dialgate", *words)
    return done.code, [json.loads(line) for line in done.out.splitlines()]


async def test_why_explains_in_the_chosen_language(cli: Asked) -> None:
    code, shown = await asyncio.to_thread(cli.run, "why", LISTED, *WHY, "--language", "it")
    assert code == 0
    assert f"{cli.denied}  " in shown
    assert not re.search(r"\b(deny|allow|refused)\b", shown)
    assert "è stata negata." in shown
    assert "Il numero è iscritto al registro delle opposizioni." in shown
    code, shown = await asyncio.to_thread(cli.run, "why", "06 1234 5678", *WHY)
    assert code == 0
    assert "answered." in shown
    response = await asyncio.to_thread(cli.run, "why", "+393331234567", *WHY)
    assert response == (1, "No decision about this number is on record.\n")


async def test_why_shows_where_the_person_may_have_been(cli: Asked) -> None:
    number = "+18122345678"
    async with cli.gate.client.post("/v1/check", json={**CALL, "to": number}) as answer:
        assert (await answer.json())["decision"] == "deny"
    _, shown = await asyncio.to_thread(cli.run, "why", number, *WHY)
    assert "place: US-IN; time zones: America/Chicago, America/New_York" in shown
    _, shown = await asyncio.to_thread(cli.run, "why", LISTED, *WHY)
    assert "place:" not in shown, "no subdivision is known"


async def test_why_shows_only_the_given_dates(cli: Asked) -> None:
    for words, code, response in (
        (("--since", "2026-11-24T09:00:00+01:00"), 0, cli.denied),
        (("--until", "2026-11-25T00:00:00+01:00"), 0, cli.denied),
        (("--until", "2026-11-24T09:00:00+01:00"), 1, "on record for these dates"),
        (("--since", "2026-11-25T00:00:00+01:00"), 1, "on record for these dates"),
        (("--since", "yesterday"), 2, "Write the time with its UTC offset"),
    ):
        done = await asyncio.to_thread(cli.run, "why", LISTED, *WHY, *words)
        assert (done[0], response in done[1]) == (code, True), words


async def test_a_look_up_by_why_is_recorded(cli: Asked) -> None:
    """Look-ups by command and over HTTP are recorded, because the data subject may ask who looked."""
    await asyncio.to_thread(cli.run, "why", CLEAR, *WHY)
    query = {"number": CLEAR, "purpose": "a letter"}
    async with cli.gate.client.get("/v1/decisions", params=query) as answer:
        assert answer.status == 200
    by_command, over_http = await cli.gate.app.subjects.lookups.find("acme", CLEAR)
    assert (by_command.what, by_command.purpose) == ("decisions", "a complaint")
    assert by_command.client.startswith("cli:")
    assert (over_http.client, over_http.what, over_http.purpose) == ("tests", "decisions", "a letter")


async def test_why_and_http_return_the_same(cli: Asked) -> None:
    code, response = await process("why", CLEAR, *WHY, "--json", "--config", str(cli.config))
    assert code == 0
    async with cli.gate.client.get("/v1/decisions", params={"number": CLEAR, "purpose": "test"}) as answer:
        assert response[0]["decisions"] == (await answer.json())["decisions"]


async def test_search_prints_a_line_per_decision_and_exits_1_without_any(cli: Asked) -> None:
    code, response = await process("log", "search", "--json", "--config", str(cli.config))
    assert code == 0
    assert [entry["decision_id"] for entry in response] == [cli.allowed, cli.denied]
    assert [entry["outcome"] for entry in response] == ["answered", ""]
    assert cli.run("log", "search", "--client", "nobody", "--json") == (1, "")
    code, shown = cli.run("log", "search", "--limit", "1")
    assert (code, "1 found, and there may be more" in shown, cli.denied in shown) == (0, True, False)
    about = ("log", "search", "--json", "--number", LISTED, "--config", str(cli.config))
    code, response = await process(*about, *WHY, "--since", "2026-11-24T09:00:00+01:00")
    assert (code, [each["decision_id"] for each in response]) == (0, [cli.denied])
    code, response = await process(*about)
    assert (code, response[0]["error"]["field"]) == (2, "purpose")
    assert "612345679" not in shown


async def test_replay_exits_0_if_all_are_the_same_and_1_with_the_differences(cli: Asked) -> None:
    assert cli.run("log", "replay") == (0, "2 decisions, 2 the same, 0 different\n")
    for name in (cli.denied, cli.denied.rpartition("-")[2]):
        assert cli.run("log", "replay", name) == (0, "1 decisions, 1 the same, 0 different\n")
    draft = cli.gate.folder / "draft.yaml"
    law = yaml_files.read(world.CONFIG / "countries/it.yaml")
    yaml_files.write(draft, {**law, "registries": []})
    code, shown = cli.run("log", "replay", cli.denied, "--law", draft)
    assert code == 1
    assert "registry_clear" in shown
    assert "registry.listed" in shown
    code, shown = cli.run("log", "replay", "--law", draft, "--json")
    response = json.loads(shown)
    assert (code, response["same"], response["records"], response["different"]) == (1, False, 2, 2)
    assert {"was": "deny", "becomes": "allow", "records": 1} in response["verdicts"]
    assert {
        "campaign": "acme-fibre", "rule": "registry_clear", "was": "registry.listed", "becomes": "skip", "records": 1
    } in response["changes"]  # fmt: skip


MISUSED = [
    (("log", "replay", "00000000-2"), 1, "decision.unknown"),
    (("log", "replay", "1"), 1, "decision.unknown"),
    (("log", "replay", "--since", "yesterday"), 2, "request.invalid"),
    (("log", "search", "--until", "2026-11-24T10:00:00"), 2, "request.invalid"),
    (("log", "replay", "--law", "README.md"), 2, "law.invalid"),
    (("why", "+390612-call", *WHY), 2, "number.invalid"),
    (("why", CLEAR, *WHY, "--controller", "nobody"), 1, "controller.unknown"),
]


async def test_misuse_is_refused_with_the_reason(cli: Asked) -> None:
    for words, status, error in MISUSED:
        for more in ((), ("--json",)):
            code, shown = await asyncio.to_thread(cli.run, *words, *more)
            assert code == status, (words, shown)
            assert error in shown
            assert "61234" not in shown
    response = json.loads(cli.run("log", "replay", "1", "--json")[1])
    assert response["error"]["code"] == "decision.unknown"


def test_commands_create_nothing_without_a_log(tmp_path: Path) -> None:
    world.write_folder(tmp_path)
    for words, advice in (
        (("why", CLEAR, *WHY), "dialgate serve --config"),
        (("log", "search"), "Check --config, or start the gate once"),
        (("log", "replay"), "Check --config, or start the gate once"),
    ):
        done = CliRunner().invoke(main.app, [*words, "--config", str(tmp_path / "dialgate.yaml")])
        assert (done.exit_code, advice in done.output) == (1, True)
    assert not (tmp_path / "data").exists()
