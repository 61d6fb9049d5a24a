"""The demonstration folder: the configuration in `resources/demo`, with made-up call lists and registry answers."""

import random
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import date, timedelta
from hashlib import sha256
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from string import Template
from typing import Final, NamedTuple
from urllib.parse import urlencode

import yaml
from msgspec import Struct

from dialgate.core import local_time
from dialgate.core.model import DAY, HOUR, Instant
from dialgate.core.refusal import Refused
from dialgate.runtime.gate_address import GateAddress

MARK: Final = "made-by-dialgate-demo"
ACME, BETA, STATISTICS = "+390844100100", "+390844200200", "+390843100100"
RECALLED: Final = "+390645678901"  # one of beta's caller IDs, with a proof that people can call it back
# Rome's landlines and one operator's mobiles with random digits; Ofcom's numbers for drama.
_ROME, _MOBILE, _LONDON, _MANCHESTER = "+39063{:07}", "+39320{:07}", "+442079460{:03}", "+441614960{:03}"

_RESOURCES: Final = Path(__file__).parents[2] / "resources" / "demo"
# Italy's law is changed so that today is a holiday, on which nobody may be called about water.
_WATER: Final = {
    "source": "made up for the demonstration", "from": "2018-01-01", "severity": "operator", "sectors": ["water"],
    "days": {"mon-sun": ["00:00-24:00"], "holiday": []}, "day_set": "holidays",
}  # fmt: skip
_FILES: Final = {
    "dialgate.yaml": "dialgate.yaml", "registries.yaml": "registries.yaml", "acme.yaml": "controllers/acme.yaml",
    "beta.yaml": "controllers/beta.yaml", "gb.yaml": "countries/gb.yaml",
}  # fmt: skip


class DemoOptions(Struct, frozen=True, kw_only=True):
    """The demonstration's options.

    `countries` is the folder with Italy's law. `numbers` is the total count of numbers.
    """

    folder: Path
    countries: Path
    port: int
    numbers: int = 100_000


class Demo(Struct, frozen=True, kw_only=True):
    """A demonstration that has been set up. `numbers` contains the numbers in each group."""

    config: Path
    textfile: Path
    port: int
    key: str
    numbers: dict[str, list[str]]


def build(wanted: DemoOptions, now: Instant, tell: Callable[[str], None]) -> Demo:
    """Set up the demonstration in an empty folder, or replace an earlier demonstration.

    Call `tell` with the console's address and key first, then with a message for each step. Raises `Refused`.
    """
    folder, port = wanted.folder, wanted.port
    _clear(folder)
    numbers, key = _draw_numbers(wanted.numbers), secrets.token_urlsafe(24)
    tell(f"{console_of(port)}   key: {key}")
    tell("writing the configuration …")
    config = _write_config(folder, wanted.countries, now, port, key)
    tell(f"loading {wanted.numbers:,} numbers as call lists …")
    with _gate(config):
        for call_list in _LISTS:
            _load(GateAddress(folder / "data"), call_list, numbers)
    tell("asking the simulated registry …")
    _consult_registry(folder, config, numbers, now)
    return Demo(config=config, textfile=folder / "registry_sync.prom", port=port, key=key, numbers=numbers)


def console_of(port: int) -> str:
    return f"http://127.0.0.1:{port}/console"


