"""What is shipped to run the gate with starts commands that are there, with options that they have, and is what systemd reads."""

import asyncio
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from dialgate.config.loader import load
from dialgate.interfaces.cli.main import app
from dialgate.interfaces.http.operations import OPERATIONS
from tests.deploy.test_registry_deploy import DEPLOY, unit
from tests.support import world


def kubernetes() -> dict[str, Any]:
    every = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "dialgate.yaml").read_text("utf-8")))
    (found,) = (each for each in every if each["kind"] == "StatefulSet")
    pod: dict[str, Any] = found["spec"]["template"]["spec"]
    return pod


TIMED = ("reconcile", "backup", "report", "checkpoint")


def timed(name: str) -> list[str]:
    """What the unit starts, without the shell around it that only names the day."""
    line = unit(f"dialgate-{name}.service")["Service"]["ExecStart"]
    written = re.search(r"/opt/dialgate/bin/dialgate [^']*", line)
    assert written
    return [
        word for word in shlex.split(written[0]) if not word.startswith("$$D") and word != "$DIALGATE_CDR"
    ]


def commands() -> list[list[str]]:
    service = unit("dialgate.service")["Service"]
    ship = unit("dialgate-ship.service")["Service"]
    container = (DEPLOY / "container" / "Containerfile").read_text("utf-8")
    cmd = re.search(r"^CMD (\[.*\])$", container, re.MULTILINE)
    assert cmd
    page = (DEPLOY / "systemd" / "README.md").read_text("utf-8").replace("sudo -u dialgate ", "")
    written = re.findall(r"/opt/dialgate/bin/dialgate [^\n`]*", page)
    return [
        *(shlex.split(service[name]) for name in ("ExecStart", "ExecStartPre")),
        shlex.split(ship["ExecStart"]),
        *map(timed, TIMED),
        *(each["command"] for name in ("initContainers", "containers") for each in kubernetes()[name]),
        list(yaml.safe_load(cmd[1])),
        *map(shlex.split, written),
    ]


def test_every_command_and_its_options_are_there() -> None:
    assert len(commands()) >= 7
    for program, *words in commands():
        assert Path(program).name == "dialgate"
        found: Any = get_command(app)
        for word in words:
            if not hasattr(found, "get_command") or word.startswith("-"):
                break
            found = found.get_command(None, word)
            assert found is not None, word
        options = {option for parameter in found.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options


def test_the_probes_ask_endpoints_that_need_no_key() -> None:
    (container,) = kubernetes()["containers"]
    paths = {container[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")}
    assert paths == {"/readyz", "/healthz"}
    assert paths <= {each.path for each in OPERATIONS if not each.scope}


def test_what_the_container_runs_as_owns_its_volume() -> None:
    container = (DEPLOY / "container" / "Containerfile").read_text("utf-8")
    user = str(kubernetes()["securityContext"]["runAsUser"])
    assert f"USER {user}\n" in container
    assert f"-o {user} -g {user} -m 0700 /var/lib/dialgate" in container


@pytest.mark.parametrize("name", TIMED)
def test_a_timer_starts_the_service_of_its_name_and_is_on_the_page(name: str) -> None:
    assert unit(f"dialgate-{name}.timer")["Timer"]["OnCalendar"]
    assert f"| `dialgate-{name}.timer` |" in (DEPLOY / "systemd" / "README.md").read_text("utf-8")


def test_bypassed_calls_are_told_where_the_alert_looks() -> None:
    words = timed("reconcile")
    textfile = Path(words[words.index("--textfile") + 1])
    assert str(textfile.parent) in unit("dialgate-reconcile.service")["Service"]["ReadWritePaths"].split()


@pytest.mark.parametrize("name", ["dialgate.yaml", "registry-sync.yaml"])
def test_the_cluster_mounts_the_configuration_as_the_gate_reads_it(name: str, tmp_path: Path) -> None:
    """Laid out as the kubelet does, behind its link, what is mounted is a configuration without a fault."""
    made = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text("utf-8"))
    maps = {
        each["name"]: {Path(file).name: file for file in each["files"]} for each in made["configMapGenerator"]
    }
    behind = tmp_path / "..2026_11_25"
    for source in projected(name):
        files = maps[source["name"]]
        items = source.get("items") or [{"key": key, "path": key} for key in files]
        assert {each["key"] for each in items} == set(files)
        for each in items:
            target = behind / each["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(DEPLOY.parent / files[each["key"]], target)
    for kind in ("countries", "controllers", "webhooks"):
        assert files_of(behind / kind) == files_of(DEPLOY.parent / "config" / kind)
    (tmp_path / "..data").symlink_to(behind.name)
    (tmp_path / "dialgate.yaml").symlink_to("..data/dialgate.yaml")
    settings = (behind / "dialgate.yaml").read_text("utf-8")
    keyless = settings.replace("key_sha256_file: ../.data/sample.key.sha256", f"key_sha256: {'a' * 64}")
    (behind / "dialgate.yaml").write_text(keyless, "utf-8")
    config = load(tmp_path / "dialgate.yaml")
    assert set(config.webhooks) == {Path(each).stem for each in files_of(behind / "webhooks")}


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def projected(name: str) -> list[dict[str, Any]]:
    (last,) = (
        each
        for each in yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text("utf-8"))
        if each["kind"] != "Service"
    )
    spec = last["spec"] if "template" in last["spec"] else last["spec"]["jobTemplate"]["spec"]
    (volume,) = (each for each in spec["template"]["spec"]["volumes"] if each["name"] == "config")
    return [each["configMap"] for each in volume["projected"]["sources"]]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize(
    "name",
    sorted(path.name for kind in ("service", "timer") for path in (DEPLOY / "systemd").glob(f"*.{kind}")),
)
def test_systemd_reads_the_unit_as_it_is_meant(name: str, tmp_path: Path) -> None:
    """Its programs are not installed here, which is all that may be wrong."""
    for path in (DEPLOY / "systemd").glob("*.*"):
        shutil.copy(path, tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)],
        capture_output=True, text=True, check=False, env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if name.partition(".")[0] in line]
    assert [line for line in said if "is not executable" not in line] == []


