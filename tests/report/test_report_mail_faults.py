"""Faults while a report is sent by mail: a stop, a store that does not answer, a report that fails, a reload."""

import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs
from structlog.testing import capture_logs

from dialgate.config import loader
from dialgate.core.model import DAY, HOUR, MINUTE
from tests.report.test_report_mail import (
    BOSS,
    CLIENTS,
    DAILY,
    MORNING,
    OFFICER,
    begin,
    mail_server,
    send,
    settings,
    shown,
)
from tests.support import world, yaml_files
from tests.support.console_world import BETA
from tests.support.world import NOW, Hand, running, write_folder

BOTH = [CLIENTS[0] | {"controllers": ["acme", "beta"]}]


async def test_a_report_that_is_broken_off_by_a_stop_is_sent_by_the_next_gate_with_the_same_id(
    tmp_path: Path,
) -> None:
    """The server has taken the mail, but the gate has not got the answer."""
    async with mail_server(tmp_path / "server") as server:
        config = write_folder(tmp_path, mail=settings(server, DAILY))
        server.answers.clear()
        async with world.serving(config, Hand()) as app:
            await server.took.wait()
            (claim,) = (await app._store.report_deliveries()).values()
        server.answers.set()
        async with world.serving(config, Hand(NOW + MINUTE)) as app:
            await send(app, NOW + MINUTE)
            assert claim.retry_at == NOW + HOUR
            (sent,) = (await app._store.report_deliveries()).values()
            assert (sent.period, sent.retry_at) == ("2026-11-23", 0)
    first, second = server.mails
    assert first["Message-ID"] == second["Message-ID"]


async def test_the_claim_of_a_gate_that_was_killed_lasts_an_hour(tmp_path: Path) -> None:
    async with (
        mail_server(tmp_path / "server") as server,
        running(tmp_path, mail=settings(server, DAILY)) as gate,
    ):
        await send(gate.app, NOW)
        (before,) = (await gate.app._store.report_deliveries()).values()
        claim = structs.replace(before, retry_at=MORNING + HOUR)
        assert await gate.app._store.change_report_delivery(before, claim)
        for at, mails in ((MORNING + HOUR - MINUTE, 1), (MORNING + HOUR, 2)):
            await send(gate.app, at)
            assert len(server.mails) == mails


