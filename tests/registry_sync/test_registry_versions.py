"""Publications: what differs between two, the way back, the signature, and the commands as an operator types them."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner

from dialgate.core.model import DAY
from dialgate.crypto.publisher_signature import Signer, SigningKeyUnusable, is_signed
from dialgate.lists.snapshot import read_manifest, signed_text
from registry_sync.cli import app
from registry_sync.simulator import enrolled
from tests.bench import ROOT
from tests.registry_sync.test_registry_lists import US, Shop, american
from tests.support.registry_world import NUMBERS, Night, load_list

LISTED = next(number for number in NUMBERS if enrolled(number[3:]))


def told(night: Night, *words: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, [*words, "--json", "--registries", str(night.path)])
    return done.exit_code, json.loads(done.stdout or "{}")


async def twice(night: Night) -> None:
    """Two publications: at first nobody is enrolled, then those who are."""
    await load_list(night)
    night.registry.is_enrolled = lambda _: False
    await night.part()
    await night.night()
    night.registry.is_enrolled = enrolled
    night.hand.at += 13 * DAY
    await night.part()
    await night.night()
    release_all(night)
    await night.part()


def release_all(night: Night) -> None:
    for path in (night.plan.snapshots / "held").iterdir():
        for actor in ("maria", "paolo"):
            assert told(night, "release", path.stem, "--actor", actor)[0] == 0


async def test_a_first_publication_has_none_before_it_and_the_run_is_read_on_a_narrow_terminal(
    tmp_path: Path,
) -> None:
    night = Night(tmp_path)
    await load_list(night)
    await night.part()
    await night.night()
    assert told(night, "rollback") == (
        1,
        {
            "error": {
                "code": "refused",
                "message": "there is no earlier publication yet: this is the first",
                "field": "",
            }
        },
    )
    shown = CliRunner().invoke(app, ["status", "--registries", str(night.path)], env={"COLUMNS": "80"}).stdout
    heading = ("registry", "consulted", "numbers", "due", "sent", "waiting", "answered", "listed")
    assert any(all(word in line for word in heading) for line in shown.splitlines())


async def test_the_difference_says_what_turned(tmp_path: Path) -> None:
    night = Night(tmp_path)
    await twice(night)
    status, report = told(night, "diff")
    (found,) = report["differences"]
    turned = sum(enrolled(number[3:]) for number in NUMBERS)
    assert status == 0
    assert (found["newly_listed"], found["newly_clear"], found["added"], found["before"]) == (
        turned,
        0,
        0,
        300,
    )
    assert len(found["consultations"]) == 3
    assert (
        "there is no earlier publication nothing; there is "
        in told(night, "diff", "--from", "nothing")[1]["error"]["message"]
    )
    assert told(night, "diff", "--from", "nothing")[0] == 1


async def test_going_back_never_frees_who_is_listed_unless_two_people_say_so(tmp_path: Path) -> None:
    night = Night(tmp_path)
    await twice(night)
    first = told(night, "diff")[1]["from"]
    before = night.published()
    status, report = told(night, "rollback")
    assert status == 1
    assert "would free" in report["error"]["message"]
    assert night.published() == before
    release_all(night)
    assert told(night, "rollback")[0] == 0
    assert read_manifest(night.plan.snapshots).version == first
    assert night.says(LISTED).answer == "clear"
    # And forward again, which frees nobody.
    assert told(night, "rollback")[0] == 0
    assert night.says(LISTED).answer == "listed"


async def test_a_full_list_is_compared_and_brought_back_too(tmp_path: Path) -> None:
    shop = Shop(tmp_path, **(US | {"max_added": 100}))
    shop.offer("2026-11-20_407_a.txt", american(407, *range(1000)))
    await shop.part()
    shop.offer("2026-11-21_407_a.txt", american(407, *range(500, 1600)))
    await shop.part()
    (found,) = told(shop, "diff")[1]["differences"]
    assert (found["before"], found["after"], found["added"], found["removed"]) == (1000, 1100, 600, 500)
    assert told(shop, "rollback")[0] == 1
    release_all(shop)
    assert told(shop, "rollback")[0] == 0
    assert shop.said(14070000000) == ("listed", 0)


async def test_a_damaged_publication_is_not_brought_back(tmp_path: Path) -> None:
    night = Night(tmp_path)
    await twice(night)
    old = read_manifest(night.plan.snapshots)
    paths = sorted(night.plan.snapshots.glob("*.numbers"), key=lambda path: path.stat().st_mtime_ns)
    paths[0].write_bytes(paths[0].read_bytes()[:-1])
    assert told(night, "rollback")[0] == 1
    assert read_manifest(night.plan.snapshots) == old


def key(path: Path) -> Path:
    private = Ed25519PrivateKey.generate()
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    return path


async def test_a_publication_is_signed_by_whoever_has_the_key(tmp_path: Path) -> None:
    night = Night(tmp_path)
    key(tmp_path / "signing.pem")
    night.configure(signing_key_file="signing.pem")
    await twice(night)
    manifest = read_manifest(night.plan.snapshots)
    public = Signer.open(tmp_path / "signing.pem").public
    assert is_signed(signed_text(manifest), manifest.signature, public)
    assert not is_signed(signed_text(manifest) + b"!", manifest.signature, public)
    assert not is_signed(signed_text(manifest), manifest.signature, Signer.open(key(tmp_path / "b")).public)
    assert not is_signed(signed_text(manifest), "no signature", public)


def test_a_key_of_another_kind_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("-----BEGIN NOTHING-----")
    for path in (tmp_path / "key", tmp_path / "none"):
        with pytest.raises(SigningKeyUnusable, match="openssl genpkey -algorithm ed25519"):
            Signer.open(path)


# ---- the commands ----------------------------------------------------------------------------------------------------


def program(night: Night, *words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "registry_sync.cli", *words, "--registries", str(night.path)],
        capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "300"},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


async def test_the_job_runs_from_its_command_until_nothing_is_left_to_look_at(tmp_path: Path) -> None:
    """As a timer would start it: 0 while all is on its way, 1 while a person must look at something."""
    night = Night(tmp_path)
    await load_list(night)
    status, out, err = program(night, "run", "--once", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["parts"][0]["submitted"] == 300
    night.registry.fault = "partial"
    night.registry.work()
    status, out, _ = program(night, "run", "--once", "--json")
    assert status == 1
    assert "answer_faulty" in {alarm["kind"] for alarm in json.loads(out)["parts"][0]["alarms"]}
    night.registry.fault = ""
    for package in night.packages():
        night.registry.answer_again(night.plan.work / "rpo.acme" / package.id)
    assert program(night, "run", "--once")[0] == 0
    status, out, _ = program(night, "status", "--json")
    found = json.loads(out)
    assert (status, found["held"]) == (0, [])
    assert {package["state"] for package in found["packages"]} == {"answered"}
    assert not any(number[3:] in out for number in NUMBERS)


async def test_the_tables_for_people_name_what_to_look_at(tmp_path: Path) -> None:
    night = Night(tmp_path)
    await load_list(night)
    assert program(night, "status")[0] == 1
    status, out, _ = program(night, "run", "--dry-run")
    assert (status, "would do" in out, "look at these" in out) == (0, True, False)
    await night.part()  # at an instant that is long past
    status, out, _ = program(night, "status")
    assert (status, "submitted" in out) == (0, True)
    night.registry.fault = "refused"
    night.registry.work()
    status, out, _ = program(night, "run", "--once")
    assert status == 1
    assert "300 numbers on call lists have no answer" in out
    assert "package_refused" in out


@pytest.mark.torture
def test_the_job_is_measured_on_files_of_its_own_making() -> None:
    words = ("registry", "--numbers", "100000", "--changes", "1000", "--answers", "2000", "--json")
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    figures = {figure["name"]: figure["value"] for figure in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, done.stderr
    assert figures["registry.list_numbers"] == pytest.approx(100_000, rel=0.05)
    assert figures["registry.answers_lines"] > figures["registry.answers_numbers"] > 1000


async def test_the_whole_cycle_can_be_tried_with_made_up_answers_and_copied_to_a_node(tmp_path: Path) -> None:
    night = Night(tmp_path)
    await load_list(night)
    await night.part()
    runner = CliRunner()
    assert runner.invoke(app, ["simulate", str(tmp_path / "rpo"), "--fault", "no such"]).exit_code == 2
    assert "made-up answers" in runner.invoke(app, ["simulate", str(tmp_path / "rpo")]).stderr
    assert (await night.part()).answered == 300
    status, out, _ = pulled(night)
    assert (status, json.loads(out)["version"]) == (0, read_manifest(night.plan.snapshots).version)
    (night.plan.snapshots / "manifest.json").write_text("{")
    assert pulled(night)[0] == 1
    assert pulled(night, "--key", "secret")[0] == 2
    refused = pulled(night, "--from", "http://publisher.example/snapshots/")
    assert (refused[0], "over TLS alone" in refused[2]) == (2, True)


def pulled(night: Night, *more: str) -> tuple[int, str, str]:
    words = ["pull", "--from", str(night.plan.snapshots), "--snapshots", str(night.folder / "node"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "registry_sync.cli", *words, *more],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_configuration_with_mistakes_is_misuse(tmp_path: Path) -> None:
    night = Night(tmp_path)
    night.configure(asked=[night.asked | {"controller": "nobody"}])
    status, _, err = program(night, "run", "--once")
    assert status == 2
    assert "no such controller" in err


async def test_without_a_timer_it_goes_on_until_it_is_told_to_stop(tmp_path: Path) -> None:
    night = Night(tmp_path)
    await load_list(night)
    night.configure(every_minutes=0.005)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "registry_sync.cli", "run", "--json", "--registries", str(night.path),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert json.loads(await process.stdout.readline())["parts"][0]["submitted"] == 300
    night.registry.work()
    while json.loads(await process.stdout.readline())["parts"][0]["answered"] != 300:
        pass
    process.terminate()
    await process.communicate()
    assert process.returncode == 0
