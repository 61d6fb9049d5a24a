"""Publications: differences, rollback and signature; and the commands `run`, `status`, `pull` and `simulate`."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner

from dialgate.core.model import DAY
from dialgate.crypto.publisher_signature import SigningKeyUnusable, SnapshotSigner, is_signed
from dialgate.lists.manifest import read_manifest, signed_text
from registry_sync.cli import app
from registry_sync.simulator import is_enrolled
from tests.bench import ROOT
from tests.registry_sync.test_registry_lists import US, ListJob, us_lines
from tests.support import commands
from tests.support.commands import Done
from tests.support.registry_world import NUMBERS, JobWorld, load_list

LISTED = next(number for number in NUMBERS if is_enrolled(number[3:]))


def run_command(job: JobWorld, *words: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, [*words, "--json", "--registries", str(job.path)])
    return done.exit_code, json.loads(done.stdout or "{}")


async def publish_twice(job: JobWorld) -> None:
    """Publish twice: first with no number enrolled, then with the simulator's enrolments."""
    await load_list(job)
    job.registry.is_enrolled = lambda _: False
    await job.run_once()
    await job.answer_and_run()
    job.registry.is_enrolled = is_enrolled
    job.clock.at += 13 * DAY
    await job.run_once()
    await job.answer_and_run()
    release_all(job)
    await job.run_once()


def release_all(job: JobWorld) -> None:
    for path in (job.plan.snapshots / "held").iterdir():
        for actor in ("maria", "paolo"):
            assert run_command(job, "release", path.stem, "--actor", actor)[0] == 0


async def test_rollback_without_an_earlier_publication_is_refused_and_status_fits_80_columns(
    tmp_path: Path,
) -> None:
    job = JobWorld(tmp_path, numbers_a_year=400_000)
    await load_list(job)
    await job.run_once()
    await job.answer_and_run()
    assert run_command(job, "rollback") == (
        1,
        {
            "error": {
                "code": "refused",
                "message": "there is no earlier publication",
                "field": "",
            }
        },
    )
    shown = CliRunner().invoke(app, ["status", "--registries", str(job.path)], env={"COLUMNS": "80"}).stdout
    heading = ("registry", "consulted", "numbers", "due", "sent", "waiting", "answered", "listed")
    assert any(all(word in line for word in heading) for line in shown.splitlines())
    assert any(all(word in line for word in ("rpo / acme", "300", "400,000")) for line in shown.splitlines())


async def test_diff_counts_changed_answers(tmp_path: Path) -> None:
    job = JobWorld(tmp_path)
    await publish_twice(job)
    status, report = run_command(job, "diff")
    (difference,) = report["differences"]
    turned = sum(is_enrolled(number[3:]) for number in NUMBERS)
    assert status == 0
    assert (
        difference["newly_listed"],
        difference["newly_clear"],
        difference["added"],
        difference["before"],
    ) == (
        turned,
        0,
        0,
        300,
    )
    assert len(difference["consultations"]) == 3
    assert (
        "no earlier publication has version 'nothing'. Available versions: "
        in run_command(job, "diff", "--from", "nothing")[1]["error"]["message"]
    )
    assert run_command(job, "diff", "--from", "nothing")[0] == 1


async def test_rollback_that_frees_listed_numbers_needs_a_release_by_two_people(tmp_path: Path) -> None:
    job = JobWorld(tmp_path)
    await publish_twice(job)
    first = run_command(job, "diff")[1]["from"]
    before = job.published_files()
    status, report = run_command(job, "rollback")
    assert status == 1
    assert "would permit calls to" in report["error"]["message"]
    assert job.published_files() == before
    release_all(job)
    assert run_command(job, "rollback")[0] == 0
    assert read_manifest(job.plan.snapshots).version == first
    assert job.answer_for(LISTED).answer == "clear"
    # The second rollback undoes the first, and frees no number.
    assert run_command(job, "rollback")[0] == 0
    assert job.answer_for(LISTED).answer == "listed"


async def test_full_list_is_compared_and_rolled_back(tmp_path: Path) -> None:
    job = ListJob(tmp_path, **(US | {"max_added": 100}))
    job.put("2026-11-20_407_a.txt", us_lines(407, *range(1000)))
    await job.run_once()
    job.put("2026-11-21_407_a.txt", us_lines(407, *range(500, 1600)))
    await job.run_once()
    (difference,) = run_command(job, "diff")[1]["differences"]
    assert (difference["before"], difference["after"], difference["added"], difference["removed"]) == (
        1000,
        1100,
        600,
        500,
    )
    assert run_command(job, "rollback")[0] == 1
    release_all(job)
    assert run_command(job, "rollback")[0] == 0
    assert job.lookup(14070000000) == ("listed", 0)


async def test_rollback_to_a_damaged_publication_is_refused(tmp_path: Path) -> None:
    job = JobWorld(tmp_path)
    await publish_twice(job)
    old = read_manifest(job.plan.snapshots)
    paths = sorted(job.plan.snapshots.glob("*.numbers"), key=lambda path: path.stat().st_mtime_ns)
    paths[0].write_bytes(paths[0].read_bytes()[:-1])
    assert run_command(job, "rollback")[0] == 1
    assert read_manifest(job.plan.snapshots) == old


def write_key(path: Path) -> Path:
    private = Ed25519PrivateKey.generate()
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    return path


