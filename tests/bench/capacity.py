"""The constants of `dialgate capacity`, measured in one run: what a check costs a gate, its store, its log and the network.

Half of the measured calls are to numbers that were called before. Copy the figures to `MEASURED` in `dialgate/tools/capacity.py`.
"""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

from tests.bench import COUNTRIES, Figure, http, http_load, servers, world
from tests.bench.servers import Server

_REPORTED = {
    "memory": ("used_memory",),
    "cpu": ("used_cpu_sys", "used_cpu_user"),
    "traffic": ("total_net_input_bytes", "total_net_output_bytes"),
}
_AGAIN = 3  # with the first and the last turn, as many calls to a number as the limit permits
_PACKET = 40  # bytes of the headers of IP and TCP


class _Bench:
    """A gate, its store and the numbers to ask about."""

    def __init__(self, made: world.World, gate: Server, url: str = "") -> None:
        self._made, self._gate, self._url = made, gate, url
        self._asked = self._calls = 0

    def redis(self) -> dict[str, float]:
        """Return the memory of Redis in bytes, its processor time in seconds and its traffic in bytes."""
        report = servers.redis_report(self._url) if self._url else {}
        return {
            name: sum(float(report.get(field, 0)) for field in fields) for name, fields in _REPORTED.items()
        }

    def turn(self, new: int, known: int, *, named: bool = False) -> tuple[http.Turn, dict[str, float]]:
        """Check numbers that were not asked about, and the first numbers again.

        Return the turn, and what it added to the report of Redis for each check. Only a call with a `call_id` can be repeated,
        so the store keeps no answer for one that is not `named`.
        """
        before = self.redis()
        numbers = [*self._made.numbers[self._asked : self._asked + new], *self._made.numbers[:known]]
        self._asked += new
        bodies = b"".join(self._body(number, named=named) + b"\n" for number in numbers)
        turn = http.run_gate(self._gate, self._made, bodies)
        return turn, {name: (value - before[name]) / len(numbers) for name, value in self.redis().items()}

    def _body(self, number: int, *, named: bool) -> bytes:
        self._calls += 1
        body = world.body(number, self._calls)
        return body if named else body.partition(b',"call_id"')[0] + b"}"

    def traffic(self) -> int:
        """Return the bytes of a check and its answer on the network."""
        request = http_load.request(self._body(self._made.callable[-1], named=True), self._made.key)
        with socket.create_connection((http_load.HOST, self._gate.port)) as connection:
            connection.sendall(request)
            return len(request) + len(connection.recv(65_536)) + 3 * _PACKET  # with an acknowledgement

    def memory(self) -> float:
        """Return the gate's memory in MB, without mapped files."""
        status = Path(f"/proc/{self._gate.pid}/status").read_text()
        return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def run(requests: int = 30_000, countries: Path = COUNTRIES) -> Iterator[Figure]:
    """Measure each constant with `requests` checks a turn. Linux only."""
    with tempfile.TemporaryDirectory() as name, http.store_settings(Path(name), "redis") as settings:
        made = world.build(Path(name), countries, 2 * requests, **settings)
        with servers.gate(made.config) as gate:
            yield from _redis(_Bench(made, gate, settings["store"]["url"]), requests)
    with tempfile.TemporaryDirectory() as name:
        made = world.build(Path(name), countries, 2 * requests)
        store = Path(name) / "data/store.db"
        size = store.stat().st_size
        with servers.gate(made.config) as gate:
            bench = _Bench(made, gate)
            turns = [bench.turn(requests, 0), bench.turn(requests // 2, requests // 2, named=True)]
        yield Figure("capacity.embedded_cpu", _cpu(turns[-1][0]), "us")
        checks = sum(turn.load.requests for turn, _ in turns)
        yield Figure("capacity.embedded_check", round((store.stat().st_size - size) / checks, 1), "B")


def _redis(bench: _Bench, requests: int) -> Iterator[Figure]:
    new = bench.turn(requests, 0)[1]["memory"]
    # Several calls to each number: Redis allocates more than a value needs when it grows.
    attempt = mean(bench.turn(0, requests)[1]["memory"] for _ in range(_AGAIN))
    turn, added = bench.turn(requests // 2, requests // 2, named=True)
    yield Figure("capacity.gate_cpu", _cpu(turn), "us")
    yield Figure("capacity.redis_cpu", round(added["cpu"] * 1e6, 1), "us")
    yield Figure("capacity.redis_number", round(new - attempt, 1), "B")
    yield Figure("capacity.redis_attempt", round(attempt, 1), "B")
    yield Figure("capacity.redis_answer", round(added["memory"] - (new + attempt) / 2, 1), "B")
    yield Figure("capacity.redis_traffic", round(added["traffic"]), "B")
    yield Figure("capacity.log", round(turn.log / turn.load.requests), "B")
    yield Figure("capacity.http_traffic", bench.traffic(), "B")
    yield Figure("capacity.gate_memory", round(bench.memory()), "MB")


def _cpu(turn: http.Turn) -> float:
    return round(turn.cpu / turn.load.requests * 1e6, 1)
