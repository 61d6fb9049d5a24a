"""The files in `deploy` for systemd and containers: they use only commands and options that exist."""

import asyncio
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from msgspec import Meta
from typer.main import get_command

from dialgate.config.listeners import Listen
from dialgate.interfaces.cli.main import app
from registry_sync.cli import app as registry_app
from tests.deploy.test_registry_deploy import DEPLOY, unit
from tests.support import world, yaml_files

TIMERS = ("reconcile", "webhook-pull", "backup", "report", "checkpoint")


def timer_command(name: str) -> list[str]:
    """Return the `dialgate` command of a unit, without variables and without the shell code that computes the date."""
    line = unit(f"dialgate-{name}.service")["Service"]["ExecStart"]
    matches = re.search(r"/opt/dialgate/bin/dialgate [^']*", line)
    assert matches
    return [
        word for word in shlex.split(matches[0]) if not word.startswith("$$D") and word != "$DIALGATE_CDR"
    ]


def commands() -> list[list[str]]:
    service = unit("dialgate.service")["Service"]
    ship = unit("dialgate-ship.service")["Service"]
    container = (DEPLOY / "container" / "Containerfile").read_text("utf-8")
    cmd = re.search(r"^CMD (\[.*\])$", container, re.MULTILINE)
    assert cmd
    return [
        *(shlex.split(service[name]) for name in ("ExecStart", "ExecStartPre")),
        shlex.split(ship["ExecStart"]),
        *map(timer_command, TIMERS),
        list(yaml.safe_load(cmd[1])),
    ]


def test_every_command_and_option_exists() -> None:
    assert len(commands()) >= 7
    for program, *words in commands():
        assert Path(program).name == "dialgate"
        match: Any = get_command(app)
        for word in words:
            if not hasattr(match, "get_command") or word.startswith("-"):
                break
            match = match.get_command(None, word)
            assert match is not None, word
        options = {option for parameter in match.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize(
    "name",
    ["registry-sync", "dialgate-reconcile", "dialgate-webhook-pull", "dialgate-report", "caller-id-probe"],
)
def test_a_job_that_asks_the_gate_is_started_after_it_and_may_open_its_socket(name: str) -> None:
    assert "dialgate.service" in unit(f"{name}.service")["Unit"]["After"].split()
    service = unit(f"{name}.service")["Service"]
    assert "AF_UNIX" in service["RestrictAddressFamilies"].split()
    assert (service["User"], "/var/lib/dialgate" in service["ReadWritePaths"].split()) == ("dialgate", True)


def test_the_unit_of_several_gates_is_that_of_one_with_a_file_for_each() -> None:
    one, each = (unit(name) for name in ("dialgate.service", "dialgate@.service"))
    different = {
        key: value for section in each.values() for key, value in section.items()
        if one[section.name].get(key) != value.replace("%i", "dialgate")
    }  # fmt: skip
    assert different.keys() == {"Description", "CPUSchedulingPolicy"}


def test_units_give_a_gate_ten_seconds_more_than_it_may_drain() -> None:
    (limits,) = (item for item in get_args(Listen.__annotations__["drain_seconds"]) if isinstance(item, Meta))
    assert limits.le is not None
    terms = [
        int(unit(name)["Service"]["TimeoutStopSec"]) for name in ("dialgate.service", "dialgate@.service")
    ]
    for folder in ("container", "stack"):
        text = (DEPLOY / folder / "compose.yaml").read_text("utf-8")
        terms += [int(seconds) for seconds in re.findall(r"stop_grace_period: (\d+)s", text)]
    assert len(terms) >= 4
    assert min(terms) >= limits.le + 10


@pytest.mark.parametrize("name", TIMERS)
def test_timer_starts_the_service_of_its_name_and_is_documented(name: str) -> None:
    assert unit(f"dialgate-{name}.timer")["Timer"]["OnCalendar"]
    assert f"| `dialgate-{name}.timer` |" in (DEPLOY / "systemd" / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", ["reconcile", "webhook-pull"])
def test_a_job_writes_its_metric_to_a_writable_folder(name: str) -> None:
    words = timer_command(name)
    textfile = Path(words[words.index("--textfile") + 1])
    assert str(textfile.parent) in unit(f"dialgate-{name}.service")["Service"]["ReadWritePaths"].split()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize(
    "name",
    sorted(path.name for kind in ("service", "timer") for path in (DEPLOY / "systemd").glob(f"*.{kind}")),
)
def test_systemd_reports_no_error_in_the_unit(name: str, tmp_path: Path) -> None:
    """The only message permitted is that the programs are not installed here."""
    for path in (DEPLOY / "systemd").glob("*.*"):
        shutil.copy(path, tmp_path)
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)],
        capture_output=True, text=True, check=False, env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )  # fmt: skip
    messages = [line for line in result.stderr.splitlines() if name.partition(".")[0] in line]
    assert [line for line in messages if "is not executable" not in line] == []


