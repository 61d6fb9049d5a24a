"""Gates as child processes. A test can kill a gate, cut its connection to the store, or make its disk fail.

A child receives commands as JSON lines over a socket. Each child is forked from a server that has already imported the
product, so that a child starts in a tenth of a second. Only `_Child` and `Node.entries` use the product's classes.
"""

import asyncio
import json
import multiprocessing
import os
import resource
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

import holidays.countries  # noqa: F401 - imported once for all children: half the cost of a start
from msgspec import Struct
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.config import loader
from dialgate.core.model import Call, Instant
from dialgate.crypto.keys import Keys
from dialgate.decision_log import last_checkpoint, segments, verify
from dialgate.decision_log.records import Reader, Record
from dialgate.ledger.schemas import OutcomeRequest, RevocationRequest
from dialgate.observability import service_log
from tests.support.proxy import Proxy
from tests.support.world import CALLER, Hand, load_numbers

CONTEXT: Final = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.support.gate_processes"])
_LONGEST: Final = 1 << 24  # bytes of a command or a response
FULL, LOSING = "/dev/full", "/dev/null"


class Died(Exception):
    """The child ended before it responded."""


class Failed(Exception):
    """The command failed in the child."""


class CheckResponse(Struct, frozen=True):
    """A response to a check. `id` is empty if no decision was recorded."""

    decision: str
    id: str
    codes: tuple[str, ...]


class Entry(Struct, frozen=True):
    """A decision in the log. `attempts` are the IDs of the earlier calls that counted towards its limits."""

    id: str
    number: str
    call_id: str
    allow: bool
    attempts: tuple[str, ...]


# ---- child ----------------------------------------------------------------------------------------------------


class _Child:
    """A gate in the child process. Each public coroutine is a command."""

    def __init__(self, app: App) -> None:
        self._app, self._client = app, app.config.settings.clients[0]

    async def check(self, *calls: tuple[str, str, str]) -> list[tuple[str, str, list[str]]]:
        """Check all calls in one turn of the event loop, so that they form as few batches as possible."""
        asked = [
            self._app.gate.check(
                Call(to=to, from_=CALLER, campaign=campaign, call_id=call_id),
                self._client,
            )
            for to, call_id, campaign in calls
        ]
        answers = await asyncio.gather(*asked)
        return [
            (answer.decision, answer.decision_id, [reason.code for reason in answer.reasons])
            for answer in answers
        ]

    async def ping(self) -> None:
        pass

    async def revoke(self, number: str) -> int:
        ask = RevocationRequest(number=number, scope="controller")
        return (await self._app.registrar.revocations.revoke(self._client, ask)).seq

    async def report(self, decision: str, outcome: Any) -> None:
        await self._app.registrar.outcomes.result(
            self._client, OutcomeRequest(decision_id=decision, outcome=outcome)
        )

    async def load(self, numbers: list[str]) -> None:
        """Load a call list with these numbers."""
        await load_numbers(self._app, numbers)
        await self._app.tick(patience=None)

    async def tick(self) -> dict[str, str]:
        await self._app.tick(patience=None)
        return self._app.gate.readiness()

    async def note_durable(self) -> bool:
        """Write the sequence number of the last log entry on disk to the store. Return whether the write succeeded.

        Other gates can repeat the answers of log entries up to this sequence number.
        """
        note = self._app._upkeep.durable_note
        await note.flush()
        return not note.problem

    async def redirect_log(self, path: str) -> None:
        """Redirect writes of the open segment to a device that refuses or discards them."""
        device = os.open(path, os.O_WRONLY)
        for fd in _open_segments(self._app.config.data / "log"):
            os.dup2(device, fd)
        os.close(device)

    async def limit_log(self, room: int) -> None:
        """Limit every file to the size of the newest segment plus `room` bytes."""
        newest = segments(self._app.config.data / "log")[-1][1]
        _limit_files(newest.stat().st_size + room)

    async def lift_limit(self) -> None:
        _limit_files(resource.RLIM_INFINITY)

    async def close(self) -> None:
        await self._app.close()


def _open_segments(folder: Path) -> Iterator[int]:
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing's own descriptor is already closed
            path = link.readlink()
            if path.parent == folder and path.stem.isdigit():
                yield int(link.name)


def _limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def run_gate(mine: socket.socket, file: Path, at: Instant) -> None:
    async def run() -> None:
        hand = Hand(at)
        app = await App.open(loader.load(file), registry=CollectorRegistry(), clock=hand)
        await _serve(mine, hand, _Child(app))

    with (file.parent / "output").open("a") as output:
        for fd in (1, 2):
            os.dup2(output.fileno(), fd)
    service_log.configure()
    asyncio.run(run())