async def test_a_new_signing_key_signs_the_current_publication_once(tmp_path: Path) -> None:
    """Without this, nodes that demand the signature would refuse the publication until the next change."""
    job = JobWorld(tmp_path)
    await publish_twice(job)
    unsigned, before = read_manifest(job.plan.snapshots), job.published_files()
    write_key(tmp_path / "signing.pem")
    job.configure(signing_key_file="signing.pem")
    await job.run(dry=True)
    assert job.published_files() == before
    await job.run_once()
    signed = read_manifest(job.plan.snapshots)
    assert is_signed(
        signed_text(unsigned), signed.signature, SnapshotSigner.open(tmp_path / "signing.pem").public
    )
    assert msgspec.structs.replace(signed, signature="") == unsigned
    after = job.published_files()
    assert {name for name in before if before[name] != after[name]} == {"manifest.json"}
    written = (job.plan.snapshots / "manifest.json").stat().st_mtime_ns
    await job.run_once()
    assert (job.plan.snapshots / "manifest.json").stat().st_mtime_ns == written


async def test_a_signing_key_creates_no_publication(tmp_path: Path) -> None:
    job = JobWorld(tmp_path)
    await load_list(job)
    write_key(tmp_path / "signing.pem")
    job.configure(signing_key_file="signing.pem")
    await job.run_once()
    assert not (job.plan.snapshots / "manifest.json").exists()


def test_invalid_signing_key_is_refused_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("-----BEGIN NOTHING-----")
    for path in (tmp_path / "key", tmp_path / "none"):
        with pytest.raises(SigningKeyUnusable, match="openssl genpkey -algorithm ed25519"):
            SnapshotSigner.open(path)


# ---- the commands ----------------------------------------------------------------------------------------------------


def program(job: JobWorld, *words: str) -> Done:
    environment = os.environ | {"COLUMNS": "300"}
    return commands.run_command("registry-sync", *words, "--registries", job.path, environment=environment)


async def test_exit_status_of_run_shows_alarms(tmp_path: Path) -> None:
    """0 without alarms, 1 with alarms."""
    job = JobWorld(tmp_path)
    await load_list(job)
    status, out, err = program(job, "run", "--once", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["parts"][0]["submitted"] == 300
    job.registry.fault = "partial"
    job.registry.work()
    status, out, _ = program(job, "run", "--once", "--json")
    assert status == 1
    assert "answer_faulty" in {alarm["kind"] for alarm in json.loads(out)["parts"][0]["alarms"]}
    job.registry.fault = ""
    for package in job.packages():
        job.answer_again(package)
    assert program(job, "run", "--once")[0] == 0
    status, out, _ = program(job, "status", "--json")
    state = json.loads(out)
    assert (status, state["held"]) == (0, [])
    assert {package["state"] for package in state["packages"]} == {"answered"}
    assert not any(number[3:] in out for number in NUMBERS)


async def test_tables_show_packages_and_alarms(tmp_path: Path) -> None:
    job = JobWorld(tmp_path)
    await load_list(job)
    assert program(job, "status")[0] == 1
    status, out, _ = program(job, "run", "--dry-run")
    assert (status, "dry run of" in out, "alarms" in out) == (0, True, False)
    await job.run_once()  # the clock shows an instant in the past
    status, out, _ = program(job, "status")
    assert (status, "submitted" in out) == (0, True)
    job.registry.fault = "refused"
    job.registry.work()
    status, out, _ = program(job, "run", "--once")
    assert status == 1
    assert "300 numbers on call lists have no answer" in out
    assert "package_refused" in out


@pytest.mark.torture
def test_benchmark_runs_on_generated_files() -> None:
    words = ("registry", "--numbers", "100000", "--json")
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    figures = {figure["name"]: figure["value"] for figure in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, done.stderr
    assert figures["registry.list_numbers"] == pytest.approx(100_000, rel=0.05)


async def test_cycle_runs_with_simulated_answers_and_is_copied_to_a_node(tmp_path: Path) -> None:
    job = JobWorld(tmp_path)
    await load_list(job)
    await job.run_once()
    runner = CliRunner()
    assert runner.invoke(app, ["simulate", str(tmp_path / "rpo"), "--fault", "no such"]).exit_code == 2
    assert "simulated answers" in runner.invoke(app, ["simulate", str(tmp_path / "rpo")]).stderr
    assert (await job.run_once()).answered == 300
    status, out, _ = run_pull(job)
    assert (status, json.loads(out)["version"]) == (0, read_manifest(job.plan.snapshots).version)
    (job.plan.snapshots / "manifest.json").write_text("{")
    assert run_pull(job)[0] == 1
    assert run_pull(job, "--key", "secret")[0] == 2
    refused = run_pull(job, "--from", "http://publisher.example/snapshots/")
    assert (refused[0], "must be an https:// URL or a folder" in refused[2]) == (2, True)


def run_pull(job: JobWorld, *more: str) -> Done:
    words = ["pull", "--from", job.plan.snapshots, "--snapshots", job.folder / "node", "--json"]
    return commands.run_command("registry-sync", *words, *more)


def test_invalid_configuration_ends_with_2(tmp_path: Path) -> None:
    job = JobWorld(tmp_path)
    job.configure(asked=[job.asked | {"controller": "nobody"}])
    status, _, err = program(job, "run", "--once")
    assert status == 2
    assert "unknown controller" in err


async def test_run_without_once_repeats_until_sigterm(tmp_path: Path) -> None:
    job = JobWorld(tmp_path)
    await load_list(job)
    job.configure(every_minutes=0.005)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "registry_sync.cli", "run", "--json", "--registries", str(job.path),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert json.loads(await process.stdout.readline())["parts"][0]["submitted"] == 300
    job.registry.work()
    while json.loads(await process.stdout.readline())["parts"][0]["answered"] != 300:
        pass
    process.terminate()
    await process.communicate()
    assert process.returncode == 0
