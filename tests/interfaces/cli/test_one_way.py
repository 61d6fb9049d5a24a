"""Commands as clients of a gate: over its socket, with a key, and with no gate at all."""

import asyncio
import gc
import multiprocessing
import os
import pwd
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from dialgate.config import loader
from dialgate.core.model import DAY
from dialgate.interfaces.cli import revoke
from dialgate.interfaces.cli.gate_client import GateClient, GateUnreachable
from dialgate.ledger import pending_stops
from dialgate.ledger.pending_stops import PendingStops
from dialgate.ledger.schemas import Receipt, RevocationsRequest
from registry_sync import gate_requests
from tests.support import world
from tests.support.commands import run_command
from tests.support.ledger import ledger_of
from tests.support.running_gate import kill, serving, spawn
from tests.support.world import CLEAR, KEY, LISTED, NOW, World

USER = pwd.getpwuid(os.getuid()).pw_name
REVOKED = "revocation.revoked"
CONSENT = {"id": "k", "collected_at": "2026-11-01T10:00:00Z", "purposes": ["sale"], "call_types": ["agent"]}
WRITES = int(os.environ.get("DIALGATE_WRITES", "16"))


async def entries(running: World) -> list[tuple[str, str]]:
    """Return the actor of each ledger entry, and its kind."""
    found = await running.app.registrar.access.store.since(0, 100)
    return [(entry.actor, str(type(entry.event).__struct_config__.tag)) for entry in found]


async def decides(running: World, number: str = CLEAR) -> str:
    answer = await world.ask(running.app, to=number)
    return answer.reasons[0].code if answer.reasons else "allow"


# ---- with a gate -----------------------------------------------------------------------------------------------------


