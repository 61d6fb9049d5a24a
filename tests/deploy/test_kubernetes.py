"""The files in `deploy/kubernetes`: valid for Kubernetes, consistent, and two gates work with what they contain.

Nothing here runs in a cluster. kustomize renders the files as the page says. The pods are folders, with the links of the kubelet; the
commands of their containers run as they are, with the paths and addresses of this machine.
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import kubernetes_validate
import msgspec
import pytest
import yaml
from aiohttp import ClientError, ClientSession, ClientTimeout
from typer.main import get_command

from dialgate.core.model import DAY
from dialgate.interfaces.cli.main import app
from dialgate.interfaces.http.operations import OPERATIONS
from dialgate.runtime.clock import wall_clock
from docs.reference_pages import PROMETHEUS_RULE, prometheus_rule
from registry_sync.cli import app as registry_app
from tests.support import redis_servers, world, yaml_files
from tests.support.paths import ROOT
from tests.support.ports import free_port

FOLDER = ROOT / "deploy" / "kubernetes"
PAGE = (FOLDER / "README.md").read_text("utf-8")
VERSIONS = ("1.29", "1.33", "1.37")
OPERATOR = {
    "ServiceMonitor",
    "PrometheusRule",
}  # of the Prometheus Operator, whose schemas are not in the package
GATES = ("dialgate-0", "dialgate-1")
SHARED = ("published", "shipped")
STOPPED = "+390612345670"
UNKNOWN = "+390612345671"  # the registry has not been asked about it

Manifest = dict[str, Any]

pytestmark = pytest.mark.skipif(not shutil.which("kustomize"), reason="needs kustomize")


def shell_block(heading: str) -> list[str]:
    """Return the lines of the first block of commands under a heading of the page."""
    match = re.search(rf"^## {heading}\n.*?^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert match
    return match[1].splitlines()


def run(
    words: list[str] | str,
    folder: Path,
    environment: Mapping[str, str] = {},
    statuses: tuple[int, ...] = (0,),
) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        words if isinstance(words, list) else ["sh", "-ec", words],
        cwd=folder, env={"PATH": path, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in statuses, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """What `kubectl apply -k ours` sends, with the configuration copied as the page says."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("deploy", "config"):
        (folder / name).symlink_to(ROOT / name)
    run("\n".join(shell_block("Configure")), folder)
    return list(yaml.safe_load_all(run(["kustomize", "build", "ours"], folder)))