async def _serve(mine: socket.socket, hand: Hand, child: _Child) -> None:
    """Run commands until the socket closes. They start in order of arrival and run concurrently."""
    reader, writer = await asyncio.open_connection(sock=mine, limit=_LONGEST)

    async def obey(ticket: int, order: str, values: Sequence[Any]) -> None:
        try:
            answer = [ticket, await getattr(child, order)(*values), ""]
        except Exception as error:  # noqa: BLE001 - reported to the test
            answer = [ticket, None, f"{type(error).__name__}: {error}"]
        writer.write(json.dumps(answer).encode() + b"\n")

    writer.write(b'[0, null, ""]\n')
    tasks = set()
    while line := await reader.readline():
        ticket, hand.at, order, values = json.loads(line)
        task = asyncio.create_task(obey(ticket, order, values))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if order == "close":
            await task
            await writer.drain()
            return


# ---- parent -----------------------------------------------------------------------------------------------------


class Node:
    """A child process with its configuration file. `proxy`, if any, is between the child and the store."""

    def __init__(self, file: Path, hand: Hand, proxy: Proxy | None = None) -> None:
        self.file, self.hand, self.proxy = file, hand, proxy
        self.data = file.parent / "data"
        self._keys: Keys | None = None
        self._process: Any = None

    async def start(self) -> None:
        """Start the child. Raise `AssertionError` with its output if it does not start."""
        ours, its = socket.socketpair()
        self._process = CONTEXT.Process(target=run_gate, args=(its, self.file, self.hand.at), daemon=True)
        self._process.start()
        its.close()
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=_LONGEST)
        self._tickets, self._awaited = count(1), dict[int, asyncio.Future[Any]]()
        started = self._awaited[0] = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read(reader))
        try:
            await started
        except Died:
            raise AssertionError((self.file.parent / "output").read_text()[-3000:]) from None

    @property
    def log(self) -> str:
        """The name of the decision log. Decision IDs from this node begin with it."""
        name: str = json.loads((self.data / "keys.json").read_bytes())["log"]
        return name

    @property
    def running(self) -> bool:
        return self._process is not None

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                ticket, answer, fault = json.loads(line)
                awaited = self._awaited.pop(ticket)
                if fault:
                    awaited.set_exception(Failed(fault))
                else:
                    awaited.set_result(answer)
        except ConnectionError:
            pass
        finally:
            for awaited in self._awaited.values():
                if not awaited.done():
                    awaited.set_exception(Died())
            self._writer.transport.abort()

    def order(self, name: str, *values: Any) -> asyncio.Future[Any]:
        """Send a command and return a future for its result. The future may fail with `Failed` or `Died`."""
        ticket = next(self._tickets)
        awaited = self._awaited[ticket] = asyncio.get_running_loop().create_future()
        if self._reading.done():
            awaited.set_exception(Died())
        self._writer.write(json.dumps([ticket, self.hand.at, name, values]).encode() + b"\n")
        return awaited

    async def check(self, *calls: tuple[str, str, str]) -> list[CheckResponse]:
        answers = await self.order("check", *calls)
        return [CheckResponse(decision, name, tuple(codes)) for decision, name, codes in answers]

    async def kill(self) -> None:
        """Send SIGKILL, so that the child flushes and closes nothing."""
        process, self._process = self._process, None
        process.kill()
        await self._reading
        process.join()
        process.close()

    async def close(self) -> None:
        if not self.running:
            return
        process, self._process = self._process, None
        with suppress(Died):  # then the exit code is not 0
            await self.order("close")
        await self._reading
        process.join()
        assert process.exitcode == 0, (self.file.parent / "output").read_text()[-3000:]
        process.close()

    def newest_entry(self) -> int:
        folder = self.data / "log"
        first = segments(folder)[-1][0]
        return max((line.seq for line, _ in Reader(folder).entries(first=first)), default=first - 1)

    def entries(self, after: int = 0) -> Iterator[Entry]:
        if self._keys is None:
            self._keys = Keys.open(self.data / "keys.json")
        for _, record in Reader(self.data / "log").entries(first=after + 1):
            if isinstance(record, Record):
                number = self._keys.month(record.at).unseal(record.sealed)
                attempts = tuple(attempt.decision for attempt in record.facts.known.attempts)
                yield Entry(record.id, number, record.call_id, record.decision.allow, attempts)

    def cut_power(self, answered: int, cut: int) -> None:
        """Remove up to `cut` bytes from the end of the log, as a power failure might.

        Entries up to `answered` are kept, as are entries that a checkpoint covers.
        """
        covered = last_checkpoint(self.data / "log")
        kept = max(answered, covered.checkpoint.size if covered else 0)
        first, newest = segments(self.data / "log")[-1]
        lines = newest.read_bytes().splitlines(keepends=True)
        synced = sum(map(len, lines[: max(1, kept - first + 2)]))
        size = sum(map(len, lines))
        os.truncate(newest, max(synced, size - cut))

    def faults(self) -> list[str]:
        return [str(fault) for fault in verify(self.data / "log").faults]