async def test_the_socket_is_for_the_owner_of_the_folder_however_long_its_path(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    async with world.running(folder) as made:
        socket = made.app.config.data / "gate.sock"
        assert len(str(socket)) > 107
        assert socket.is_socket()
        assert socket.stat().st_mode & 0o777 == 0o600
        assert (await made.command("revoke", CLEAR)).code == 0
        assert await decides(made) == REVOKED


@pytest.mark.parametrize(
    ("words", "environment", "actor"),
    [
        ((), {}, f"cli:{USER}"),
        ((), {"SUDO_USER": "anna"}, "anna"),
        ((), {"SUDO_USER": "anna", "DIALGATE_ACTOR": "berta"}, "berta"),
        (("--actor", "carla"), {"DIALGATE_ACTOR": "berta"}, "carla"),
        ((), {"DIALGATE_KEY": KEY}, f"cli:{USER}"),  # of a dialer, for --url
    ],
)
async def test_the_actor_is_the_user_of_the_socket_or_the_client_of_the_key(
    running: World, words: tuple[str, ...], environment: dict[str, str], actor: str
) -> None:
    assert (await running.command("revoke", CLEAR, *words, **environment)).code == 0
    assert await entries(running) == [(actor, "revoked")]


async def test_the_client_of_a_key_has_only_its_scopes(running: World, tmp_path: Path) -> None:
    everyone, key = ("revoke", CLEAR, "--scope", "everyone", "--json"), tmp_path / "tests.key"
    key.write_text(KEY)
    refused = await running.command(*everyone, "--key-file", key)
    assert (refused.code, refused.json["error"]["code"]) == (2, "auth.scope")
    assert (await running.command(*everyone)).code == 0


async def test_commands_reach_a_gate_elsewhere_with_a_key(running: World, tmp_path: Path) -> None:
    url, key = f"http://127.0.0.1:{running.port}", tmp_path / "tests.key"
    key.write_text(KEY)
    there = {"DIALGATE_URL": url, "DIALGATE_CONFIG": "/nowhere.yaml"}
    assert (await running.command("revoke", LISTED, "--key-file", key, **there)).code == 0
    file = tmp_path / "rows.csv"
    file.write_text(f"number\n{CLEAR}\n12\n")
    load = ("list", "load", file, "--id", "there", "--campaign", "acme-fibre", "--basis", "directory")
    origin = ("--collected-by", "Acme", "--collected-on", "2026-10-01", "--json")
    loaded = await running.command(
        *load, *origin, "--url", url, **{**there, "DIALGATE_URL": "", "DIALGATE_KEY": KEY}
    )
    assert loaded.code == 0, loaded
    assert loaded.json["accepted"] == 1
    shown = await running.command("list", "show", "there", "--json", "--key-file", key, **there)
    assert [call_list["id"] for call_list in shown.json] == ["there"]
    assert await entries(running) == [("tests", "revoked")]


async def test_skipped_rows_are_reported_by_line_and_entries_by_count(running: World, tmp_path: Path) -> None:
    stops, reasons = tmp_path / "stops.csv", tmp_path / "reasons.csv"
    stops.write_text("number\n" + "".join(f"+3906123{place:05}\n" for place in range(1_000)) + "12\nnone\n")
    imported = await running.command("revoke", "import", stops, "--reasons", reasons, "--json")
    assert imported.code == 0, imported
    assert (imported.json["revoked"], imported.json["refused"]) == (1_000, 2)
    assert list(imported.json["reasons"].values()) == [1, 1]
    assert [row.partition(",")[0] for row in reasons.read_text().splitlines()] == ["line", "1002", "1003"]
    assert await decides(running, "+390612300999") == REVOKED
    assert running.sample("dialgate_ledger_entries_total", kind="revoked") == 1_000
    shown = await running.command("revoke", "import", stops)
    assert "Why rows were skipped" in shown.out
    assert all(" ".join(why.split()[:3]) in shown.out for why in imported.json["reasons"])
    again = await running.command("revoke", "import", stops, "--json")
    assert (again.json["revoked"], again.json["known"]) == (0, 1_000)


async def test_a_file_with_an_invalid_row_is_refused_with_all_its_reasons(
    running: World, tmp_path: Path
) -> None:
    file, reasons = tmp_path / "contracts.csv", tmp_path / "reasons.csv"
    valid = "".join(f"{CLEAR},c-{place},2026-01-01\n" for place in range(5))
    file.write_text(f"number,id,starts\n{valid}{CLEAR},b,soon\n12,c,2026-01-01\n")
    refused = await running.command("contract", "import", file, "--reasons", reasons)
    assert (refused.code, refused.err.partition(":")[0]) == (1, "list.unreadable")
    assert [row.partition(",")[0] for row in reasons.read_text().splitlines()] == ["line", "7", "8"]
    assert await entries(running) == []
    plain = await running.command("contract", "import", file)
    assert "Line 7: " in plain.err
    assert "--skip-bad skips them." in plain.err
    other = tmp_path / "other.csv"
    other.write_text(f"number,id,starts,name\n{CLEAR},b,2026-01-01,Rossi\n")
    unknown = await running.command("contract", "import", other)
    assert "name that is not known: 4" in unknown.err
    assert "--skip-bad" not in unknown.err
    skipping = await running.command("contract", "import", file, "--skip-bad", "--json")
    assert (skipping.code, skipping.json["recorded"]) == (0, 5)


async def test_calls_are_decided_while_a_file_is_entered(running: World, tmp_path: Path) -> None:
    stops = tmp_path / "stops.csv"
    stops.write_text("number\n" + "".join(f"+3906123{place:05}\n" for place in range(8_000)))
    importing = asyncio.create_task(running.command("revoke", "import", stops, "--json"))
    asking = asyncio.create_task(keep_asking(running))
    gc.freeze()  # the objects of other tests
    longest = 0.0
    while not importing.done():  # in processor time, because other programs may use the processor
        begun = time.thread_time()
        await asyncio.sleep(0)
        longest = max(longest, time.thread_time() - begun)
    assert importing.result().json["revoked"] == 8_000
    assert not asking.done()
    asking.cancel()
    assert longest < 0.1, "the import held the event loop"


async def keep_asking(running: World) -> None:
    while True:
        assert await decides(running) in {"allow", REVOKED, "frequency.exceeded"}


# ---- without a gate --------------------------------------------------------------------------------------------------


def stopped_folder(folder: Path, **changes: Any) -> Path:
    path = world.write_folder(folder, **changes)
    world.publish_answers(folder / "data", world.ANSWERS, NOW - DAY)
    return path


@pytest.mark.parametrize(
    "words",
    [
        ("check", "--to", CLEAR, "--from", "+390844123456", "--campaign", "acme-fibre"),
        ("list", "show"),
        ("campaign", "list"),
        ("revoke", "lift", "1", "--ground", "error", "--reason", "x"),
        ("contract", "add", CLEAR, "--id", "c", "--starts", "2026-01-01"),
    ],
)
def test_without_a_gate_the_error_says_how_to_start_one(tmp_path: Path, words: tuple[str, ...]) -> None:
    path = stopped_folder(tmp_path)
    done = run_command("dialgate", *words, "--config", path)
    assert (done.code, done.err.partition(":")[0]) == (1, "gate.unreachable")
    assert f"dialgate serve --config {path}" in done.err.replace("\n", " ")
    assert not (tmp_path / "data/pending").exists()


async def test_stops_entered_without_a_gate_are_in_force_before_it_is_ready(tmp_path: Path) -> None:
    path = stopped_folder(tmp_path)
    file = tmp_path / "stops.csv"
    file.write_text(f"number\n{LISTED}\n")
    kept = await asyncio.to_thread(run_command, "dialgate", "revoke", CLEAR, "--json", "--config", path)
    imported = await asyncio.to_thread(
        run_command, "dialgate", "revoke", "import", file, "--json", "--config", path
    )
    assert (kept.code, imported.code) == (0, 0), (kept, imported)
    assert len([*(tmp_path / "data/pending").iterdir()]) == 2
    async with serving(path) as gate:
        answer = await gate.post("/v1/check", {**world.CALL, "to": CLEAR})
        assert REVOKED in [reason["code"] for reason in answer["reasons"]]
        answer = await gate.post("/v1/check", {**world.CALL, "to": LISTED})
        assert REVOKED in [reason["code"] for reason in answer["reasons"]]
        assert [*(tmp_path / "data/pending").iterdir()] == []


def test_on_a_shared_store_a_kept_stop_is_not_acknowledged(tmp_path: Path) -> None:
    """Other gates on the store may decide calls, and do not know of the file."""
    path = stopped_folder(tmp_path, store={"url": "redis://127.0.0.1:1/0"})
    done = run_command("dialgate", "revoke", CLEAR, "--config", path)
    assert (done.code, done.err.partition(":")[0]) == (1, "gate.unreachable")
    assert "other gates on this store" in done.err.replace("\n", " ")
    assert len([*(tmp_path / "data/pending").iterdir()]) == 1


async def test_a_stop_that_is_kept_beside_a_running_gate_is_acknowledged_once_in_force(
    tmp_path: Path,
) -> None:
    """The gate did not answer the command in time, for example, but runs."""
    path = stopped_folder(tmp_path)
    config = loader.load(path)
    async with world.serving(path) as app:
        upkeep = asyncio.create_task(app.run())
        kept = pending_stops.keep(config.data, PendingStops(actor="anna", stop={"number": CLEAR}))
        assert await asyncio.to_thread(revoke.in_force_since, config, kept) == "in force now"
        assert REVOKED in world.codes(await world.ask(app))
        upkeep.cancel()
        await asyncio.wait([upkeep])


async def test_a_stop_for_a_gate_that_starts_is_not_lost(tmp_path: Path) -> None:
    path = stopped_folder(tmp_path)
    process = await spawn(path)
    try:
        stopped = await asyncio.to_thread(run_command, "dialgate", "revoke", CLEAR, "--config", path)
        assert stopped.code == 0
    finally:
        await kill(process)
    async with serving(path) as gate:
        answer = await gate.post("/v1/check", {**world.CALL, "to": CLEAR})
        assert REVOKED in [reason["code"] for reason in answer["reasons"]]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("revoke", "+39"), "number.invalid"),
        (("revoke", CLEAR, "--controller", "nobody"), "controller.unknown"),
        (("revoke", "import", "FILE", "--controller", "nobody"), "controller.unknown"),
        (("revoke", "import", "FILE", "--column", "none of these"), "list.unreadable"),
    ],
)
def test_a_stop_that_no_gate_could_enter_is_refused_at_once(
    tmp_path: Path, words: tuple[str, ...], code: str
) -> None:
    path, file = stopped_folder(tmp_path), tmp_path / "stops.csv"
    file.write_text(f"number\n{CLEAR}\n")
    done = run_command(
        "dialgate", *(str(file) if word == "FILE" else word for word in words), "--config", path
    )
    assert (done.code, done.err.partition(":")[0]) == (1, code)
    assert not (tmp_path / "data/pending").exists()