SERVICES = sorted(path.name for path in (DEPLOY / "systemd").glob("*.service"))
MAX_EXPOSURE = 25  # tenths of the score of systemd-analyze


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize("name", SERVICES)
def test_unit_is_confined(name: str) -> None:
    words = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={MAX_EXPOSURE}"]
    result = subprocess.run([*words, DEPLOY / "systemd" / name], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-100:] + result.stderr
    service = unit(name)["Service"]
    assert (service["LimitCORE"], service["MemorySwapMax"]) == ("0", "0")


def system_calls(group: str) -> set[str]:
    result = subprocess.run(
        ["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True
    )
    words = [line.strip() for line in result.stdout.splitlines()[1:]]
    names = {word for word in words if word and word[0] not in "#@"}
    return names.union(*(system_calls(word) for word in words if word.startswith("@")))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize("name", SERVICES)
def test_unit_permits_the_system_calls_of_the_programs(name: str) -> None:
    """The log's sync, the limits and priorities of child processes, and shared memory need these calls.

    A line with `~` removes calls that earlier lines permit.
    """
    lines = [
        line.partition("=")[2]
        for line in (DEPLOY / "systemd" / name).read_text("utf-8").splitlines()
        if line.startswith("SystemCallFilter=")
    ]
    allowed: set[str] = set()
    for line in lines:
        names = set[str]().union(*(system_calls(group) for group in line.removeprefix("~").split()))
        allowed = allowed - names if line.startswith("~") else allowed | names
    needed = {
        "io_setup", "io_submit", "io_getevents", "fdatasync", "flock", "prlimit64", "setpriority",
        "sched_setscheduler", "memfd_create", "execve", "kill",
    }  # fmt: skip
    assert needed <= allowed
    assert not {"ptrace", "mount", "chroot", "bpf", "setuid"} & allowed


async def test_container_is_healthy_while_the_gate_answers(tmp_path: Path) -> None:
    text = (DEPLOY / "container" / "Containerfile").read_text("utf-8")
    match = re.search(r"^HEALTHCHECK .*\\\n *CMD (\[.*\])$", text, re.MULTILINE)
    default = re.search(r"^ENV DIALGATE_HEALTH=(\S+)$", text, re.MULTILINE)
    assert match
    assert default
    program, *words = yaml.safe_load(match[1])
    assert program == "python"

    async def run_healthcheck(port: int) -> int:
        environment = {"DIALGATE_HEALTH": default[1].replace("8080", str(port))}
        result = await asyncio.create_subprocess_exec(
            sys.executable, *words, env=environment, stderr=asyncio.subprocess.DEVNULL
        )
        return await result.wait()

    async with world.running(tmp_path) as kustomization:
        assert await run_healthcheck(kustomization.port) == 0
    assert await run_healthcheck(kustomization.port) != 0


def test_compose_runs_the_image_as_confined_as_the_page_does() -> None:
    compose = yaml_files.read(DEPLOY / "container" / "compose.yaml")
    page = (DEPLOY / "container" / "README.md").read_text("utf-8")
    for service in compose["services"].values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["ulimits"] == {"core": 0}
        assert f"--memory {service['mem_limit']} --memory-swap {service['memswap_limit']}" in page
        assert "data:/var/lib/dialgate" in service["volumes"]
    gate = compose["services"]["gate"]
    assert (DEPLOY / "container" / gate["build"]["context"] / gate["build"]["dockerfile"]).is_file()
    assert {port.rpartition(":")[0] for port in gate["ports"]} == {"127.0.0.1:8080", "127.0.0.1:9464"}
    assert compose["services"]["registry-sync"]["depends_on"] == {"gate": {"condition": "service_healthy"}}
    program, name, *words = compose["services"]["registry-sync"]["command"]
    command = get_command(registry_app).get_command(None, name)  # type: ignore[attr-defined]  # a group of commands
    assert program == "registry-sync"
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_image_is_built_from_the_wheel_and_the_lock_only() -> None:
    """The image must contain neither keys nor history."""
    lines = (DEPLOY.parent / ".dockerignore").read_text("utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == [
        "*",
        "!requirements",
        "!dist/*.whl",
    ]


def test_a_change_of_dialgate_changes_the_last_layer_of_the_image_only() -> None:
    base, packages, image = (DEPLOY / "container" / "Containerfile").read_text("utf-8").split("\nFROM ")
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", base, re.MULTILINE)
    assert {stage.split()[0] for stage in (packages, image)} == {"${BASE}"}
    assert re.findall(r"^COPY (.*)$", packages, re.MULTILINE) == ["requirements/all.txt /requirements/"]
    layers = re.findall(r"^(?:COPY|RUN) .*$", image, re.MULTILINE)
    assert [layer.partition("/opt")[0].partition(",")[0] for layer in layers[1:]] == [
        "COPY --from=packages ",
        "RUN --mount=type=bind",
    ]
