"""The commands as users and scripts run them: real processes, a real gate on a free port, and exit codes."""

import asyncio
import hashlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from dialgate.core.local_time import rfc3339
from dialgate.crypto import masking
from dialgate.interfaces.cli import main
from dialgate.runtime.clock import wall_clock
from tests.bench import __main__ as bench
from tests.support.commands import PATIENCE, Done, run_command
from tests.support.paths import ROOT

CALLER_ID = "+390844123456"
ENVIRONMENT = {"COLUMNS": "200", "NO_COLOR": "1"}


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
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()  # otherwise a later test of this process would fail, when the open pipes are collected
        process.communicate()
        raise
    return Done(process.returncode, out, err)


class World:
    """A folder with the sample configuration. `fill` does the rest of `make run`."""

    def __init__(self, folder: Path, of: Path = ROOT) -> None:
        self.folder = folder
        self.config = folder / "config/dialgate.yaml"
        shutil.copytree(of / "config", folder / "config")
        if of != ROOT:
            shutil.copytree(of / ".data", folder / ".data", ignore=shutil.ignore_patterns("gate.sock"))

    def run(self, *words: object, **environment: str) -> Done:
        environment = {**os.environ, **ENVIRONMENT, "DIALGATE_CONFIG": str(self.config), **environment}
        return run_command("dialgate", *words, environment=environment)

    def start(self, *words: object, **environment: str) -> subprocess.Popen[str]:
        return command(*words, DIALGATE_CONFIG=str(self.config), **environment)

    def fill(self) -> None:
        key = self.folder / ".data/sample.key"
        assert self.run("key", "sample", "--out", key).code == 0
        sample = self.folder / "config/sample"
        consulted = rfc3339(wall_clock() - 60_000)
        imported = run_command(
            "registry-sync",
            *("import", "--registry", "rpo", "--controller", "acme", "--receipt", "T-1"),
            *("--request", sample / "rpo-request.txt", "--answer", sample / "rpo-answer.txt"),
            *("--consulted-at", consulted, "--snapshots", self.folder / ".data/snapshots"),
        )
        assert imported.code == 0
        gate = Gate(self)
        loaded = self.load(sample / "list.csv", "sample")
        assert (loaded.code, gate.end()) == (0, 0), loaded.err

    def load(self, file: Path, name: str, *more: str) -> Done:
        return self.run(
            *("list", "load", file, "--id", name, "--campaign", "acme-fibre", "--basis", "directory"),
            *("--origin", "public_directory"),
            *("--collected-by", "the directory", "--collected-on", "2026-11-02", *more),
        )


class Gate:
    """A `dialgate serve` on a free port, whose log lines are read on demand."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.process = world.start("serve", "--port", "0")
        self.said: list[str] = []
        self.url = str(self.hears("ready")["url"])

    def hears(self, event: str) -> dict[str, Any]:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            said: dict[str, Any] = json.loads(line)
            if said["event"] == event:
                return said
        raise AssertionError(f"the gate never said {event!r}: {self.said}")

    def cli(self, what: str, to: str, *more: object, url: str = "") -> Done:
        return self.world.run(
            *(what, "--to", to, "--from", CALLER_ID, "--campaign", "acme-fibre", "--json"),
            *("--url", url or self.url, "--key-file", self.world.folder / ".data/sample.key", *more),
        )

    def decides(self, to: str) -> str:
        """Return `allow`, or the first reason of a denial."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=PATIENCE)
        body = json.dumps({"to": to, "from": CALLER_ID, "campaign": "acme-fibre"})
        connection.request("POST", "/v1/check", body, self.headers)
        answer = json.load(connection.getresponse())
        connection.close()
        return str(answer["reasons"][0]["code"] if answer["decision"] == "deny" else "allow")

    @property
    def headers(self) -> dict[str, str]:
        key = (self.world.folder / ".data/sample.key").read_text().strip()
        return {"Authorization": f"Bearer {key}"}

    def end(self) -> int:
        """Stop the gate and return its exit code. The rest of its output is in `said`."""
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=PATIENCE)
        self.said += err.splitlines()
        return self.process.returncode


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("filled"))
    made.fill()
    return made


@pytest.fixture
def world(tmp_path: Path, filled: World) -> World:
    return World(tmp_path / "world", filled.folder)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, filled: World) -> Iterator[Gate]:
    """Run one gate for all tests that do not change its configuration.

    A test that changes the state of a number uses a number that no other test uses.
    """
    gate = Gate(World(tmp_path_factory.mktemp("shared") / "world", filled.folder))
    yield gate
    gate.end()