def _clear(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise Refused("demo.failed", f"{folder} contains other files. Choose another folder with --folder.")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    (folder / MARK).touch()


def _draw_numbers(total: int) -> dict[str, list[str]]:
    """Draw the numbers for each group.

    The numbers in the groups `unasked`, `expired` and `unlisted` are not on any call list.
    """
    draw = random.Random(1)  # noqa: S311 - made-up numbers
    rome = iter(draw.sample(range(10_000_000), 90_000))
    mobile = iter(draw.sample(range(10_000_000), 10_000))

    def take(count: int, form: str = _ROME) -> list[str]:
        return [form.format(next(mobile if form == _MOBILE else rome)) for _ in range(count)]

    groups = {"ceded": 500, "few": 60, "unasked": 400, "expired": 400, "unlisted": 400}
    numbers = {name: take(count) for name, count in groups.items()}
    numbers["cover"] = take(total // 4)
    numbers["fibre"] = take(total - total // 4 - total // 10 - sum(groups.values()) - 1_400)
    numbers["mobile"] = take(total // 10, _MOBILE)
    numbers["london"] = [_LONDON.format(place) for place in range(900)]
    numbers["manchester"] = [_MANCHESTER.format(place) for place in range(500)]
    return numbers


# ---- configuration ---------------------------------------------------------------------------------------------------


def _write_config(folder: Path, countries: Path, now: Instant, port: int, key: str) -> Path:
    values = {"port": port, "key_sha256": sha256(key.encode()).hexdigest()}
    for name, target in _FILES.items():
        (folder / target).parent.mkdir(exist_ok=True)
        text = Template((_RESOURCES / name).read_text("utf-8"))
        (folder / target).write_text(text.safe_substitute(values), "utf-8")
    italy = yaml.safe_load((countries / "it.yaml").read_text("utf-8"))
    today = local_time.day_in(italy["zone"], now)
    italy["day_sets"]["holidays"]["added"] = [str(today + timedelta(days=days)) for days in range(2)]
    italy["hours"].append(_WATER)
    (folder / "countries/it.yaml").write_text(yaml.safe_dump(italy, allow_unicode=True), "utf-8")
    return folder / "dialgate.yaml"


# ---- lists and answers -----------------------------------------------------------------------------------------------


class _List(NamedTuple):
    controller: str
    name: str
    campaigns: tuple[str, ...]
    groups: tuple[str, ...]
    basis: str = "directory"
    transfers: str = "[]"


_FIBRE: Final = ("acme-fibre", "acme-voice", "acme-power", "acme-abroad", "acme-survey")
_ORIGIN: Final = {
    "origin": "public_directory",
    "collected_by": "a made-up directory",
    "collected_on": "2026-01-01",
}
# The data subjects were not informed.
_BROKER: Final = '[{"by": "A broker", "to": "acme", "on": "2026-03-01"}]'
_LOADING: Final = 300.0  # seconds, on a slow machine
_LISTS: Final = (
    _List("acme", "directory", _FIBRE, ("fibre", "few")),
    _List("acme", "mobiles", ("acme-mobile",), ("mobile",), "consent"),
    _List("acme", "bought", ("acme-fibre",), ("ceded",), transfers=_BROKER),
    _List("beta", "policies", ("beta-cover", "beta-water"), ("cover",)),
    _List("beta", "abroad", ("beta-london", "beta-evening"), ("london", "manchester")),
)


@contextmanager
def _gate(config: Path) -> Iterator[None]:
    """Run a gate within the block, because only a gate writes to its data folder. Raises `Refused`."""
    words = [sys.executable, "-m", "dialgate"]
    process = subprocess.Popen(  # noqa: S603 - our own program
        [*words, "serve", "--config", str(config)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    with process:
        try:
            assert process.stderr is not None
            if not any(line.startswith(b"{") and b'"url"' in line for line in process.stderr):
                raise Refused(
                    "demo.failed", "the gate that loads the call lists did not start. Is its port in use?"
                )
            yield
        finally:
            process.terminate()


def _load(gate: GateAddress, call_list: _List, numbers: dict[str, list[str]]) -> None:
    """Send a list to the gate. Raises `Refused`."""
    rows = [number for group in call_list.groups for number in numbers[group]]
    query = urlencode(
        {
            "id": call_list.name,
            "controller": call_list.controller,
            "basis": call_list.basis,
            "campaigns": call_list.campaigns,
            "transfers": call_list.transfers,
            **_ORIGIN,
        },
        doseq=True,
    )
    body, headers = "\n".join(["number", *rows, ""]), {"Content-Type": "text/csv"}
    try:
        with closing(gate.connection(_LOADING)) as connection:
            connection.request("POST", f"/v1/lists?{query}", body, headers)
            response = connection.getresponse()
            content = response.read().decode()
    except (OSError, HTTPException) as error:
        raise Refused("demo.failed", f"the gate that loads the call lists ended: {error!r}") from error
    if response.status != HTTPStatus.CREATED:
        raise Refused("demo.failed", f"the call list {call_list.name} was not loaded: {content}")


def _consult_registry(folder: Path, config: Path, numbers: dict[str, list[str]], now: Instant) -> None:
    """Import registry answers for the groups `expired` and `unlisted`, then run the nightly job for the call lists."""
    _import_answers(folder, config, numbers["expired"], now - 20 * DAY, "--expired")
    _import_answers(folder, config, numbers["unlisted"], now - HOUR)
    (folder / "tps").mkdir()
    enrolled = [number.removeprefix("+44") for number in numbers["london"][::3]]
    day = date.fromordinal(local_time.day_in("Europe/London", now).toordinal() - 1)
    lines = "".join(f"{'0' + number:<12}\r\n" for number in enrolled)
    (folder / "tps" / f"tps-{day:%Y%m%d}.txt").write_text(lines, "ascii", newline="")
    for name in ("acme", "beta"):
        for box in ("outbox", "inbox"):
            (folder / f"rpo-{name}" / box).mkdir(parents=True)
    night(folder)
    for name in ("acme", "beta"):
        _run("simulate", str(folder / f"rpo-{name}"))
    night(folder)


def night(folder: Path) -> None:
    """Run the nightly job. Exit code 1 means that an operator should look at an alarm, so it is accepted."""
    _run("run", "--once", "--registries", str(folder / "registries.yaml"), also=1)


def _import_answers(folder: Path, config: Path, numbers: list[str], at: Instant, *more: str) -> None:
    national = [number.removeprefix("+39") for number in numbers]
    request, answer = folder / f"asked-{at}.txt", folder / f"answer-{at}.txt"
    request.write_text("".join(f"{number}\n" for number in national), "ascii")
    answer.write_text("".join(f"{number},0\n" for number in national), "ascii")
    words = f"import --registry rpo --controller acme --receipt DEMO-{at}".split()
    files = ("--request", str(request), "--answer", str(answer), "--consulted-at", local_time.rfc3339(at))
    _run(*words, "--config", str(config), *files, *more)


def _run(*words: str, also: int = 0) -> None:
    """Run a command of registry-sync. Raises `Refused`."""
    process = subprocess.run(  # noqa: S603 - our own programs
        [sys.executable, "-m", "registry_sync", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode not in {0, also}:
        raise Refused(
            "demo.failed", f"`registry-sync {words[0]}` failed: {(process.stderr or process.stdout).strip()}"
        )
