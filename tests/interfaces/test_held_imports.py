"""Two people release an import that changes too much: over HTTP, by command and in the console."""

import re
from pathlib import Path

from dialgate.lists import release_holds
from dialgate.lists.release_holds import ReleaseRequired
from dialgate.people import account_sessions
from tests.support import people
from tests.support.commands import run_command
from tests.support.console_world import ADMINISTRATOR, running_console
from tests.support.people import Person
from tests.support.world import NOW, World

SUBJECT = ("rpo", "acme", "consultation-7")
WHY = "30 per cent of the known answers changed"
HOLDS = "/v1/registries/holds"


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


async def release(gate: World, name: str, person: Person) -> str:
    """Release an import in the console as a person, and return the code of the refusal, if it is refused."""
    session = person.signed_in.session
    cookies, token = {"dialgate-console": session}, account_sessions.form_token(session)
    path = f"/console/registries/{name}/release"
    async with gate.client.post(
        path, data={"token": token}, cookies=cookies, allow_redirects=False
    ) as answer:
        found = re.search(r"(release|auth)\.[a-z_]+", "" if answer.status == 303 else await answer.text())
        assert (answer.status == 303) is (found is None), answer.status
        return found[0] if found else ""


async def test_a_key_is_no_person(tmp_path: Path) -> None:
    async with running_console(tmp_path) as gate:
        name = await hold_of(gate)
        for person in ("anna", "berta"):
            error = (await gate.post(f"{HOLDS}/{name}/release", {}, 403, Authorization=f"Bearer {ADMINISTRATOR}"))["error"]  # fmt: skip
            assert error["code"] == "release.people_only"
            await people.join(gate.app.people, gate.hand(), person, "operator", "*")
        assert is_held(gate)


async def test_an_operator_who_invites_the_second_person_releases_nothing_alone(tmp_path: Path) -> None:
    async with running_console(tmp_path) as gate:
        name, accounts = await hold_of(gate), gate.app.people
        xavier = await people.join(accounts, gate.hand(), "xavier", "operator", "*")
        quinn = await people.join(accounts, gate.hand(), "quinn", "officer", "*")
        by = await accounts.find(xavier.signed_in.session)
        assert by is not None
        yara = await people.join(accounts, gate.hand(), "yara", "officer", "*", by=by)
        assert [await release(gate, name, who) for who in (yara, xavier, yara)] == ["release.people_only", "", "release.people_only"]  # fmt: skip
        link = (await accounts.invite(by, "quinn")).link
        taken = await people.accept(accounts, gate.hand(), link)
        assert [await release(gate, name, who) for who in (taken, xavier)] == ["release.people_only", "release.repeated"]  # fmt: skip
        assert is_held(gate)
        assert " no " in await gate.output("account", "list")
        assert re.search("yara .* yes ", await gate.output("account", "confirm", "yara"))
        assert await release(gate, name, yara) == ""
        assert not is_held(gate)
        assert await accounts.find(quinn.signed_in.session) is None


async def test_two_people_release_an_import_and_its_task_ends(tmp_path: Path) -> None:
    async with running_console(tmp_path) as gate:
        name = await hold_of(gate)
        anna = await people.join(gate.app.people, gate.hand(), "anna", "officer", "acme")
        ben = await people.join(gate.app.people, gate.hand(), "ben", "operator", "*")
        wanted = {"kind": "import_held", "name": "rpo", "controller": "acme", "page": "/console/registries"}
        assert wanted in (await gate.get("/v1/tasks", Authorization=f"Bearer {ADMINISTRATOR}"))["tasks"]
        assert "release the held import" in await gate.output("tasks")
        assert await release(gate, name, anna) == ""
        assert await release(gate, name, anna) == "release.repeated"
        assert wanted in (await gate.get("/v1/tasks", Authorization=f"Bearer {ADMINISTRATOR}"))["tasks"]
        assert await release(gate, name, ben) == ""
        assert wanted not in (await gate.get("/v1/tasks", Authorization=f"Bearer {ADMINISTRATOR}"))["tasks"]
        assert not is_held(gate)
        assert is_held(gate, (*SUBJECT[:2], "consultation-8"))  # the release is for that import only


async def test_what_cannot_be_released(tmp_path: Path) -> None:
    async with running_console(tmp_path) as gate:
        anna = await people.join(gate.app.people, gate.hand(), "anna", "operator", "*")
        assert await release(gate, "0a1b2c3d4e5f", anna) == "release.unknown"
        name = await hold_of(gate)
        stranger = await people.join(gate.app.people, gate.hand(), "sue", "supervisor", "*")
        assert await release(gate, name, stranger) == "auth.scope"
        held = gate.app.config.data / "snapshots/held" / f"{name}.json"
        held.write_text("{")
        assert await release(gate, name, anna) == "release.unreadable"
        tasks = (await gate.get("/v1/tasks", Authorization=f"Bearer {ADMINISTRATOR}"))["tasks"]
        assert tasks  # the others are still shown
        held.unlink()
        held.mkdir()
        error = (await gate.get(HOLDS, 500, Authorization=f"Bearer {ADMINISTRATOR}"))["error"]
        assert (error["code"], "Let the gate's user read" in error["message"]) == ("release.unreadable", True)


async def test_a_command_of_the_nightly_job_counts_as_one_person(tmp_path: Path) -> None:
    async with running_console(tmp_path) as gate:
        name, snapshots = await hold_of(gate), gate.app.config.data / "snapshots"
        done = run_command("registry-sync", "release", name, "--actor", "paolo", "--snapshots", snapshots)
        assert done.code == 0
        again = run_command("registry-sync", "release", name, "--actor", "paolo", "--snapshots", snapshots)
        assert "already released" in again.err + again.out
        (held,) = release_holds.list_holds(snapshots)
        assert [approval.actor for approval in held.approvals] == ["paolo"]
        anna = await people.join(gate.app.people, gate.hand(), "anna", "operator", "*")
        assert await release(gate, name, anna) == ""
        assert not is_held(gate)