async def test_a_gate_with_a_stop_that_it_cannot_enter_allows_no_call(tmp_path: Path) -> None:
    path = stopped_folder(tmp_path)
    unknown = RevocationsRequest(controller="nobody")
    left = pending_stops.keep(
        tmp_path / "data", PendingStops(actor="anna", request=unknown, rows=CLEAR.encode())
    )
    behind = pending_stops.keep(tmp_path / "data", PendingStops(actor="anna", stop={"number": LISTED}))
    async with serving(path) as gate:
        assert gate.ready["event"] == "listening"
        assert str(left) in str(gate.ready["problems"])
        async with gate.client.post("/v1/check", json={**world.CALL, "to": CLEAR}) as response:
            answer = await response.json()
        assert [reason["code"] for reason in answer["reasons"]] == ["gate.unavailable"]
    assert left.exists()
    assert not behind.exists()


async def test_a_kept_file_with_two_number_columns_stays_until_one_is_named(tmp_path: Path) -> None:
    """An earlier version chose the first column, and may have kept the file before an upgrade."""
    rows = f"telefono,cellulare\n{CLEAR},{LISTED}\n".encode()
    async with world.running(tmp_path) as made:
        kept = PendingStops(actor="anna", request=RevocationsRequest(), rows=rows)
        file = pending_stops.keep(made.app.config.data, kept)
        await made.app.tick(patience=None)
        problem = made.app.status().problems["ledger"]
        assert str(file) in problem
        assert "1 (`telefono`), 2 (`cellulare`). Set `column` (option --column)" in problem
        assert "`dialgate revoke import`" in problem
        assert await decides(made) == "gate.unavailable"
        assert pending_stops.decode(file.read_bytes()).rows == rows

        stops = tmp_path / "stops.csv"
        stops.write_bytes(rows)
        for column in ("1", "2"):
            words = ("revoke", "import", stops, "--column", column, "--config", made.app.config.path)
            done = await asyncio.to_thread(run_command, "dialgate", *map(str, words))
            assert done.code == 0, done
        file.unlink()
        await made.app.tick(patience=None)
        assert made.app.status().ready
        assert [await decides(made, number) for number in (CLEAR, LISTED)] == [REVOKED, REVOKED]


