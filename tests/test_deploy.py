"""What is shipped to run the gate with starts commands that are there, with options that they have, and is what systemd reads."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from dialgate.interfaces.cli import app
from dialgate.interfaces.http_operations import OPERATIONS
from tests.test_registry_deploy import DEPLOY, unit


def kubernetes() -> dict[str, Any]:
    every = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "dialgate.yaml").read_text("utf-8")))
    (found,) = (each for each in every if each["kind"] == "StatefulSet")
    pod: dict[str, Any] = found["spec"]["template"]["spec"]
    return pod


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


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
@pytest.mark.parametrize(
    "name", ["dialgate.service", "dialgate-ship.service", "registry-sync.service", "registry-sync.timer"]
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