# ---- check and simulate ----------------------------------------------------------------------------------------------


def test_an_allow_exits_0_and_a_deny_1_with_its_reason(shared: Gate) -> None:
    allowed = shared.cli("check", "+390612345678", "--call-id", "a-1")
    denied = shared.cli("check", "+390612345679")
    assert (allowed.code, allowed.json["decision"]) == (0, "allow")
    assert (denied.code, denied.json["reasons"][0]["code"]) == (1, "registry.listed")


def test_the_output_has_the_reason_its_text_and_its_law(shared: Gate) -> None:
    key = shared.world.folder / ".data/sample.key"
    asked = ("--to", "+390612345679", "--from", CALLER_ID, "--campaign", "acme-fibre", "--url", shared.url)
    shown = shared.world.run("check", *asked, DIALGATE_KEY=key.read_text())
    assert shown.code == 1
    assert shown.out.startswith("deny")
    assert "registry.listed" in shown.out
    assert "L. 5/2018" in shown.out


def test_simulate_shows_every_rule_and_counts_nothing(shared: Gate) -> None:
    first, second = (
        shared.cli("simulate", "+390612345671", "--at", "2026-12-25T10:00:00+01:00").json for _ in range(2)
    )
    assert first == second
    assert first["at"] == "2026-12-25T09:00:00.000Z"
    assert {"registry_clear", "hours_open", "frequency_kept"} <= {
        outcome["rule"] for outcome in first["outcomes"]
    }


def test_simulate_shows_where_the_person_may_be(shared: Gate) -> None:
    key = shared.world.folder / ".data/sample.key"
    asked = ("--to", "+18122345678", "--from", CALLER_ID, "--campaign", "acme-fibre", "--url", shared.url)
    shown = shared.world.run("simulate", *asked, DIALGATE_KEY=key.read_text())
    assert "place: US-IN; time zones: America/Chicago, America/New_York" in shown.out
    simulation = shared.cli("simulate", "+18122345678").json
    assert (simulation["places"], simulation["zones"]) == (["US-IN"], ["America/Chicago", "America/New_York"])


def test_a_gate_that_cannot_be_reached_has_not_allowed_the_call(shared: Gate) -> None:
    asked = shared.cli("check", "+390612345672", url="http://127.0.0.1:9")
    assert (asked.code, asked.json["error"]["code"]) == (1, "gate.unreachable")
    assert "612345672" not in asked.out + asked.err


def test_misuse_exits_2_and_names_the_fault(shared: Gate) -> None:
    key = ("--key-file", str(shared.world.folder / ".data/sample.key"))
    for more, environment, error in (
        ((*key, "--url", "ftp://gate"), {}, "request.invalid: "),
        ((*key, "--at", "tomorrow"), {}, "request.invalid: "),
        ((), {"DIALGATE_KEY": "no-such-key"}, "auth.unknown: "),
        (
            (),
            {"DIALGATE_KEY": ""},
            "auth.missing: the gate requires a key. Use --key-file, or set DIALGATE_KEY",
        ),
    ):
        words = (
            "--to",
            "+390612345673",
            "--from",
            CALLER_ID,
            "--campaign",
            "acme-fibre",
            "--url",
            shared.url,
        )
        refused = shared.world.run("simulate", *words, *more, **environment)
        assert (refused.code, refused.err.startswith(error)) == (2, True), refused


def test_help_shows_flags_without_a_value() -> None:
    for words in (["revoke", "import"], ["check"], ["log", "search"], ["demo"]):
        shown = CliRunner().invoke(main.app, [*words, "--help"]).stdout
        assert "--json" in shown
        assert "<bool>" not in shown, words


# ---- the ledger ------------------------------------------------------------------------------------------------------


def test_a_revocation_by_command_applies_to_the_next_decision_until_it_is_lifted(shared: Gate) -> None:
    number = "+390612345674"
    assert shared.decides(number) == "allow"
    revoked = shared.world.run("revoke", number, "--channel", "letter", "--json")
    assert revoked.code == 0
    assert shared.decides(number) == "revocation.revoked"
    seq = revoked.json["seq"]
    lifted = shared.world.run("revoke", "--lift", seq, "--ground", "error", "--reason", "another's letter")
    assert lifted.code == 0
    assert shared.decides(number) == "allow"
    again = shared.world.run("revoke", number, "--channel", "letter", "--json")
    assert shared.decides(number) == "revocation.revoked"
    lift = ("revoke", "lift", again.json["seq"], "--ground", "error")
    assert shared.world.run(*lift).code == 2, "a reason is required"
    assert shared.world.run(*lift, "--reason", "another's letter").code == 0
    assert shared.decides(number) == "allow"


