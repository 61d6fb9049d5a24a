"""Tests of what supervisors and officers must do soon. The endpoint, the command and the board name the same tasks."""

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any, get_args

import pytest
import pytest_asyncio

from dialgate.core.model import DAY
from dialgate.interfaces.console.words import words_in
from dialgate.interfaces.status import _PAGES, Task, TaskKind, tasks_for
from dialgate.people.roles import ROLES
from dialgate.texts import LANGUAGES
from dialgate.tools.backup import record_backup
from tests.support import console_world, world, yaml_files
from tests.support.console_world import BARE, LANDLINE, NUMBERS, OFFICER, STRANGER, check
from tests.support.people import join
from tests.support.world import CALLER, NOW, World

pytestmark = pytest.mark.asyncio(loop_scope="module")


def write_controllers(folder: Path) -> None:
    """Write the console's controllers. One campaign ends in a week, and its caller ID is given up in 60 days."""
    console_world.write_controllers(folder)
    acme = yaml_files.read(folder / "controllers" / "acme.yaml")
    acme["campaigns"][2]["ends"] = date(2026, 12, 1)
    acme["campaigns"][0]["caller_id_ends"] = {CALLER: date(2027, 1, 23)}
    yaml_files.write(folder / "controllers" / "acme.yaml", acme)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    settings: dict[str, Any] = {"clients": console_world.clients(), "shadow_until": date(2026, 11, 30)}
    answers = {**world.ANSWERS, **dict.fromkeys(NUMBERS, False)}
    async with world.running(
        tmp_path_factory.mktemp("tasks"),
        prepare=write_controllers,
        answers=answers,
        answered_at=NOW - 13 * DAY,
        **settings,
    ) as made:
        await console_world.add_data(made)
        yield made


async def tasks(made: World, key: str = OFFICER) -> list[tuple[Any, ...]]:
    found = (await made.get("/v1/tasks", Authorization=f"Bearer {key}"))["tasks"]
    return [(task["kind"], task["name"], task.get("days_left"), task.get("share")) for task in found]


async def test_tasks_are_those_of_the_clients_controllers_with_the_most_urgent_first(gate: World) -> None:
    found = await tasks(gate)
    assert [task[0] for task in found] == [
        "proof_ends", "registry_ends", "registry_ends", "request_due", "proof_ends", "shadow_ends", "campaign_ends", "caller_id_ends",
    ]  # fmt: skip
    assert [task for task in found if task[0] in {"proof_ends", "campaign_ends", "caller_id_ends"}] == [
        ("proof_ends", BARE, None, None),
        ("proof_ends", LANDLINE, 4.0, None),
        ("campaign_ends", "acme-survey", 7, None),
        ("caller_id_ends", CALLER, 60, None),
    ]
    theirs = await tasks(gate, STRANGER)
    assert {task[0] for task in theirs} == {"registry_ends", "shadow_ends"}


async def test_a_campaign_close_to_its_limit_is_a_task_until_it_is_paused(gate: World) -> None:
    async def abandon(number: str) -> list[tuple[Any, ...]]:
        answer = await check(gate, number)
        await gate.post("/v1/outcomes", {"decision_id": answer["decision_id"], "outcome": "abandoned"}, 200)
        await gate.app.tick()
        return [task for task in await tasks(gate) if task[0] == "silent_limit"]

    assert await abandon(NUMBERS[0]) == await abandon(NUMBERS[1]) == []
    assert await abandon(NUMBERS[2]) == [("silent_limit", "acme-fibre", None, 1.0)]
    assert await abandon(NUMBERS[3]) == []  # paused, which the board shows above its tasks


async def test_a_backup_is_a_task_a_day_after_the_last_one_for_who_may_see_the_whole_gate(
    gate: World, tmp_path: Path
) -> None:
    async def due(key: str = OFFICER) -> list[Any]:
        return [task[2] for task in await tasks(gate, key) if task[0] == "backup_due"]

    data = gate.app.config.data
    assert await due() == []  # the data folder is newer than the gate's time here
    record_backup(data, NOW - DAY)
    assert await due() == []
    record_backup(data, NOW - 3 * DAY)
    assert await due() == [-2.0]
    assert await due(STRANGER) == []
    await gate.output("backup", tmp_path / "copy")
    assert await due() == []


async def test_the_command_shows_the_tasks_of_the_gate(gate: World) -> None:
    shown = await gate.output("tasks")
    assert BARE in shown
    assert "prove that calls back are answered" in shown
    assert "in 4 days" in shown


async def test_a_role_may_open_the_page_of_each_task_that_it_is_shown(tmp_path: Path) -> None:
    every = [Task(kind=kind, name="x", page=page) for kind, (page, _) in _PAGES.items()]
    assert {task.kind for task in every} == {*get_args(TaskKind)}
    async with console_world.running_console(tmp_path) as gate:
        for role, scopes in ROLES.items():
            person = await join(gate.app.people, gate.hand(), f"{role}.x", role, "*")
            shown = [*tasks_for(every, scopes)]
            for task in every:
                cookies = {"dialgate-console": person.signed_in.session}
                path = task.page or "/console/account"
                async with gate.client.get(path, cookies=cookies, allow_redirects=False) as answer:
                    opens = answer.status == 200 and (bool(task.page) or "watch" in scopes)
                assert (task in shown) is opens, (role, task.kind, answer.status)
            others = {task.kind for task in shown if task not in every}
            assert others == ({"log_damaged", "log_unproved"} if role == "operator" else set())
        supervisor = [task.kind for task in tasks_for(every, ROLES["supervisor"])]
        assert "import_held" in supervisor
        assert not {"key_ends", "request_due", "breach_due"} & {*supervisor}


async def test_each_kind_of_task_has_a_sentence_on_the_board() -> None:
    kinds = {f"live.task_{kind}" for kind in get_args(TaskKind)}
    for language in LANGUAGES:
        assert set(words_in(language).by_prefix("live.task_")) == kinds