async def test_a_stop_that_was_entered_before_a_kill_is_entered_again(tmp_path: Path) -> None:
    """A gate that is killed after the entry and before the file is deleted finds the file again."""
    async with world.running(tmp_path) as made:
        stops = PendingStops(actor="anna", stop={"number": CLEAR})
        pending_stops.keep(made.app.config.data, stops)
        (file,) = (made.app.config.data / "pending").iterdir()
        content = file.read_bytes()
        await made.app.tick(patience=None)
        assert not file.exists()
        assert await decides(made) == REVOKED
        file.write_bytes(content)
        await made.app.tick(patience=None)
        assert not file.exists()
        assert made.app.status().ready
        assert {actor for actor, _ in await entries(made)} == {"anna"}


# ---- two writers -----------------------------------------------------------------------------------------------------

KINDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("revoked", "/v1/revocations", {}),
    ("contract", "/v1/contracts", {"id": "c", "starts": "2026-01-01"}),
    ("consent", "/v1/consents", CONSENT),
)


class Turns(Struct, frozen=True):
    """The moments at which the writers are halfway, and at which the gate has been started again."""

    halfway: Event
    restarted: Event


def write_by_commands(config: Path, numbers: Sequence[str], out: Path, turns: Turns) -> None:
    """Write mixed entries as commands do, and list the acknowledged ones in `out`.

    A stop that no gate receives is kept for the next one. Every other write is repeated.
    """
    gate, written = GateClient(config), list[str]()
    for place, number in enumerate(numbers):
        if place == len(numbers) // 2:
            turns.halfway.set()
        kind, path, fields = KINDS[place % len(KINDS)]
        while f"{number} {kind}" not in written:
            try:
                gate.send("POST", path, Receipt, {"number": number, **fields})
            except GateUnreachable:
                if kind != "revoked":
                    turns.restarted.wait()
                    continue
                stops = PendingStops(actor="anna", stop={"number": number})
                pending_stops.keep(loader.load(config).data, stops)
            written.append(f"{number} {kind}")
    out.write_text("\n".join(written))


