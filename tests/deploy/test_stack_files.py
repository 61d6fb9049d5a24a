"""The files of `deploy/stack`: the Compose file is valid and confined, and its services, settings and page match each other."""

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dialgate.config import loader
from docs.reference_pages import COMMANDS
from registry_sync.config import Registries
from tests.support import redis_servers, yaml_files
from tests.support.paths import ROOT

STACK = ROOT / "deploy" / "stack"
COMPOSE = STACK / "compose.yaml"
SERVICES: dict[str, Any] = yaml_files.read(COMPOSE)["services"]
PAGE = (STACK / "README.md").read_text("utf-8")
PREPARE = runpy.run_path(str(STACK / "prepare.py"))


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="needs docker-compose")
def test_compose_accepts_the_file_and_its_linter_finds_nothing() -> None:
    for words in (
        ["docker-compose", "-f", str(COMPOSE), "config", "--quiet"],
        [sys.executable, "-m", "compose_lint", "--fail-on", "low", str(COMPOSE)],
    ):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_service_is_confined_and_reached_only_from_this_machine(name: str) -> None:
    service = SERVICES[name]
    assert (service["read_only"], service["cap_drop"], service["ulimits"]) == (True, ["ALL"], {"core": 0})
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"] == service["memswap_limit"]
    assert "@sha256:" in service.get("image", "") or service["build"] == SERVICES["gate-1"]["build"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_new_volumes_belong_to_the_user_of_the_containers() -> None:
    """A new volume takes its owner from the folder of the image that it covers."""
    container = (ROOT / "deploy/container/Containerfile").read_text("utf-8")
    match = re.search(
        r"for name in ([^;]*); do install -d -o 10001 -g 10001 -m 0700 /stack/\$name", container
    )
    assert match
    covered = dict(volume.split(":")[:2] for volume in SERVICES["prepare"]["volumes"] if volume[0] != ".")
    assert set(covered.values()) == {f"/stack/{name}" for name in match[1].replace("\\\n", " ").split()}
    assert covered.keys() == yaml_files.read(COMPOSE)["volumes"].keys()
    assert {service["user"] for service in SERVICES.values()} == {"10001:10001"}


def test_compose_has_the_addresses_of_the_files() -> None:
    for name, address in PREPARE["ADDRESSES"].items():
        assert SERVICES[name]["networks"]["store"]["ipv4_address"] == address.split(":")[0]
    sentinels = [PREPARE["ADDRESSES"][name] for name in PREPARE["SENTINELS"]]
    for name in PREPARE["REDIS"]:
        host, port = PREPARE["ADDRESSES"][name].split(":")
        assert SERVICES[name]["command"][2:] == [f"/stack/{name}", host, port, *sentinels]
    proxy = SERVICES["haproxy"]["networks"]["front"]["ipv4_address"]
    assert f"trusted_proxies: [{proxy}/32]" in (STACK / "gate-1.yaml").read_text("utf-8")


def test_redis_gives_the_gates_the_rights_of_the_guide() -> None:
    rights = [word for word in redis_servers.allowed("dialgate") if not word.startswith("~")]
    assert PREPARE["RIGHTS"].split() == rights


def test_gates_and_their_job_have_valid_settings(tmp_path: Path) -> None:
    for name in ("countries", "controllers", "webhooks"):
        (tmp_path / name).symlink_to(ROOT / "config" / name)
    settings = []
    for gate in PREPARE["GATES"]:
        text = (STACK / f"{gate}.yaml").read_text("utf-8")
        text = re.sub(
            r"key_sha256_file: .*/(\w)\w*\.key.*",
            lambda key: f"key_sha256: '{key[1].encode().hex() * 32}'",
            text,
        )
        text = re.sub(r"url_file: .*", "url: redis://127.0.0.1:6379", text)
        (tmp_path / "dialgate.yaml").write_text(text, "utf-8")
        settings.append(loader.load(tmp_path / "dialgate.yaml").settings)
    first, second = map(msgspec.to_builtins, settings)
    different = {key for key in first if first[key] != second[key]}
    assert different == {"node", "shipping"}
    assert set(first["peers"]) == {first["node"], second["node"]}
    msgspec.convert(yaml_files.read(STACK / "registries.yaml"), Registries)


def test_haproxy_notices_a_gate_that_stops_before_the_gate_closes() -> None:
    text = (STACK / "haproxy.cfg").read_text("utf-8")
    match = re.search(r"inter (\d+)s fastinter (\d+)ms fall (\d+)", text)
    assert match
    noticed = int(match[1]) + int(match[2]) / 1000 * (int(match[3]) - 1)
    drain = yaml_files.read(STACK / "gate-1.yaml")["listen"]["drain_seconds"]
    assert noticed < drain / 2  # a slow machine must not change it


def test_prometheus_and_grafana_differ_from_the_shipped_ones_in_addresses_only() -> None:
    ours, shipped = (
        yaml_files.read(ROOT / f"deploy/{name}/prometheus.yml") for name in ("stack", "prometheus")
    )
    jobs = {job["job_name"] for job in ours["scrape_configs"]}
    assert jobs - {"haproxy"} == {job["job_name"] for job in shipped["scrape_configs"]}
    assert ours["rule_files"] == shipped["rule_files"]
    (source,) = yaml_files.read(STACK / "grafana-datasource.yaml")["datasources"]
    (other,) = yaml_files.read(ROOT / "deploy/grafana/provisioning/datasources/dialgate.yaml")["datasources"]
    assert source | {"url": other["url"]} == other


def compose_commands() -> list[list[str]]:
    lines = re.findall(r"^docker compose -f deploy/stack/compose.yaml (.*)$", PAGE, re.MULTILINE)
    return [shlex.split(line) for line in lines]


def test_compose_commands_on_the_page_name_services_and_commands_that_exist() -> None:
    assert len(compose_commands()) >= 8
    for words in compose_commands():
        named = {
            word
            for word in words
            if re.fullmatch(r"(?:gate|ship|redis|sentinel)-\d|haproxy|registry-sync", word)
        }
        assert named <= SERVICES.keys()
        if "dialgate" in words:
            command = words[words.index("dialgate") + 1 :]
            options = {
                option
                for parameter in COMMANDS[f"dialgate {command[0]} {command[1]}"].params
                for option in parameter.opts
            }
            assert {word for word in command if word.startswith("--")} <= options