async def test_a_result_that_the_store_did_not_take_is_stored_at_the_next_tick(tmp_path: Path) -> None:
    async with (
        mail_server(tmp_path / "server") as server,
        running(tmp_path, mail=settings(server, DAILY), clients=CLIENTS) as gate,
    ):
        await send(gate.app, NOW)
        server.took.clear()
        server.answers.clear()
        gate.hand.at = MORNING
        task = begin(gate.app, MORNING)
        await server.took.wait()
        with closing(sqlite3.connect(gate.app.config.data / "store.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")  # until the connection is closed
            server.answers.set()
            await task
        for at in (MORNING + MINUTE, MORNING + 2 * HOUR):
            await send(gate.app, at)
            assert await shown(gate) == [("2026-11-24", "")]
    assert server.sent() == ["2026-11-23", "2026-11-24"]


async def test_a_report_that_fails_is_given_up_when_a_later_one_is_sent(tmp_path: Path) -> None:
    async with (
        mail_server(tmp_path / "server") as server,
        running(tmp_path, mail=settings(server, DAILY), clients=CLIENTS) as gate,
    ):
        await send(gate.app, NOW)
        server.too_large.add("2026-11-24")
        failed = "did not take the report: (552, 'Too large')"
        for at, last in ((MORNING, "2026-11-23"), (MORNING + DAY, "2026-11-25")):
            gate.hand.at = at
            await send(gate.app, at)
            ((period, problem),) = await shown(gate)
            assert (period, problem[:12], problem[-len(failed) :]) == (last, "2026-11-24: ", failed)
        await send(gate.app, MORNING + 2 * DAY)
        assert await shown(gate) == [("2026-11-26", "")]
    assert server.sent() == ["2026-11-23", "2026-11-25", "2026-11-26"]


async def test_no_report_is_given_up_while_the_mail_server_is_away(tmp_path: Path) -> None:
    async with (
        mail_server(tmp_path / "server") as server,
        running(tmp_path, mail=settings(server, DAILY), clients=CLIENTS) as gate,
    ):
        await send(gate.app, NOW)
        server.answer = "451 Try again later"
        for days in range(2):
            gate.hand.at = MORNING + days * DAY
            await send(gate.app, gate.hand.at)
        server.answer = "250 OK"
        await send(gate.app, gate.hand.at + 15 * MINUTE)
        assert await shown(gate) == [("2026-11-25", "")]
    assert server.sent() == ["2026-11-23", "2026-11-24", "2026-11-25"]


async def test_each_report_is_tried_again_after_no_process_could_start(tmp_path: Path) -> None:
    schedules = [DAILY, {**DAILY, "name": "other"}]
    async with (
        mail_server(tmp_path / "server") as server,
        running(tmp_path, mail=settings(server, *schedules), clients=CLIENTS) as gate,
    ):
        await send(gate.app, NOW)
        gate.hand.at = MORNING
        with no_more_files(), capture_logs() as logged:
            await send(gate.app, MORNING)
        assert [(line["report"], line["exc_info"]) for line in logged] == [("daily", True), ("other", True)]
        assert [problem[:26] for _, problem in await shown(gate)] == ["2026-11-24: OSError: [Errn"] * 2
        await send(gate.app, MORNING + 15 * MINUTE)
        assert await shown(gate) == [("2026-11-24", "")] * 2
    assert len(server.mails) == 4


@contextmanager
def no_more_files() -> Iterator[None]:
    """Let this process open no further file, as if its limit were reached."""
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)


async def test_a_line_break_in_a_controllers_name_is_a_space_in_the_subject(tmp_path: Path) -> None:
    def rename(folder: Path) -> None:
        path = folder / "controllers/acme.yaml"
        named = msgspec.yaml.decode(path.read_bytes(), type=dict[str, Any])
        yaml_files.write(path, {**named, "name": "Acme\nS.p.A.\n"})

    async with (
        mail_server(tmp_path / "server") as server,
        running(tmp_path, prepare=rename, mail=settings(server, DAILY), clients=CLIENTS) as gate,
    ):
        await send(gate.app, NOW)
        assert await shown(gate) == [("2026-11-23", "")]
    assert "Acme S.p.A. · " in server.mails[0]["Subject"]


def add_beta(folder: Path) -> None:
    yaml_files.write(folder / "controllers/beta.yaml", BETA)


async def test_a_reload_while_reports_are_sent_counts_from_the_next_tick(tmp_path: Path) -> None:
    """Another controller with a schedule of the same name never sees what was sent of the first."""
    async with (
        mail_server(tmp_path / "server") as server,
        running(tmp_path, prepare=add_beta, mail=settings(server, DAILY), clients=BOTH) as gate,
    ):
        server.refused.add(BOSS)
        await send(gate.app, NOW)
        task = begin(gate.app, MORNING)
        beta = {**DAILY, "controller": "beta", "recipients": [OFFICER]}
        path = tmp_path / "dialgate.yaml"
        written = msgspec.yaml.decode(path.read_bytes(), type=dict[str, Any])
        yaml_files.write(path, written | {"mail": settings(server, beta)})
        gate.app.reload(loader.load(path))
        await task
        assert [mail["To"] for mail in server.mails] == [f"{OFFICER}, {BOSS}"] * 2
        assert await shown(gate) == [("", "")]
        await send(gate.app, MORNING + MINUTE)
        assert await shown(gate) == [("2026-11-24", "")]
    assert server.mails[2]["To"] == OFFICER
