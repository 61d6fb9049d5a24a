"""The folder of the demonstration: configuration, call lists, registry answers, all made up.

Today is a holiday in its Italy, so that one campaign may meet it, and it has a Britain whose law is no law: London's numbers
stand for a country with a full list, where whatever else is refused can be shown.
"""

import random
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import yaml
from msgspec import Struct

from dialgate.core import local_time
from dialgate.core.model import DAY, HOUR, Instant

MARK: Final = "made-by-dialgate-demo"
ACME, BETA, STATISTICS = "+390844100100", "+390844200200", "+390843100100"
RECALLED: Final = "+390645678901"  # beta's own line, which is called back and answered
# Rome's landlines and one operator's mobiles, by made-up digits; Ofcom's numbers for drama.
_ROME, _MOBILE, _LONDON, _MANCHESTER = "+39063{:07}", "+39320{:07}", "+442079460{:03}", "+441614960{:03}"

_ALWAYS = {"weekday": ["00:00-24:00"], "saturday": ["00:00-24:00"], "sunday": ["00:00-24:00"]}
_MADE_UP: Final = "made up for the demonstration"
_ITALIAN_HOURS: Final = [
    {"source": _MADE_UP, "from": "2018-01-01", "severity": "operator", "sectors": ["water"], **_ALWAYS, "holiday": []},
]  # fmt: skip
_SECTORS = ["electricity", "gas", "water", "telecommunications", "banking", "insurance", "retail", "other"]


class DemoError(Exception):
    """The demonstration cannot be set up. The text says what to do."""


class Wanted(Struct, frozen=True, kw_only=True):
    """`countries`: the folder with the law of Italy; `numbers`: how many there are in all."""

    folder: Path
    countries: Path
    port: int
    numbers: int = 100_000


class Demo(Struct, frozen=True, kw_only=True):
    """`numbers`: what each kind of call is placed to."""

    config: Path
    textfile: Path
    port: int
    key: str
    numbers: dict[str, list[str]]


def build(wanted: Wanted, now: Instant, tell: Callable[[str], None]) -> Demo:
    """Replace an earlier demonstration in the folder, and nothing else. `tell` receives the address and key first, then each step.
    Raises `DemoError`."""
    folder, port = wanted.folder, wanted.port
    _emptied(folder)
    numbers, key = _drawn(wanted.numbers), secrets.token_urlsafe(24)
    tell(f"{console_of(port)}   key: {key}")
    tell("writing the configuration …")
    config = _configured(folder, wanted.countries, now, port, key)
    tell(f"loading {wanted.numbers:,} numbers as call lists …")
    for each in _lists(numbers):
        _load(folder, config, each)
    tell("asking the registry, which is simulated …")
    _asked(folder, config, numbers, now)
    return Demo(config=config, textfile=folder / "registry_sync.prom", port=port, key=key, numbers=numbers)


def console_of(port: int) -> str:
    """Return the address of the console."""
    return f"http://127.0.0.1:{port}/console"