def test_a_consent_allows_calls_to_a_mobile_until_its_withdrawal(shared: Gate) -> None:
    number = "+393281234567"  # on the list, whose consents have no evidence
    assert shared.decides(number) == "consent.missing"
    added = shared.world.run(
        *("consent", "add", number, "--id", "f-1", "--collected-at", "2026-11-02T10:00:00+01:00"),
        *("--purpose", "sale", "--goods", "broadband", "--call-type", "agent"),
        *("--artefact", "f.pdf", "--artefact-sha256", "0" * 64),
    )
    assert added.code == 0, added.err
    assert shared.decides(number) == "allow"
    assert shared.world.run("consent", "withdraw", number, "--id", "f-1").code == 0
    assert shared.decides(number) == "consent.withdrawn"


def test_every_kind_of_entry_is_written_or_refused_with_an_exit_code(shared: Gate) -> None:
    number, day = "+390612345675", "2026-11-01"
    writes = [
        (0, "contract", "add", number, "--id", "c", "--starts", day),
        (0, "request", "add", number, "--id", "r", "--requested-at", f"{day}T10:00:00Z",
         "--expires-at", "2099-01-01T00:00:00Z", "--goods", "tv", "--own-interface"),
        (0, "caller-id", "prove", CALLER_ID, "--kind", "probe", "--evidence", "p.wav"),
        (1, "contract", "end", number, "--id", "none", "--ends", day),
        (1, "revoke", "+39", "--proof", "x"),
        (1, "revoke", number, "--controller", "nobody"),
        (1, "revoke", "--lift", "999999", "--ground", "error", "--reason", "x"),
        (1, "list", "retire", "nothing"),
        (2, "revoke"),
        (2, "contract", "add", number, "--id", "c", "--starts", "soon"),
        (2, "consent", "add", number, "--id", "c", "--collected-at", f"{day}T10:00:00Z",
         "--purpose", "fun", "--call-type", "agent"),
    ]  # fmt: skip
    environment = {"DIALGATE_CONFIG": str(shared.world.config)}
    for code, *words in writes:
        done = CliRunner().invoke(main.app, [str(word) for word in words], env=environment)
        assert done.exit_code == code, (words, done.output)
        assert number.removeprefix("+39") not in done.output


def test_a_list_is_reported_row_by_row_without_numbers(shared: Gate) -> None:
    world = shared.world
    file = world.folder / "list.csv"
    file.write_bytes(b"Nome;Telefono\nRossi;+390612340001\nNicol\xf2;0612340001\nBianchi;+39061234000A\n")
    loaded = world.load(file, "november", "--json", "--transfer", "Data Srl>Acme Spa@2026-03-01+told")
    assert loaded.code == 0, loaded.err
    assert {name: loaded.json[name] for name in ("rows", "accepted", "duplicates", "refused")} == {
        "rows": 3,
        "accepted": 1,
        "duplicates": 1,
        "refused": 1,
    }
    assert loaded.json["problems"][0]["line"] == 4
    assert "6123400" not in loaded.out + loaded.err
    shown = world.run("list", "show", "november", "--json").json[0]
    assert shown["origin"]["transfers"] == [
        {"by": "Data Srl", "to": "Acme Spa", "on": "2026-03-01", "subjects_told": True}
    ]
    assert world.run("list", "retire", "november", "--json").json["retired_at"]


def test_the_error_for_an_unknown_controller_or_campaign_lists_the_choices(shared: Gate) -> None:
    world = shared.world
    sample = world.folder / "config/sample/list.csv"
    refused = world.load(sample, "x", "--controller", "beta")
    assert refused.err.startswith("controller.unknown: --controller: Use one of your controllers: acme.")
    refused = world.run("scrub", str(sample), "--campaign", "no-such", "--out", "out.csv", "--yes")
    assert refused.err.startswith(
        "campaign.unknown: --campaign: Use one of the configured campaigns: acme-fibre."
    )


def test_an_unreadable_transfer_is_misuse(world: World) -> None:
    refused = world.load(world.folder / "config/sample/list.csv", "x", "--transfer", "Data to Acme")
    assert refused.code == 2
    assert "Data Srl>Acme Spa@2026-03-01+told" in " ".join(refused.err.split())


# ---- configuration and keys ------------------------------------------------------------------------------------------