def write_by_the_job(config: Path, numbers: Sequence[str], out: Path, turns: Turns) -> None:
    """Void the consent of each number as the nightly job does. A write that no gate receives is repeated."""
    address, written = gate_requests.gate_address(loader.load(config).data), list[str]()
    for number in numbers:
        enrolment = gate_requests.Enrolment(
            controller="acme", registry="rpo", listed_by=NOW, receipt="r", numbers=[int(number[1:])]
        )
        while f"{number} consents_voided" not in written:
            try:
                gate_requests.void_consents(address, enrolment)
            except gate_requests.GateRefused:
                turns.restarted.wait()
                continue
            written.append(f"{number} consents_voided")
    out.write_text("\n".join(written))


async def test_of_two_writers_nothing_is_lost_while_the_gate_is_killed_and_restarted(tmp_path: Path) -> None:
    path = stopped_folder(tmp_path)
    numbers = [f"+390612{place:06}" for place in range(WRITES)]
    by_job, outs = numbers[1::2], [tmp_path / "commands", tmp_path / "job"]
    context = multiprocessing.get_context("forkserver")  # of `run_command`
    turns = Turns(context.Event(), context.Event())
    writers = [
        context.Process(target=write_by_commands, args=(path, numbers[::2], outs[0], turns)),
        context.Process(target=write_by_the_job, args=(path, by_job, outs[1], turns)),
    ]
    async with serving(path) as gate:
        for number in by_job:
            await gate.post("/v1/consents", {"number": number, **CONSENT})
        for writer in writers:
            writer.start()
        await asyncio.to_thread(turns.halfway.wait)
    stopped = await asyncio.to_thread(run_command, "dialgate", "revoke", CLEAR, "--config", path)
    assert stopped.code == 0
    async with serving(path) as gate:  # the first was killed
        answer = await gate.post("/v1/check", {**world.CALL, "to": CLEAR})
        assert REVOKED in [reason["code"] for reason in answer["reasons"]]
        turns.restarted.set()
        for writer in writers:
            await asyncio.to_thread(writer.join)
            assert writer.exitcode == 0
    async with serving(path) as gate:
        gate.process.terminate()
        await gate.process.wait()
    assert [*(tmp_path / "data/pending").glob("*")] == []
    wanted = {line for out in outs for line in out.read_text().splitlines()}
    assert len(wanted) == WRITES
    async with ledger_of(loader.load(path), lambda: NOW) as ledger:
        every = await ledger.access.store.since(0, 10 * WRITES)
        unseal = ledger.access.keys.ledger.unseal
        found = {f"{unseal(entry.sealed)} {type(entry.event).__struct_config__.tag}" for entry in every}
    assert wanted <= found