SERVICES = sorted(path.name for path in (DEPLOY / "systemd").glob("*.service"))
MOST_EXPOSED = 25  # tenths


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_is_confined(name: str) -> None:
    words = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}"]
    done = subprocess.run([*words, DEPLOY / "systemd" / name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-100:] + done.stderr
    service = unit(name)["Service"]
    assert (service["LimitCORE"], service["MemorySwapMax"]) == ("0", "0")


def system_calls(group: str) -> set[str]:
    done = subprocess.run(
        ["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True
    )
    words = [line.strip() for line in done.stdout.splitlines()[1:]]
    named = {word for word in words if word and word[0] not in "#@"}
    return named.union(*(system_calls(word) for word in words if word.startswith("@")))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_may_do_what_the_programs_do(name: str) -> None:
    """The sync of the log, limits and priorities of child processes, shared memory. A name that is refused comes last."""
    lines = [
        line.partition("=")[2]
        for line in (DEPLOY / "systemd" / name).read_text("utf-8").splitlines()
        if line.startswith("SystemCallFilter=")
    ]
    allowed: set[str] = set()
    for line in lines:
        named = set[str]().union(*(system_calls(group) for group in line.removeprefix("~").split()))
        allowed = allowed - named if line.startswith("~") else allowed | named
    needed = {
        "io_setup", "io_submit", "io_getevents", "fdatasync", "flock", "prlimit64", "setpriority",
        "sched_setscheduler", "memfd_create", "execve", "kill",
    }  # fmt: skip
    assert needed <= allowed
    assert not {"ptrace", "mount", "chroot", "bpf", "setuid"} & allowed


async def test_the_container_is_healthy_while_the_gate_answers(tmp_path: Path) -> None:
    text = (DEPLOY / "container" / "Containerfile").read_text("utf-8")
    found = re.search(r"^HEALTHCHECK .*\\\n *CMD (\[.*\])$", text, re.MULTILINE)
    default = re.search(r"^ENV DIALGATE_HEALTH=(\S+)$", text, re.MULTILINE)
    assert found
    assert default
    program, *words = yaml.safe_load(found[1])
    assert program == "python"

    async def checked(port: int) -> int:
        environment = {"DIALGATE_HEALTH": default[1].replace("8080", str(port))}
        done = await asyncio.create_subprocess_exec(
            sys.executable, *words, env=environment, stderr=asyncio.subprocess.DEVNULL
        )
        return await done.wait()

    async with world.running(tmp_path) as made:
        assert await checked(made.port) == 0
    assert await checked(made.port) != 0


def test_the_image_is_built_from_the_programs_alone() -> None:
    """Neither keys nor history may get into it."""
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text("utf-8"))
    lines = (DEPLOY.parent / ".dockerignore").read_text("utf-8").splitlines()
    first, *others = [line for line in lines if line and not line.startswith("#")]
    packages = {each.rstrip("*") for each in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    needed = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"], *packages}
    assert first == "*"
    assert {line[1:] for line in others if line.startswith("!")} == needed
    assert {"**/*.so", "**/__pycache__"} <= set(others)


def manifests() -> list[dict[str, Any]]:
    return [
        each
        for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
        if path.name != "kustomization.yaml"
        for each in yaml.safe_load_all(path.read_text("utf-8"))
    ]


def pods() -> dict[str, dict[str, Any]]:
    """The pod templates, by the label `app`."""
    found = [each["spec"] for each in manifests() if each["kind"] in {"StatefulSet", "CronJob"}]
    templates = [spec.get("template") or spec["jobTemplate"]["spec"]["template"] for spec in found]
    return {each["metadata"]["labels"]["app"]: each["spec"] for each in templates}


def test_no_pod_has_a_token_of_the_cluster_and_each_has_its_policy() -> None:
    assert set(pods()) == {"dialgate", "registry-sync"}
    assert [spec["automountServiceAccountToken"] for spec in pods().values()] == [False, False]
    policies = [each["spec"] for each in manifests() if each["kind"] == "NetworkPolicy"]
    assert {each["podSelector"]["matchLabels"]["app"] for each in policies} == set(pods())
    assert all(each["policyTypes"] == ["Ingress", "Egress"] for each in policies)
    for spec in policies:
        (container,) = pods()[spec["podSelector"]["matchLabels"]["app"]]["containers"]
        names = {port["name"] for port in container.get("ports", ())}
        opened = {port["port"] for rule in spec.get("ingress", ()) for port in rule["ports"]}
        assert opened == names
        assert all(rule["from"] for rule in spec.get("ingress", ()))
        assert all(rule["to"] and rule["ports"] for rule in spec["egress"])


def test_every_manifest_is_applied() -> None:
    folder = DEPLOY / "kubernetes"
    applied = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))["resources"]
    assert set(applied) == {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
