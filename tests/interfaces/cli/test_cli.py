"""The commands as users and scripts run them: real processes, a real gate on a free port, and exit codes."""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from dialgate import decision_log
from dialgate.core.model import DAY, HOUR
from dialgate.crypto import masking
from dialgate.interfaces.cli import main
from dialgate.runtime.clock import wall_clock
from tests.bench import __main__ as bench
from tests.support import world
from tests.support.commands import PATIENCE, Done, run_command
from tests.support.paths import ROOT
from tests.support.running_gate import serving
from tests.support.world import CALL, CALLER, CLEAR, KEY, LIST, LISTED, NOW, World

ENVIRONMENT = {"COLUMNS": "200", "NO_COLOR": "1"}
AMERICAN = "+18122345678"
ORIGIN = ("--origin", "public_directory", "--collected-by", "the directory", "--collected-on", "2026-11-02")


def command(*words: object, module: str = "dialgate", **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_end(process: subprocess.Popen[str]) -> Done:
    out, err = process.communicate(timeout=PATIENCE)
    return Done(process.returncode, out, err)


def call(what: str, to: str, *more: object) -> tuple[object, ...]:
    return (what, "--to", to, "--from", CALLER, "--campaign", "acme-fibre", *more)


def load(file: Path, name: str, *more: object) -> tuple[object, ...]:
    return (
        "list",
        "load",
        file,
        "--id",
        name,
        "--campaign",
        "acme-fibre",
        "--basis",
        "directory",
        *ORIGIN,
        *more,
    )


async def decides(running: World, number: str = CLEAR) -> list[str]:
    return world.codes(await world.ask(running.app, to=number))


# ---- check and simulate ----------------------------------------------------------------------------------------------


async def test_an_allow_exits_0_and_a_deny_1_with_its_reason(running: World) -> None:
    allowed = await running.command(*call("check", CLEAR, "--call-id", "a-1", "--json"))
    assert (allowed.code, allowed.json["decision"]) == (0, "allow")
    denied = await running.command(*call("check", LISTED, "--json"))
    assert (denied.code, denied.json["reasons"][0]["code"]) == (1, "registry.listed")
    shown = await running.output(*call("check", LISTED), code=1)
    assert shown.startswith("deny")
    assert "registry.listed" in shown
    assert "L. 5/2018" in shown


async def test_simulate_shows_every_rule_and_counts_nothing(running: World) -> None:
    words = call("simulate", CLEAR, "--at", "2026-12-25T10:00:00+01:00", "--json")
    first, second = [(await running.command(*words)).json for _ in range(2)]
    assert first == second
    assert first["at"] == "2026-12-25T09:00:00.000Z"
    rules = {outcome["rule"] for outcome in first["outcomes"]}
    assert {"registry_clear", "hours_open", "frequency_kept"} <= rules


async def test_simulate_shows_where_the_person_may_be(running: World) -> None:
    shown = await running.output(*call("simulate", AMERICAN), code=1)
    assert "place: US-IN; time zones: America/Chicago, America/New_York" in shown
    simulation = (await running.command(*call("simulate", AMERICAN, "--json"))).json
    assert (simulation["places"], simulation["zones"]) == (["US-IN"], ["America/Chicago", "America/New_York"])


async def test_a_gate_that_cannot_be_reached_has_not_allowed_the_call(running: World) -> None:
    asked = await running.command(*call("check", CLEAR, "--json", "--url", "http://127.0.0.1:9"))
    assert (asked.code, asked.json["error"]["code"]) == (1, "gate.unreachable")
    assert CLEAR[3:] not in asked.out + asked.err


@pytest.mark.parametrize(
    ("more", "key", "error"),
    [
        (("--url", "ftp://gate"), KEY, "request.invalid: "),
        (("--at", "tomorrow"), KEY, "request.invalid: "),
        ((), "no-such-key", "auth.unknown: "),
        ((), "", "auth.missing: the gate requires a key. Use --key-file, or set DIALGATE_KEY"),
    ],
)
async def test_misuse_exits_2_and_names_the_fault(
    running: World, more: tuple[str, ...], key: str, error: str
) -> None:
    words = call("simulate", CLEAR, "--url", f"http://127.0.0.1:{running.port}", *more)
    refused = await running.command(*words, DIALGATE_KEY=key)
    assert (refused.code, refused.err.startswith(error)) == (2, True), refused


def test_help_shows_flags_without_a_value() -> None:
    for words in (["revoke", "import"], ["check"], ["log", "search"], ["demo"]):
        shown = CliRunner().invoke(main.app, [*words, "--help"]).stdout
        assert "--json" in shown
        assert "<bool>" not in shown, words


# ---- the ledger ------------------------------------------------------------------------------------------------------


async def test_a_revocation_by_command_applies_to_the_next_decision_until_it_is_lifted(
    running: World,
) -> None:
    assert await decides(running) == []
    for lift in (("revoke", "--lift"), ("revoke", "lift")):
        revoked = await running.command("revoke", CLEAR, "--channel", "letter", "--json")
        assert revoked.code == 0
        assert await decides(running) == ["revocation.revoked"]
        words = (*lift, revoked.json["seq"], "--ground", "error")
        assert (await running.command(*words)).code == 2, "a reason is required"
        assert (await running.command(*words, "--reason", "another's letter")).code == 0
        assert await decides(running) == []


async def test_a_consent_allows_calls_to_a_mobile_until_its_withdrawal(running: World) -> None:
    number = "+393281234567"
    world.publish_answers(running.app.config.data, {number: False}, NOW - HOUR)
    await running.app.tick()
    assert "consent.missing" in await decides(running, number)
    added = await running.command(
        *("consent", "add", number, "--id", "f-1", "--collected-at", "2026-11-02T10:00:00+01:00"),
        *("--purpose", "sale", "--goods", "broadband", "--call-type", "agent"),
        *("--artefact", "f.pdf", "--artefact-sha256", "0" * 64),
    )
    assert added.code == 0, added.err
    assert await decides(running, number) == []
    assert (await running.command("consent", "withdraw", number, "--id", "f-1")).code == 0
    assert "consent.withdrawn" in await decides(running, number)


async def test_every_kind_of_entry_is_written_or_refused_with_an_exit_code(running: World) -> None:
    day = "2026-11-01"
    writes: list[tuple[Any, ...]] = [
        (0, "contract", "add", CLEAR, "--id", "c", "--starts", day),
        (0, "request", "add", CLEAR, "--id", "r", "--requested-at", f"{day}T10:00:00Z",
         "--expires-at", "2099-01-01T00:00:00Z", "--goods", "tv", "--own-interface"),
        (0, "caller-id", "prove", CALLER, "--kind", "probe", "--evidence", "p.wav"),
        (1, "contract", "end", CLEAR, "--id", "none", "--ends", day),
        (1, "revoke", "+39", "--proof", "x"),
        (1, "revoke", CLEAR, "--controller", "nobody"),
        (1, "revoke", "--lift", "999999", "--ground", "error", "--reason", "x"),
        (1, "list", "retire", "nothing"),
        (2, "revoke"),
        (2, "contract", "add", CLEAR, "--id", "c", "--starts", "soon"),
        (2, "consent", "add", CLEAR, "--id", "c", "--collected-at", f"{day}T10:00:00Z",
         "--purpose", "fun", "--call-type", "agent"),
    ]  # fmt: skip
    for code, *words in writes:
        assert CLEAR.removeprefix("+39") not in await running.output(*words, code=code)


async def test_a_list_is_reported_row_by_row_without_numbers(running: World, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_bytes(b"Nome;Telefono\nRossi;+390612340001\nNicol\xf2;0612340001\nBianchi;+39061234000A\n")
    transfer = "Data Srl>Acme Spa@2026-03-01+told"
    loaded = await running.command(*load(file, "november", "--json", "--transfer", transfer))
    assert loaded.code == 0, loaded.err
    assert {name: loaded.json[name] for name in ("rows", "accepted", "duplicates", "refused")} == {
        "rows": 3, "accepted": 1, "duplicates": 1, "refused": 1,
    }  # fmt: skip
    assert loaded.json["problems"][0]["line"] == 4
    assert "6123400" not in loaded.out + loaded.err
    shown = (await running.command("list", "show", "november", "--json")).json[0]
    assert shown["origin"]["transfers"] == [
        {"by": "Data Srl", "to": "Acme Spa", "on": "2026-03-01", "subjects_told": True}
    ]
    assert (await running.command("list", "retire", "november", "--json")).json["retired_at"]


async def test_the_error_for_an_unknown_name_lists_the_choices(running: World, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text(f"number\n{CLEAR}\n")
    refused = await running.command(*load(file, "x", "--controller", "beta"))
    assert refused.err.startswith("controller.unknown: --controller: Use one of your controllers: acme.")
    refused = await running.command("scrub", file, "--campaign", "no-such", "--out", "out.csv", "--yes")
    assert refused.err.startswith(
        "campaign.unknown: --campaign: Use one of the configured campaigns: acme-fibre."
    )
    refused = await running.command(*load(file, "x", "--transfer", "Data to Acme"))
    assert refused.code == 2
    assert "Data Srl>Acme Spa@2026-03-01+told" in " ".join(refused.err.split())


# ---- configuration and keys ------------------------------------------------------------------------------------------


def test_config_check_and_serve_name_the_problems_of_all_files_at_once(tmp_path: Path) -> None:
    config = world.write_folder(tmp_path, checkpoint_seconds="often")
    controller = tmp_path / "controllers/acme.yaml"
    controller.write_text(controller.read_text().replace("purpose: sale", "purpose: fun"))
    (tmp_path / "countries/xx.yaml").write_text("country: XX\nhorses: 2\n")
    for words, code in ((("config", "check"), 1), (("serve", "--port", "0"), 2)):
        done = run_command("dialgate", *words, "--config", config)
        assert done.code == code
        for problem in ("checkpoint_seconds", "'fun'", "xx.yaml"):
            assert problem in done.err


def test_config_check_shows_laws_and_campaigns(tmp_path: Path) -> None:
    check = ("config", "check", "--config", world.write_folder(tmp_path))
    summary = run_command("dialgate", *check, "--json").json
    assert summary["controllers"] == {"acme": ["acme-fibre"]}
    assert "2026-06-19" in summary["laws"]["IT"]["changes"]
    assert "is valid" in run_command("dialgate", *check).out


def test_a_key_file_is_readable_by_its_owner_only_and_never_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "new/dialer.key"
    assert run_command("dialgate", "key", "new", "dialer", "--out", out).code == 0
    key = out.read_text().strip()
    assert out.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new/dialer.key.sha256").read_text().strip() == hashlib.sha256(
        key.encode()
    ).hexdigest()
    again = run_command("dialgate", "key", "dialer", "--out", out)
    assert (again.code, out.read_text().strip()) == (1, key)
    assert key not in again.out + again.err


# ---- serve -----------------------------------------------------------------------------------------------------------


async def test_a_gate_that_cannot_start_reports_the_reason_and_exits_1(
    running: World, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for config, port, problem in (
        (world.write_folder(other), running.port, f"port {running.port}"),
        (running.folder / "dialgate.yaml", 0, "is in use by a gate"),
    ):
        words = ("serve", "--port", port, "--config", config)
        done = await asyncio.to_thread(run_command, "dialgate", *words)
        assert (done.code, problem in done.err) == (1, True), done


async def test_every_check_before_sigterm_is_answered_and_recorded(tmp_path: Path) -> None:
    config = world.write_folder(tmp_path)
    world.publish_answers(tmp_path / "data", {CLEAR: False}, wall_clock() - DAY)
    async with serving(config) as gate:
        await gate.post("/v1/lists", LIST)

        async def check(place: int) -> str:
            async with gate.client.post("/v1/check", json={**CALL, "call_id": f"c{place}"}) as response:
                return str((await response.json())["decision_id"])

        while "list.unknown" in await reasons(gate.client):
            pass
        asked = [asyncio.create_task(check(place)) for place in range(100)]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        gate.process.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert await gate.process.wait() == 0
    report = decision_log.verify(tmp_path / "data/log")
    assert report.ok
    assert 1 <= sum(isinstance(answer, str) for answer in answers) <= report.by_type["decision"]
    assert report.allows == 5  # the limit in it.yaml, whether or not the responses arrived


async def reasons(client: Any) -> list[str]:
    async with client.post("/v1/simulate", json=CALL) as response:
        return [reason["code"] for reason in (await response.json())["reasons"]]


# ---- masking in logs -------------------------------------------------------------------------------------------------


@given(
    number=st.from_regex(r"\A[1-9][0-9]{6,14}\Z"),
    separator=st.sampled_from(["", " ", "-", ".", "/"]),
    around=st.tuples(st.text("abc =:'", max_size=5), st.text("abc =:'", max_size=5)),
)
def test_every_number_of_seven_digits_is_masked_in_any_notation(
    number: str, separator: str, around: tuple[str, str]
) -> None:
    written = separator.join(number)
    assert written not in masking.blank_logged(f"{around[0]}{written}{around[1]}")


@pytest.mark.parametrize("harmless", ["port 8080 of 127.0.0.1", "3 of 100 calls", "file.py, line 123456"])
def test_other_text_is_not_masked(harmless: str) -> None:
    assert masking.blank_logged(harmless) == harmless


# ---- benchmarks ------------------------------------------------------------------------------------------------------


def benchmark(*words: str) -> subprocess.Popen[str]:
    return command(*words, module="tests.bench")


@pytest.mark.parametrize("name", bench.NAMES)
def test_every_benchmark_lists_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        bench.main([name, "--help"])
    assert f"tests.bench {name}" in capsys.readouterr().out


def test_a_benchmark_of_another_name_is_misuse() -> None:
    done = wait_for_end(benchmark("frobnicate"))
    assert done.code == 2
    assert "frobnicate" in done.err


@pytest.mark.torture
def test_a_benchmark_prints_one_figure_a_line() -> None:
    figures = read_figures([benchmark("batch", "--calls", "1000", "--json")])
    assert figures["batch.decisions"]["value"] > 0


@pytest.mark.torture
def test_a_gate_is_compared_with_an_empty_handler() -> None:
    running = [
        benchmark("decide", "--json"),
        benchmark("http", "--requests", "200", "--rounds", "1", "--known", "1000", "--json"),
    ]
    figures = read_figures(running)
    assert {"decide.allow", "http.requests", "http.p99"} <= figures.keys()
    assert figures["http.allowed"]["value"] == pytest.approx(0.9, abs=0.1)
    compared = figures["http.requests"]
    assert compared["ratio"] == pytest.approx(compared["value"] / compared["baseline"], rel=0.01)
    assert figures["http.known.allowed"]["value"] == pytest.approx(0.9, abs=0.1)
    assert figures["http.known.cpu_beside_new"]["baseline"] == figures["http.server_cpu"]["value"]


def test_the_store_must_have_the_known_numbers_that_a_benchmark_calls() -> None:
    done = wait_for_end(benchmark("http", "--known", "1"))
    assert done.code == 1
    assert "must be at least 135000" in done.out


def read_figures(running: list[subprocess.Popen[str]]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for process in running:
        done = wait_for_end(process)
        assert done.code == 0, done
        figures |= {figure["name"]: figure for figure in map(json.loads, done.out.splitlines())}
    return figures


@pytest.mark.torture
def test_developer_benchmarks_print_one_figure_a_line() -> None:
    figures = read_figures(
        [
            benchmark("log", "--records", "10000", "--json"),
            benchmark("ledger", "--revocations", "1000", "--json"),
        ]
    )
    assert "log.verify" in figures
    assert figures["log.archive_bytes"]["value"] < 160


@pytest.mark.torture
def test_the_load_of_a_ledger_is_measured_on_redis_too() -> None:
    done = wait_for_end(benchmark("ledger", "--store", "redis", "--revocations", "1000", "--json"))
    assert done.code == 0, done
    figures = {figure["name"]: figure["value"] for figure in map(json.loads, done.out.splitlines())}
    assert figures["ledger.revocations"] > 0
    assert figures["ledger.memory"] > 0