def test_config_check_and_serve_name_every_problem_at_once(tmp_path: Path) -> None:
    world = World(tmp_path)  # without `fill`, so the key is missing
    controller = tmp_path / "config/controllers/acme.yaml"
    controller.write_text(controller.read_text().replace("+390844123456", "12ab"))
    (tmp_path / "config/countries/xx.yaml").write_text("country: XX\nhorses: 2\n")
    checking, serving = world.start("config", "check"), world.start("serve", "--port", "0")
    for done, code in ((wait_for_end(checking), 1), (wait_for_end(serving), 2)):
        assert done.code == code
        for problem in ("sample.key.sha256", "'12ab'", "xx.yaml"):
            assert problem in done.err


def test_config_check_shows_laws_and_campaigns(world: World) -> None:
    summary = world.run("config", "check", "--json").json
    assert summary["controllers"] == {"acme": ["acme-fibre"]}
    assert "2026-06-19" in summary["laws"]["IT"]["changes"]
    assert "is valid" in world.run("config", "check").out


def test_a_key_file_is_readable_by_its_owner_only_and_never_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "new/dialer.key"
    assert run_command("dialgate", "key", "dialer", "--out", out).code == 0
    key = out.read_text().strip()
    assert out.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new/dialer.key.sha256").read_text().strip() == hashlib.sha256(
        key.encode()
    ).hexdigest()
    again = run_command("dialgate", "key", "dialer", "--out", out)
    assert (again.code, out.read_text().strip()) == (1, key)
    assert key not in again.out + again.err


# ---- serve -----------------------------------------------------------------------------------------------------------


def test_a_gate_that_cannot_start_reports_the_reason_and_exits_1(shared: Gate, world: World) -> None:
    port = shared.url.rpartition(":")[2]
    starting = [world.start("serve", "--port", port), shared.world.start("serve", "--port", "0")]
    port_taken, log_taken = map(wait_for_end, starting)
    assert (port_taken.code, log_taken.code) == (1, 1)
    assert f"port {port}" in port_taken.err
    assert "another process is writing this log" in log_taken.err


def test_every_check_before_sigterm_is_answered_and_recorded(world: World) -> None:
    gate = Gate(world)
    bodies = [
        {"to": "+390612345678", "from": CALLER_ID, "campaign": "acme-fibre", "call_id": f"c{at}"}
        for at in range(100)
    ]

    async def ask_and_stop() -> list[str]:
        async with aiohttp.ClientSession(gate.url, headers=gate.headers) as session:
            asked = [asyncio.create_task(_check(session, body)) for body in bodies]
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            gate.process.send_signal(signal.SIGTERM)
            answers = await asyncio.gather(*asked, return_exceptions=True)
        return [answer for answer in answers if isinstance(answer, str)]

    answered = asyncio.run(ask_and_stop())
    gate.process.communicate(timeout=PATIENCE)
    assert gate.process.returncode == 0
    verified = world.run("log", "verify", "--json").json
    assert verified["ok"]
    assert 1 <= len(answered) <= verified["by_type"]["decision"]
    assert verified["allows"] == 5  # the limit in it.yaml, whether or not the responses arrived


async def _check(session: aiohttp.ClientSession, body: dict[str, str]) -> str:
    async with session.post("/v1/check", json=body) as response:
        return str((await response.json())["decision_id"])


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


def test_a_benchmark_prints_one_figure_a_line() -> None:
    figures = read_figures([benchmark("batch", "--calls", "1000", "--json")])
    assert figures["batch.decisions"]["value"] > 0


@pytest.mark.torture
def test_a_gate_is_compared_with_an_empty_handler() -> None:
    running = [
        benchmark("decide", "--json"),
        benchmark("http", "--requests", "200", "--rounds", "1", "--json"),
    ]
    figures = read_figures(running)
    assert {"decide.allow", "http.requests", "http.p99"} <= figures.keys()
    assert figures["http.allowed"]["value"] == pytest.approx(0.9, abs=0.1)
    compared = figures["http.requests"]
    assert compared["ratio"] == pytest.approx(compared["value"] / compared["baseline"], rel=0.01)


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
            benchmark("ledger", "--revocations", "1000", "--consents", "1000", "--requests", "200", "--json"),
        ]
    )
    assert "log.verify" in figures
    assert figures["log.archive_bytes"]["value"] < 160


@pytest.mark.torture
def test_the_load_of_a_ledger_is_measured_on_redis_too() -> None:
    done = wait_for_end(benchmark("ledger", "--store", "redis", "--revocations", "1000", "--json"))
    assert done.code == 0, done
    figures = {figure["name"]: figure["value"] for figure in map(json.loads, done.out.splitlines())}
    assert figures["ledger.shared_revocations"] > 0
    assert figures["ledger.shared_memory"] > 0
