"""Two people release an import that changes too much: over HTTP, by command and in the console."""

from pathlib import Path
from typing import Any

from dialgate.lists import release_holds
from dialgate.lists.release_holds import ReleaseRequired
from tests.support import people, world
from tests.support.commands import run_command
from tests.support.console_world import ADMINISTRATOR, STRANGER, running_console
from tests.support.console_world import clients as console_clients
from tests.support.world import NOW, World

SECOND = "key-of-a-second-administrator"
SUBJECT = ("rpo", "acme", "consultation-7")
WHY = "30 per cent of the known answers changed"
HOLDS = "/v1/registries/holds"


def clients() -> list[dict[str, Any]]:
    second = world.client("second", SECOND, "admin") | {"controllers": ["acme", "beta"]}
    return [*console_clients(), second]


def is_held(gate: World, subject: tuple[str, ...] = SUBJECT) -> bool:
    """Return whether the nightly job would hold the import now."""
    try:
        release_holds.require_release(gate.app.config.data / "snapshots", subject, WHY, NOW)
    except ReleaseRequired:
        return True
    return False


async def hold_of(gate: World) -> str:
    assert is_held(gate)
    (held,) = (await gate.get(HOLDS, Authorization=f"Bearer {ADMINISTRATOR}"))["holds"]
    assert (held["registry"], held["controller"], held["why"], held["approvals"], held["released"]) == (
        *("rpo", "acme", WHY, []),
        False,
    )
    return str(held["id"])


async def release(gate: World, name: str, key: str, status: int = 200) -> Any:
    return await gate.post(f"{HOLDS}/{name}/release", {}, status, Authorization=f"Bearer {key}")


async def test_each_key_counts_once_until_people_have_accounts(tmp_path: Path) -> None:
    async with running_console(tmp_path, clients=clients()) as gate:
        name = await hold_of(gate)
        first = await release(gate, name, ADMINISTRATOR)
        assert [approval["actor"] for approval in first["approvals"]] == ["root"]
        assert (await release(gate, name, ADMINISTRATOR, 409))["error"]["code"] == "release.repeated"
        assert is_held(gate)
        await people.join(gate.app.people, gate.hand(), "anna", "operator", "*")
        assert (await release(gate, name, SECOND, 403))["error"]["code"] == "release.people_only"
        assert is_held(gate)


async def test_two_keys_release_an_import_and_its_task_ends(tmp_path: Path) -> None:
    async with running_console(tmp_path, clients=clients()) as gate:
        name = await hold_of(gate)
        wanted = {"kind": "import_held", "name": "rpo", "controller": "acme", "page": "/console/registries"}
        assert wanted in (await gate.get("/v1/tasks", Authorization=f"Bearer {ADMINISTRATOR}"))["tasks"]
        assert "release the held import" in await gate.output("tasks")
        await release(gate, name, ADMINISTRATOR)
        assert wanted in (await gate.get("/v1/tasks", Authorization=f"Bearer {ADMINISTRATOR}"))["tasks"]
        assert (await release(gate, name, SECOND))["released"]
        assert wanted not in (await gate.get("/v1/tasks", Authorization=f"Bearer {ADMINISTRATOR}"))["tasks"]
        assert not is_held(gate)
        assert is_held(gate, (*SUBJECT[:2], "consultation-8"))  # the release is for that import only


async def test_what_cannot_be_released(tmp_path: Path) -> None:
    async with running_console(tmp_path, clients=clients()) as gate:
        assert (await release(gate, "0a1b2c3d4e5f", ADMINISTRATOR, 404))["error"]["code"] == "release.unknown"
        name = await hold_of(gate)
        assert (await release(gate, name, STRANGER, 403))["error"]["code"] == "auth.scope"
        held = gate.app.config.data / "snapshots/held" / f"{name}.json"
        held.write_text("{")
        assert (await release(gate, name, ADMINISTRATOR, 500))["error"]["code"] == "release.unreadable"
        tasks = (await gate.get("/v1/tasks", Authorization=f"Bearer {ADMINISTRATOR}"))["tasks"]
        assert tasks  # the others are still shown
        held.unlink()
        held.mkdir()
        error = (await release(gate, name, ADMINISTRATOR, 500))["error"]
        assert (error["code"], "Let the gate's user read" in error["message"]) == ("release.unreadable", True)


async def test_a_command_of_the_nightly_job_counts_as_one_person(tmp_path: Path) -> None:
    async with running_console(tmp_path, clients=clients()) as gate:
        name, snapshots = await hold_of(gate), gate.app.config.data / "snapshots"
        done = run_command("registry-sync", "release", name, "--actor", "paolo", "--snapshots", snapshots)
        assert done.code == 0
        again = run_command("registry-sync", "release", name, "--actor", "paolo", "--snapshots", snapshots)
        assert "already released" in again.err + again.out
        (held,) = release_holds.list_holds(snapshots)
        assert [approval.actor for approval in held.approvals] == ["paolo"]
        assert (await release(gate, name, ADMINISTRATOR))["released"]
        assert not is_held(gate)
