"""The configuration and data folder for the gate that benchmarks measure.

All features are on. The registry answer and the call list are imported with the commands that an operator uses.
Calls are allowed at all hours, so that the figures do not depend on the time of day. The rule on calling hours
still runs.
"""

import random
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct

from dialgate.core import local_time
from dialgate.core.model import HOUR
from dialgate.runtime.clock import wall_clock
from tests.bench import known_numbers, servers
from tests.support import yaml_files

CAMPAIGN, CALLER_ID, CLIENT = "bench-fibre", "+390844999999", "bench"
_KEY = "bench-key"
# Rome's landlines: 06 and eight digits.
_FIRST, _LAST = 390_630_000_000, 390_690_000_000
_SETTINGS = {
    "data": "data",
    "countries": "countries",
    "controllers": "controllers",
    "listen": {"port": 0},
    "clients": [
        {
            "name": CLIENT,
            "controllers": [CLIENT],
            "scopes": ["check", "watch", "outcome", "revoke", "admin"],
            "key_sha256": sha256(_KEY.encode()).hexdigest(),
            "sources": ["127.0.0.1/32"],
        }
    ],
}
_CONTROLLER = {
    "id": CLIENT,
    "name": "A controller to be measured",
    "country": "IT",
    "campaigns": [
        {
            "id": CAMPAIGN,
            "purpose": "sale",
            "sector": "telecommunications",
            "call_type": "agent",
            "caller_ids": [CALLER_ID],
            "trunk_country": "IT",
            "dial_region": "IT",
        }
    ],
}
_ALL_DAY = {
    "source": "none: a gate to measure",
    "from": "2018-01-01",
    "severity": "operator",
    "days": {"mon-sun": ["00:00-24:00"]},
}


class World(Struct, frozen=True):
    """A gate to measure.

    `numbers` are in random order. One in twenty is listed in the registry, and one in twenty is on no list.
    `callable` contains the other numbers, which are on a directory list and not in the registry.
    The last `known` of `numbers` have attempts in the store.
    """

    config: Path
    key: str
    numbers: list[int]
    callable: list[int]
    known: int = 0

    @property
    def new_numbers(self) -> list[int]:
        return self.numbers[: len(self.numbers) - self.known]

    @property
    def known_numbers(self) -> list[int]:
        return self.numbers[len(self.numbers) - self.known :]


def build(
    folder: Path, countries: Path, size: int, *, known: int = 0, stored: int = 0, **settings: Any
) -> World:
    """Set up a gate with `size` numbers. Raises `CalledProcessError` if a command fails.

    `known` of them are among `stored` numbers that were called before. `countries` is the folder with the operator's laws.
    Other keyword arguments are written to dialgate.yaml.
    """
    config = write_config(folder, countries, **settings)
    draw = random.Random(1)
    numbers = draw.sample(range(_FIRST, _LAST), size)
    clear, listed = numbers[: size * 9 // 10], numbers[size * 9 // 10 : size * 19 // 20]
    answer(folder, clear, listed)
    _load(folder, config, clear + listed)
    draw.shuffle(numbers)
    world = World(config, _KEY, numbers, clear, known)
    if stored:
        known_numbers.fill(config, world.known_numbers, stored, CLIENT, CAMPAIGN)
    return world


def write_config(folder: Path, countries: Path, **settings: Any) -> Path:
    law = yaml.safe_load((countries / "it.yaml").read_text("utf-8"))
    law["hours"].append(_ALL_DAY)
    _write(folder / "dialgate.yaml", _SETTINGS | settings)
    _write(folder / "countries/it.yaml", law)
    write_controller(folder)
    return folder / "dialgate.yaml"


def write_controller(folder: Path, **changes: Any) -> None:
    _write(folder / "controllers/bench.yaml", _CONTROLLER | changes)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    yaml_files.write(path, content)


def answer(folder: Path, clear: list[int], listed: list[int], receipt: str = "bench") -> None:
    """Publish the registry's answers to a consultation of an hour ago."""
    statuses = [*((number, 0) for number in clear), *((number, 1) for number in listed)]
    national = [(str(number)[2:], status) for number, status in statuses]
    (folder / "asked.txt").write_text("".join(f"{number}\n" for number, _ in national), "ascii")
    (folder / "answer.txt").write_text(
        "".join(f"{number},{status}\n" for number, status in national), "ascii"
    )
    _run(
        *("registry_sync.cli", "import", "--registry", "rpo", "--controller", CLIENT, "--receipt", receipt),
        *("--request", folder / "asked.txt", "--answer", folder / "answer.txt"),
        *("--consulted-at", local_time.rfc3339(wall_clock() - HOUR)),
        *("--snapshots", folder / "data/snapshots"),
    )


def _load(folder: Path, config: Path, numbers: list[int]) -> None:
    (folder / "list.csv").write_text("number\n" + "".join(f"+{number}\n" for number in numbers), "ascii")
    with servers.gate(config):
        _run(
            *("dialgate", "list", "load", folder / "list.csv", "--id", "bench", "--campaign", CAMPAIGN),
            *("--basis", "directory", "--collected-by", "directory", "--collected-on", "2026-01-01"),
            *("--origin", "public_directory"),
            *("--config", config),
        )


def _run(program: str, *words: str | Path) -> None:
    command = [sys.executable, "-m", program, *words]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True, stdout=subprocess.DEVNULL)


def bodies(numbers: Iterator[int], count: int) -> bytes:
    """Return `count` request bodies, one per line, each with a different call id."""
    return b"".join(body(number, number) + b"\n" for number in islice(numbers, count))


def body(number: int, call_id: int) -> bytes:
    return b'{"to":"+%d","from":"%b","campaign":"%b","call_id":"%d"}' % (
        number,
        CALLER_ID.encode(),
        CAMPAIGN.encode(),
        call_id,
    )