def _emptied(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise DemoError(f"{folder} is there and is no demonstration; name another folder with --folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    (folder / MARK).touch()


def _drawn(total: int) -> dict[str, list[str]]:
    """Each number is in one group. Those of `unasked`, `expired` and `unlisted` stand on no list."""
    lot = random.Random(1)  # noqa: S311 - made-up numbers
    rome = iter(lot.sample(range(10_000_000), 90_000))
    mobile = iter(lot.sample(range(10_000_000), 10_000))

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


def _configured(folder: Path, countries: Path, now: Instant, port: int, key: str) -> Path:
    italy = yaml.safe_load((countries / "it.yaml").read_text("utf-8"))
    today = local_time.day_in(italy["zone"], now)
    italy["holidays"]["added"] = [today + timedelta(days=days) for days in range(2)]
    italy["hours"] += _ITALIAN_HOURS
    files: dict[str, Any] = {
        "dialgate.yaml": _settings(port, key),
        "registries.yaml": _registries(),
        "controllers/acme.yaml": _ACME,
        "controllers/beta.yaml": _BETA,
        "countries/it.yaml": italy,
        "countries/gb.yaml": _BRITAIN,
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")
    return folder / "dialgate.yaml"


def _settings(port: int, key: str) -> dict[str, Any]:
    scopes = [
        "check",
        "simulate",
        "outcome",
        "revoke",
        "ledger",
        "lists",
        "read",
        "stream",
        "subjects",
        "watch",
        "metrics",
    ]
    client = {"name": "demo", "controllers": ["acme", "beta"], "scopes": scopes}
    return {
        "data": "data",
        "countries": "countries",
        "controllers": "controllers",
        "node": "demo",
        "listen": {"port": port},
        "operations": {"port": 0},
        "clients": [{**client, "key_sha256": sha256(key.encode()).hexdigest()}],
    }


def _campaign(name: str, caller_id: str, **more: Any) -> dict[str, Any]:
    plain = {"purpose": "sale", "sector": "telecommunications", "call_type": "agent", "trunk_country": "IT"}
    return {"id": name, "caller_ids": [caller_id], **plain, **more}


_ACME: Final = {
    "id": "acme",
    "name": "Acme Telecomunicazioni S.p.A. (made up)",
    "country": "IT",
    "campaigns": [
        _campaign("acme-fibre", ACME, goods="broadband"),
        _campaign("acme-mobile", ACME, goods="mobile"),
        _campaign("acme-voice", ACME, call_type="automated"),
        _campaign("acme-power", ACME, sector="electricity"),
        _campaign("acme-autumn", ACME, paused=True),
        _campaign("acme-abroad", ACME, trunk_country="RO"),
        _campaign("acme-survey", STATISTICS),  # a number for statistics, used to sell
    ],
}
_BETA: Final = {
    "id": "beta",
    "name": "Beta Assicurazioni S.p.A. (made up)",
    "country": "IT",
    "campaigns": [
        _campaign("beta-cover", BETA, sector="insurance"),
        _campaign("beta-water", BETA, sector="water"),
        _campaign("beta-london", BETA, sector="insurance"),
        _campaign("beta-evening", RECALLED, sector="retail"),
    ],
}
_BRITAIN: Final = {
    "country": "GB",
    "name": "A Britain that is made up",
    "zone": "Europe/London",
    "sectors": _SECTORS,
    "codes": ["codice_condotta_telemarketing"],
    "holidays": {"country": "GB", "subdivision": "ENG", "added": []},
    "diallable": [{"source": _MADE_UP, "from": "2018-01-01", "kinds": ["fixed", "mobile", "fixed_or_mobile"]}],
    "legal_basis": [{"source": _MADE_UP, "from": "2018-01-01", "accepts": ["directory", "consent"]}],
    "registries": [
        {"id": "tps", "source": _MADE_UP, "from": "2018-01-01", "mode": "full_list", "validity_days": 28},
    ],
    "caller_ids": [{"source": _MADE_UP, "from": "2018-01-01", "classes": [], "proof_days": 30, "short_codes": []}],
    "hours": [
        {"source": _MADE_UP, "from": "2018-01-01", "severity": "operator", "sectors": ["retail"]},
    ],
}  # fmt: skip


def _registries() -> dict[str, Any]:
    def door(name: str) -> dict[str, Any]:
        return {"kind": "folder", "outbox": f"{name}/outbox", "inbox": f"{name}/inbox", "settle_seconds": 0}

    tps = {"kind": "folder", "inbox": "tps", "settle_seconds": 0}
    return {
        "gate": "dialgate.yaml",
        "work": "data/registries",
        "textfile": "registry_sync.prom",
        "asked": [
            {"registry": "rpo", "controller": name, "source": door(f"rpo-{name}"), "submit_every_hours": 0}
            for name in ("acme", "beta")
        ],
        "listed": [
            {"registry": "tps", "format": "tps", "source": tps, "coverage": ["4420"], "max_age_days": 28,
             "max_added": 100, "max_removed": 100},
        ],
    }  # fmt: skip


# ---- lists and answers -----------------------------------------------------------------------------------------------


class _List(Struct, frozen=True, kw_only=True):
    controller: str
    name: str
    campaigns: tuple[str, ...]
    numbers: list[str]
    basis: str = "directory"
    more: tuple[str, ...] = ()


def _lists(numbers: dict[str, list[str]]) -> tuple[_List, ...]:
    return (
        _List(
            controller="acme",
            name="directory",
            campaigns=("acme-fibre", "acme-voice", "acme-power", "acme-abroad", "acme-survey"),
            numbers=[*numbers["fibre"], *numbers["few"]],
        ),
        _List(
            controller="acme",
            name="mobiles",
            campaigns=("acme-mobile",),
            numbers=numbers["mobile"],
            basis="consent",
        ),
        _List(
            controller="acme",
            name="bought",
            campaigns=("acme-fibre",),
            numbers=numbers["ceded"],
            more=("--transfer", "A broker>acme@2026-03-01"),  # nobody was told
        ),
        _List(
            controller="beta",
            name="policies",
            campaigns=("beta-cover", "beta-water"),
            numbers=numbers["cover"],
        ),
        _List(
            controller="beta",
            name="abroad",
            campaigns=("beta-london", "beta-evening"),
            numbers=[*numbers["london"], *numbers["manchester"]],
        ),
    )


def _load(folder: Path, config: Path, each: _List) -> None:
    path = folder / f"{each.name}.csv"
    path.write_text("number\n" + "".join(f"{number}\n" for number in each.numbers), "ascii")
    called = [word for campaign in each.campaigns for word in ("--campaign", campaign)]
    collected = ("--collected-by", "a directory that is made up", "--collected-on", "2026-01-01")
    words = (
        "list",
        "load",
        str(path),
        "--id",
        each.name,
        "--controller",
        each.controller,
        "--basis",
        each.basis,
        "--yes",
    )
    _run("dialgate", *words, *called, *collected, *each.more, "--config", str(config))


def _asked(folder: Path, config: Path, numbers: dict[str, list[str]], now: Instant) -> None:
    """Answers by hand for numbers that stand on no list, then the nightly job for those that do."""
    _answered(folder, config, numbers["expired"], now - 20 * DAY, "--expired")
    _answered(folder, config, numbers["unlisted"], now - HOUR)
    (folder / "tps").mkdir()
    opposed = [number.removeprefix("+44") for number in numbers["london"][::3]]
    day = date.fromordinal(local_time.day_in("Europe/London", now).toordinal() - 1)
    lines = "".join(f"{'0' + number:<12}\r\n" for number in opposed)
    (folder / "tps" / f"tps-{day:%Y%m%d}.txt").write_text(lines, "ascii", newline="")
    for name in ("acme", "beta"):
        for door in ("outbox", "inbox"):
            (folder / f"rpo-{name}" / door).mkdir(parents=True)
    night(folder)
    for name in ("acme", "beta"):
        _run("registry_sync.cli", "simulate", str(folder / f"rpo-{name}"))
    night(folder)


def night(folder: Path) -> None:
    """Exit 1 says that a person must look: an alarm, not a failure."""
    _run("registry_sync.cli", "run", "--once", "--registries", str(folder / "registries.yaml"), also=1)


def _answered(folder: Path, config: Path, numbers: list[str], at: Instant, *more: str) -> None:
    national = [number.removeprefix("+39") for number in numbers]
    request, answer = folder / f"asked-{at}.txt", folder / f"answer-{at}.txt"
    request.write_text("".join(f"{number}\n" for number in national), "ascii")
    answer.write_text("".join(f"{number},0\n" for number in national), "ascii")
    words = (
        "import",
        "--registry",
        "rpo",
        "--controller",
        "acme",
        "--receipt",
        f"DEMO-{at}",
        "--config",
        str(config),
    )
    files = ("--request", str(request), "--answer", str(answer), "--consulted-at", local_time.rfc3339(at))
    _run("registry_sync.cli", *words, *files, *more)


def _run(program: str, *words: str, also: int = 0) -> None:
    done = subprocess.run(  # noqa: S603 - our own programs
        [sys.executable, "-m", program, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in {0, also}:
        raise DemoError(f"`{program} {words[0]}` failed: {(done.stderr or done.stdout).strip()}")
