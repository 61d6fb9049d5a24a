"""The constants of `dialgate capacity`, measured in one run: what a check costs a gate, its store, its log and the network.

Half of the measured calls are to numbers that were called before. Copy the figures to `MEASURED` in `dialgate/tools/capacity.py`.
"""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench import COUNTRIES, Figure, http, http_load, servers, world
from tests.bench.servers import Server

_PACKET = 40  # bytes of the headers of IP and TCP


class _Bench:
    """A gate, its store and the numbers to ask about."""

    def __init__(self, folder: Path, made: world.World, gate: Server, url: str) -> None:
        self._folder, self._made, self._gate, self._url = folder, made, gate, url
        self._asked = self._calls = 0

    def store(self) -> dict[str, float]:
        """Return the store's bytes and, of Redis, its processor time in seconds and its traffic in bytes."""
        if not self._url:
            return {"bytes": sum(path.stat().st_size for path in (self._folder / "data").glob("store.db*"))}
        report = servers.redis_report(self._url)
        return {
            "bytes": float(report["used_memory"]),
            "cpu": float(report["used_cpu_sys"]) + float(report["used_cpu_user"]),
            "traffic": float(report["total_net_input_bytes"]) + float(report["total_net_output_bytes"]),
        }

    def turn(self, new: int, known: int = 0, *, named: bool = True) -> tuple[http.Turn, dict[str, float]]:
        """Check numbers that were not asked about, and the first numbers again. Return the turn and the store's increase a check.

        Only a call with a `call_id` can be repeated, so the store keeps no answer for one that is not `named`.
        """
        before = self.store()
        numbers = [*self._made.numbers[self._asked : self._asked + new], *self._made.numbers[:known]]
        self._asked += new
        bodies = b"".join(self._body(number, named=named) + b"\n" for number in numbers)
        turn = http.run_gate(self._gate, self._made, bodies)
        return turn, {name: (value - before[name]) / len(numbers) for name, value in self.store().items()}

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
    for store in ("redis", "embedded"):
        with tempfile.TemporaryDirectory() as name, http.store_settings(Path(name), store) as settings:
            folder, url = Path(name), settings["store"]["url"] if settings else ""
            made = world.build(folder, countries, 2 * requests, **settings)
            with servers.gate(made.config) as gate:
                yield from (_redis if url else _embedded)(_Bench(folder, made, gate, url), requests)


def _redis(bench: _Bench, requests: int) -> Iterator[Figure]:
    bench.turn(requests)
    turn, store = bench.turn(requests // 2, requests // 2)
    _, unnamed = bench.turn(requests // 2, requests // 2, named=False)
    checks = turn.load.requests
    yield Figure("capacity.gate_cpu", round(turn.cpu / checks * 1e6, 1), "us")
    yield Figure("capacity.redis_cpu", round(store["cpu"] * 1e6, 1), "us")
    yield Figure("capacity.redis_attempt", round(unnamed["bytes"], 1), "B")
    yield Figure("capacity.redis_answer", round(store["bytes"] - unnamed["bytes"], 1), "B")
    yield Figure("capacity.redis_traffic", round(store["traffic"]), "B")
    yield Figure("capacity.http_traffic", bench.traffic(), "B")
    yield Figure("capacity.log", round(turn.log / checks), "B")
    yield Figure("capacity.gate_memory", round(bench.memory()), "MB")


def _embedded(bench: _Bench, requests: int) -> Iterator[Figure]:
    bench.turn(requests)
    turn, _ = bench.turn(requests // 2, requests // 2)
    _, unnamed = bench.turn(requests // 2, requests // 2, named=False)
    yield Figure("capacity.embedded_cpu", round(turn.cpu / turn.load.requests * 1e6, 1), "us")
    yield Figure("capacity.embedded_attempt", round(unnamed["bytes"], 1), "B")