def of_kind(manifests: list[Manifest], kind: str, name: str = "dialgate") -> Manifest:
    (match,) = (item for item in manifests if item["kind"] == kind and item["metadata"]["name"] == name)
    return match


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Return the specification of the pods by their label `app`."""
    specs = [item["spec"] for item in manifests if item["kind"] in {"StatefulSet", "CronJob"}]
    templates = [spec.get("template") or spec["jobTemplate"]["spec"]["template"] for spec in specs]
    return {item["metadata"]["labels"]["app"]: item["spec"] for item in templates}


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod["initContainers"], *pod["containers"]]


def container(manifests: list[Manifest], name: str) -> Manifest:
    (match,) = (item for pod in pods(manifests).values() for item in containers(pod) if item["name"] == name)
    return match


def settings(manifests: list[Manifest]) -> dict[str, Any]:
    return dict(yaml.safe_load(files(manifests, "dialgate-settings")["dialgate.yaml"]))


def files(manifests: list[Manifest], prefix: str) -> dict[str, str]:
    (match,) = (
        item["data"]
        for item in manifests
        if item["kind"] == "ConfigMap" and re.fullmatch(rf"{prefix}(-[a-z0-9]{{10}})?", item["metadata"]["name"])
    )  # fmt: skip
    return dict(match)


# ---- the schemas -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid_for_kubernetes(manifests: list[Manifest], version: str) -> None:
    known = [item for item in manifests if item["kind"] not in OPERATOR]
    assert {"StatefulSet", "CronJob", "PodDisruptionBudget", "NetworkPolicy", "Service"} <= {
        item["kind"] for item in known
    }
    for item in known:
        kubernetes_validate.validate(item, version, strict=True)


def test_the_schemas_find_a_wrong_value_and_an_unknown_field(manifests: list[Manifest]) -> None:
    gates = of_kind(manifests, "StatefulSet")
    for change in ({"replicas": "two"}, {"replica": 2}):
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(gates | {"spec": gates["spec"] | change}, VERSIONS[-1], strict=True)


def test_every_file_is_applied(manifests: list[Manifest]) -> None:
    applied = {(item["kind"], item["metadata"]["name"]) for item in manifests}
    for path in [*(FOLDER / "base").glob("*.yaml"), *(FOLDER / "monitoring").glob("*.yaml")]:
        for item in yaml.safe_load_all(path.read_text("utf-8")):
            if path.name != "kustomization.yaml":
                assert (item["kind"], item["metadata"]["name"]) in applied
    for name in ("controllers", "webhooks"):  # of the countries only those that the controllers call
        assert files(manifests, f"dialgate-{name}").keys() == {
            path.name for path in (ROOT / "config" / name).glob("*.yaml")
        }


# ---- what belongs together -------------------------------------------------------------------------------------------


def test_gates_have_distinct_names_at_which_their_peers_reach_them(manifests: list[Manifest]) -> None:
    gates, configured = of_kind(manifests, "StatefulSet"), settings(manifests)
    service = of_kind(manifests, "Service", gates["spec"]["serviceName"])
    (port,) = service["spec"]["ports"]
    names = [f"{gates['metadata']['name']}-{place}" for place in range(gates["spec"]["replicas"])]
    assert tuple(names) == GATES
    assert configured["node"] == "${POD_NAME}"
    assert configured["peers"] == {
        name: f"http://{name}.{service['metadata']['name']}:{port['port']}" for name in names
    }
    assert configured["hosts"] == [f"{name}.{service['metadata']['name']}" for name in names]
    assert configured["operations"]["port"] == port["port"]
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)


def test_everything_that_a_pod_names_exists(manifests: list[Manifest]) -> None:
    gates = of_kind(manifests, "StatefulSet")
    claims = {item["metadata"]["name"] for item in manifests if item["kind"] == "PersistentVolumeClaim"}
    own = {item["metadata"]["name"] for item in gates["spec"]["volumeClaimTemplates"]}
    claims |= {f"{name}-{gate}" for name in own for gate in GATES}
    maps = {item["metadata"]["name"] for item in manifests if item["kind"] == "ConfigMap"}
    made = set(re.findall(r"create secret generic (\S+)", PAGE))
    for label, pod in pods(manifests).items():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounted = {mount["name"] for item in containers(pod) for mount in item["volumeMounts"]}
        assert mounted == volumes.keys() | (own if label == "dialgate" else set())
        for volume in volumes.values():
            assert volume.get("configMap", {"name": next(iter(maps))})["name"] in maps
            assert (
                volume.get("persistentVolumeClaim", {"claimName": next(iter(claims))})["claimName"] in claims
            )
            secret = volume.get("secret", {})
            assert not secret or secret["secretName"] in made or secret["optional"]
        assert {item["image"] for item in containers(pod)} == {"registry.example/dialgate:1"}


def test_every_command_and_option_exists(manifests: list[Manifest]) -> None:
    seen = set()
    for item in (item for pod in pods(manifests).values() for item in containers(pod)):
        program, *words = item["command"]
        if program in {"sh", "mkdir"}:
            continue
        seen.add(item["name"])
        command: Any = get_command({"dialgate": app, "registry-sync": registry_app}[program])
        while hasattr(command, "get_command"):
            command = command.get_command(None, words.pop(0))
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options
    assert seen == {"check", "gate", "pull", "ship", "registry-sync"}


def test_pods_are_confined_and_may_run_where_the_restricted_standard_is_enforced(
    manifests: list[Manifest],
) -> None:
    image = (ROOT / "deploy/container/Containerfile").read_text("utf-8")
    for pod in pods(manifests).values():
        security = pod["securityContext"]
        assert security["runAsNonRoot"]
        user = f"{security['runAsUser']}:{security['runAsGroup']}"
        assert f"USER {user}\n" in image  # otherwise `kubectl exec` has the group 0
        assert "-o {} -g {} -m 0700 /var/lib/dialgate".format(*user.split(":")) in image
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod["automountServiceAccountToken"]
        for item in containers(pod):
            assert item["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= item["resources"]["requests"].keys()
            assert "memory" in item["resources"]["limits"]


def test_only_the_init_container_sees_the_common_keys_and_only_the_job_writes_answers(
    manifests: list[Manifest],
) -> None:
    def mounts(name: str) -> dict[str, bool]:
        return {
            mount["mountPath"]: mount.get("readOnly", False)
            for mount in container(manifests, name)["volumeMounts"]
        }

    assert mounts("keys")["/etc/dialgate/keys"]
    for name in ("check", "gate", "pull", "ship", "registry-sync"):
        assert "/etc/dialgate/keys" not in mounts(name)
        assert "/etc/dialgate/secrets" not in mounts(name) or mounts(name)["/etc/dialgate/secrets"]
    assert "/var/lib/published" not in mounts("gate")
    assert mounts("gate")["/var/lib/shipped"]
    assert not mounts("ship")["/var/lib/shipped"]


def test_a_gate_that_stops_has_time_to_be_left_and_to_answer(manifests: list[Manifest]) -> None:
    gate, drain = container(manifests, "gate"), settings(manifests)["listen"]["drain_seconds"]
    ready = gate["readinessProbe"]
    assert ready["periodSeconds"] * ready["failureThreshold"] < drain
    grace = pods(manifests)["dialgate"]["terminationGracePeriodSeconds"]
    assert grace >= drain + 10 + 10  # ten seconds for the last answers
    ports = {port["containerPort"]: port["name"] for port in gate["ports"]}
    probes = {name: gate[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert {probe["port"] for probe in probes.values()} == {ports[settings(manifests)["operations"]["port"]]}
    assert {probe["path"] for probe in probes.values()} <= {
        item.path for item in OPERATIONS.endpoints if not item.scope
    }
    assert (probes["readinessProbe"]["path"], probes["livenessProbe"]["path"]) == ("/readyz", "/healthz")


def test_each_pod_has_a_policy_that_opens_its_ports_only(manifests: list[Manifest]) -> None:
    policies = [item["spec"] for item in manifests if item["kind"] == "NetworkPolicy"]
    assert {item["podSelector"]["matchLabels"]["app"] for item in policies} == pods(manifests).keys()
    for spec in policies:
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        pod = pods(manifests)[spec["podSelector"]["matchLabels"]["app"]]
        ports = {port["name"] for item in pod["containers"] for port in item.get("ports", ())}
        assert {port["port"] for rule in spec.get("ingress", ()) for port in rule["ports"]} == ports
        assert all(rule["from"] for rule in spec.get("ingress", ()))
        assert all(rule["to"] and rule["ports"] for rule in spec["egress"])


def test_prometheus_scrapes_each_gate_once_under_the_job_of_the_rules(manifests: list[Manifest]) -> None:
    monitor = of_kind(manifests, "ServiceMonitor")["spec"]
    (endpoint,) = monitor["endpoints"]
    services = [item for item in manifests if item["kind"] == "Service"]
    scraped = [
        item["metadata"]
        for item in services
        if item["metadata"]["labels"].items() >= monitor["selector"]["matchLabels"].items()
        and endpoint["port"] in {port["name"] for port in item["spec"]["ports"]}
    ]
    assert [item["name"] for item in scraped] == [
        "gates"
    ]  # not `dialgate`, which hides gates that are not ready
    rules = (ROOT / "deploy/prometheus/dialgate.rules.yml").read_text("utf-8")
    assert set(re.findall(r'job="(dialgate\w*)"', rules)) == {scraped[0]["labels"][monitor["jobLabel"]]}


def test_the_rules_are_those_of_prometheus(manifests: list[Manifest]) -> None:
    assert PROMETHEUS_RULE.read_text("utf-8") == prometheus_rule(), "run `make reference`"
    assert of_kind(manifests, "PrometheusRule")["spec"] == yaml_files.read(
        ROOT / "deploy/prometheus/dialgate.rules.yml"
    )


# ---- two gates from these files --------------------------------------------------------------------------------------


class Pod:
    """A folder with what the kubelet mounts, and the programs of the containers."""

    def __init__(
        self, folder: Path, name: str, manifests: list[Manifest], addresses: Mapping[str, str]
    ) -> None:
        self.folder, self.name, self.manifests = folder / name, name, manifests
        self.url = addresses[f"{name} http"]
        self.operations = addresses[f"{name} operations"]
        self._addresses, self._shared = addresses, folder
        self.data = self.folder / "data"
        self.data.mkdir(parents=True)
        (self.folder / "tmp").mkdir()
        for kind in ("settings", "countries", "controllers", "webhooks"):
            self._mount(kind, files(manifests, f"dialgate-{kind}"))

    def mount_secrets(self, secrets: Path) -> None:
        for kind, names in {
            "secrets": ("store.url", "dialer.key.sha256", "supervisor.key.sha256"),
            "keys": ("keys.json",),
        }.items():
            self._mount(kind, {name: (secrets / name).read_text("utf-8") for name in names})

    def _mount(self, kind: str, contents: Mapping[str, str]) -> None:
        """Write a ConfigMap or Secret as the kubelet does: each file is a link into a folder that is itself a link."""
        folder = self.folder / "etc" / kind
        (folder / "..2026_12_02").mkdir(parents=True)
        (folder / "..data").symlink_to("..2026_12_02")
        for name, text in contents.items():
            (folder / "..2026_12_02" / name).write_text(self._here(text), "utf-8")
            (folder / name).symlink_to(f"..data/{name}")

    def _here(self, text: str) -> str:
        """Replace the paths in the pod by those in its folder, and the addresses in the cluster by those of this machine."""
        text = text.replace(
            "{host: 0.0.0.0, port: 8080", "{host: 127.0.0.1, port: " + self.url.rpartition(":")[2]
        )
        text = text.replace(
            "{host: 0.0.0.0, port: 9464", "{host: 127.0.0.1, port: " + self.operations.rpartition(":")[2]
        )
        for gate in GATES:
            text = text.replace(f"http://{gate}.gates:9464", self._addresses[f"{gate} operations"])
        text = text.replace("/etc/dialgate/", f"{self.folder}/etc/")
        for name in SHARED:
            text = text.replace(f"/var/lib/{name}", str(self._shared / name))
        return text.replace("/var/lib/dialgate", str(self.data))

    def words(self, name: str) -> tuple[list[str], Path, dict[str, str]]:
        """Return the command of a container, its working folder and its environment."""
        item = container(self.manifests, name)
        environment = {
            variable["name"]: self._here(variable["value"])
            if "value" in variable
            else {"metadata.name": self.name}[variable["valueFrom"]["fieldRef"]["fieldPath"]]
            for variable in item.get("env", ())
        }
        folder = Path(self._here(item["workingDir"])) if "workingDir" in item else self.folder
        return [self._here(word) for word in item["command"]], folder, environment

    def initialise(self) -> None:
        for item in pods(self.manifests)["dialgate"]["initContainers"]:
            words, folder, environment = self.words(item["name"])
            run(words, folder, environment)

    def execute(self, *words: str) -> str:
        """Run a command in the default container, as `kubectl exec` does.

        The exit status of `nodes` is 1 here, because the files of the two gates differ in paths and ports.
        """
        _, folder, environment = self.words("gate")
        return run(list(words), folder, environment, (0, 1))

    async def start(self, name: str) -> asyncio.subprocess.Process:
        words, folder, environment = self.words(name)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with (self.folder / f"{name}.log").open("w") as log:
            return await asyncio.create_subprocess_exec(
                *words, cwd=folder, env={"PATH": path, **environment}, stdout=log, stderr=log
            )


@pytest.fixture
def two_pods(manifests: list[Manifest], tmp_path: Path) -> list[Pod]:
    addresses = {
        f"{gate} {port}": f"http://127.0.0.1:{free_port()}"
        for gate in GATES
        for port in ("http", "operations")
    }
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    run("\n".join(line for line in shell_block("Make the secrets") if "kubectl" not in line), secrets)
    (secrets / "store.url").write_text(redis_servers.alone(), "utf-8")
    for name in SHARED:
        (tmp_path / name).mkdir()
    world.publish_answers(tmp_path / "job", world.ANSWERS | {STOPPED: False}, wall_clock() - DAY)
    shutil.copytree(tmp_path / "job/snapshots", tmp_path / "published", dirs_exist_ok=True)
    pods_ = [Pod(tmp_path, gate, manifests, addresses) for gate in GATES]
    for pod in pods_:
        pod.mount_secrets(secrets)
        pod.initialise()
    return pods_


def test_init_containers_copy_the_common_keys_once_and_need_the_name_of_the_pod(two_pods: list[Pod]) -> None:
    first, second = (pod.data / "keys.json" for pod in two_pods)
    assert first.read_bytes() == second.read_bytes()
    assert {oct(path.stat().st_mode & 0o777) for path in (first, second)} == {"0o600"}
    assert msgspec.json.decode(first.read_bytes()).keys() == {"format", "subject"}
    first.write_text("changed by the gate")
    two_pods[0].initialise()
    assert first.read_text() == "changed by the gate"
    assert not (first.parent / "keys.json.new").exists()
    # The same pod without its name.
    words, folder, environment = two_pods[0].words("check")
    with pytest.raises(AssertionError, match="the environment variable POD_NAME is not set"):
        run(words, folder, {name: value for name, value in environment.items() if name != "POD_NAME"})


@asynccontextmanager
async def running(two: list[Pod]) -> AsyncIterator[None]:
    """Run the containers of the pods. At the end, each must stop by itself."""
    names = [item["name"] for item in pods(two[0].manifests)["dialgate"]["containers"]]
    started = [await pod.start(name) for pod in two for name in names]
    try:
        yield
        for process in started:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert {await process.wait() for process in started} == {0}
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                process.kill()


def run_job(pod: Pod) -> None:
    """Run the nightly job on the volume of a pod. It publishes nothing, because no answer has arrived."""
    words, folder, environment = pod.words("registry-sync")
    run(words, folder, environment)


async def until(condition: Callable[..., Awaitable[bool]], *values: object) -> None:
    async with asyncio.timeout(60):
        while not await condition(*values):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.1)


@pytest.mark.torture
@pytest.mark.skipif(not shutil.which("redis-server"), reason="needs redis-server")
async def test_a_stop_on_one_gate_binds_on_the_other_and_each_finds_its_peer(
    two_pods: list[Pod], tmp_path: Path
) -> None:
    first, second = two_pods
    keys = {
        name: {"Authorization": f"Bearer {(tmp_path / f'secrets/{name}.key').read_text().strip()}"}
        for name in ("dialer", "supervisor")
    }
    async with running(two_pods), ClientSession(timeout=ClientTimeout(total=10)) as client:

        async def is_ready(pod: Pod) -> bool:
            with suppress(ClientError):
                async with client.get(f"{pod.operations}/readyz") as response:
                    return response.status == 200
            return False

        async def check(pod: Pod, number: str) -> tuple[str, list[str]]:
            body = {"to": number, "from": world.CALLER, "campaign": "acme-fibre"}
            async with client.post(f"{pod.url}/v1/check", json=body, headers=keys["dialer"]) as response:
                answer = await response.json()
            return answer["decision"], [reason["code"] for reason in answer.get("reasons", ())]

        async def is_allowed(pod: Pod, number: str) -> bool:
            return (await check(pod, number))[0] == "allow"

        async def post(pod: Pod, path: str, body: Mapping[str, Any]) -> None:
            async with client.post(pod.url + path, json=body, headers=keys["supervisor"]) as response:
                assert response.status == 201, await response.text()

        async def is_shipped() -> bool:
            return {path.name for path in (tmp_path / "shipped").iterdir()} >= set(GATES)

        for pod in two_pods:
            await until(is_ready, pod)
        for pod, other, number in ((first, second, STOPPED), (second, first, world.CLEAR)):
            # Each gate fetches the list of the other, and denies the number until then.
            await post(pod, "/v1/lists", world.LIST | {"id": pod.name, "numbers": [number]})
            await until(is_allowed, other, number)
        await post(first, "/v1/revocations", {"number": STOPPED})
        verdict, codes = await check(second, STOPPED)
        assert (verdict, codes[0].partition(".")[0]) == ("deny", "revocation")
        assert await is_allowed(second, world.CLEAR)
        for pod in two_pods:
            shown = await asyncio.to_thread(pod.execute, "dialgate", "nodes", "--json")
            assert [node["node"] for node in msgspec.json.decode(shown)["nodes"]] == list(GATES)
        await post(first, "/v1/lists", world.LIST | {"id": "new", "numbers": [UNKNOWN]})
        await asyncio.to_thread(run_job, first)
        (package,) = (first.data / "rpo/outbox").iterdir()
        with ZipFile(package) as archive:
            assert archive.read("numbers.txt").split() == [UNKNOWN.removeprefix("+39").encode()]
        await until(is_shipped)
    logs = [msgspec.json.decode((pod.data / "keys.json").read_bytes())["log"] for pod in two_pods]
    assert logs[0] != logs[1]
