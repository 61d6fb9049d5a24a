"""Registries with a configured layout: full lists and answers from files on disk, through the job, up to the gate's decision."""

import asyncio
import json
import shutil
import subprocess
import sys
import time
import zipfile
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import asyncssh
import msgspec
import pytest
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.config import loader
from dialgate.config.configuration import ConfigError
from dialgate.core import local_time
from dialgate.core.model import DAY, HOUR, Call, Instant
from dialgate.interfaces.cli.config import check
from dialgate.ledger.schemas import CallerIdProofRequest, ConsentRequest, ListRequest
from dialgate.lists.snapshot import Snapshot
from dialgate.lists.tabular import from_lines
from registry_sync import config, nightly_job
from registry_sync.formats.layout import FileLayout
from registry_sync.formats.table import TableFormat
from registry_sync.formats.text import FaultyFile
from registry_sync.run_report import Run
from tests.registry_sync.test_registry_sources import secret
from tests.support import world, yaml_files
from tests.support.call_lists import built_from
from tests.support.registry_servers import PASSWORD, USER, serve_sftp
from tests.support.registry_world import no_progress
from tests.support.world import CONFIG, Hand

PROGRAM = (sys.executable, "-m", "registry_sync")
BRUSSELS = "Europe/Brussels"
TODAY = date(2026, 11, 24)
MIDNIGHT: Instant = local_time.midnight(BRUSSELS, TODAY)
LISTED, CLEAR, OUTSIDE = "+32470123456", "+32470123457", "+3225123456"
DNCM: dict[str, Any] = {
    "registry": "dncm",
    "format": "csv",
    "layout": {"country": "BE", "separator": "tab", "date": 2, "date_format": "%d/%m/%Y"},
    "source": {"kind": "folder", "inbox": "inbox", "settle_seconds": 0},
    "coverage": ["324"],
    "max_age_days": 1,
    "warning_days": 0,
}


class Office:
    """A controller in one country: the configurations of its gate and of the nightly job, and the registry's files."""

    def __init__(self, folder: Path, country: str, **registries: Any) -> None:
        self.folder = folder
        self.gate = world.write_folder(folder, accept_drafts=[country])
        for name in ("countries/it.yaml", "controllers/acme.yaml"):
            (folder / name).unlink()
        shutil.copy(CONFIG / f"countries/{country.lower()}.yaml", folder / "countries")
        caller = {"BE": "+3225987654", "US": "+12125551234", "AU": "+61291234567"}[country]
        campaign = {
            "id": "fibre", "purpose": "sale", "sector": "telecommunications", "goods": "broadband", "call_type": "agent",
            "callee": "consumer", "caller_ids": [caller], "trunk_country": country, "dial_region": country, "dial_mode": "manual",
        }  # fmt: skip
        controller = {"id": "acme", "name": "Acme", "country": country, "campaigns": [campaign]}
        yaml_files.write(folder / "controllers/acme.yaml", controller)
        self.caller = caller
        self.inbox = folder / "inbox"
        self.inbox.mkdir()
        self.path = folder / "registries.yaml"
        self.configure(**registries)

    def configure(self, **registries: Any) -> None:
        yaml_files.write(self.path, {"work": "data/registries", **registries})

    def put(self, name: str, *lines: str) -> None:
        (self.inbox / name).write_bytes("".join(f"{line}\r\n" for line in lines).encode())

    async def run(self, at: Instant) -> Run:
        return await nightly_job.run(config.load(self.path), no_progress, clock=Hand(at))

    async def load_list(self, at: Instant, *numbers: str) -> None:
        app = await App.open(loader.load(self.gate), registry=CollectorRegistry(), clock=Hand(at))
        try:
            await self._load_list(app, numbers, at)
        finally:
            await app.close()

    async def _load_list(self, app: App, numbers: tuple[str, ...], at: Instant) -> None:
        client = app.config.settings.clients[0]
        ask = ListRequest(
            id=f"customers-{at}",
            campaigns=("fibre",),
            basis="consent",
            collected_by="acme",
            collected_on=date(2018, 1, 15),
        )
        await app.registrar.call_lists.load_from(client, ask, built_from(from_lines(numbers)))
        proof = CallerIdProofRequest(caller_id=self.caller, kind="attested", evidence="a contract")
        await app.registrar.caller_ids.prove_caller_id(client, proof)
        await app.tick()

    async def decide(self, at: Instant, *numbers: str) -> list[str]:
        """Check a call to each number. Return `allow` or the first reason code for each number."""
        loaded = loader.load(self.gate)
        app = await App.open(loaded, registry=CollectorRegistry(), clock=Hand(at))
        try:
            await self._load_list(app, numbers, at)
            client = app.config.settings.clients[0]
            answers = [
                await app.gate.check(Call(to=to, from_=self.caller, campaign="fibre"), client)
                for to in numbers
            ]
            return [answer.reasons[0].code if answer.reasons else answer.decision for answer in answers]
        finally:
            await app.close()


def kinds(run: Run) -> list[str]:
    return [alarm.kind for alarm in run.alarms]


# ---- full lists ------------------------------------------------------------------------------------------------------


@pytest.fixture
def belgium(tmp_path: Path) -> Office:
    return Office(tmp_path, "BE", listed=[DNCM])


def test_list_of_today_decides_calls_through_the_real_command(belgium: Office) -> None:
    """The command reads a file with a date for each number. The gate applies the list until its version expires."""
    today = local_time.day_in(BRUSSELS, time.time_ns() // 1_000_000)  # the command has no other clock
    belgium.put(f"dncm_{today:%Y%m%d}.txt", "0470/12.34.56\t01/02/2019", "025123450\t15/07/2021")
    command = [*PROGRAM, "run", "--once", "--json", "--registries", str(belgium.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr  # no alarms
    assert json.loads(done.stdout)["parts"][0]["added"] == 1  # the other is outside the coverage
    numbers = (LISTED, CLEAR, OUTSIDE)
    at = local_time.midnight(BRUSSELS, today) + DAY - 1
    assert asyncio.run(belgium.decide(at, *numbers)) == ["registry.listed", "allow", "registry.uncovered"]
    assert asyncio.run(belgium.decide(at + 1, CLEAR)) == ["registry.expired"]


async def test_list_holds_the_day_of_each_registration(belgium: Office) -> None:
    """If a number has two lines, the later day counts. A later version of the list replaces all days."""
    belgium.put(
        f"dncm_{TODAY:%Y%m%d}.txt",
        "0470123456\t03/02/2019",
        "0470123450\t15/07/2021",
        "0470123456\t01/02/2019",
    )
    await belgium.run(MIDNIGHT + HOUR)
    assert listed_since(belgium, LISTED, "+32470123450", CLEAR) == [
        local_time.midnight(BRUSSELS, date(2019, 2, 4)) - 1,
        local_time.midnight(BRUSSELS, date(2021, 7, 16)) - 1,
        0,
    ]
    later = MIDNIGHT + 30 * HOUR
    belgium.put(
        f"dncm_{local_time.day_in(BRUSSELS, later):%Y%m%d}.txt",
        f"{CLEAR}\t{TODAY:%d/%m/%Y}".replace("+32", "0"),
    )
    await belgium.run(later)
    assert (
        listed_since(belgium, LISTED, CLEAR)[1]
        == local_time.midnight(BRUSSELS, TODAY + timedelta(days=1)) - 1
    )


def listed_since(office: Office, *numbers: str) -> list[Instant]:
    snapshot = Snapshot.open(office.folder / "data/snapshots")
    try:
        return [snapshot.answer("dncm", "", int(number.removeprefix("+"))).since for number in numbers]
    finally:
        snapshot.close()


async def test_number_is_unknown_before_the_first_list(belgium: Office) -> None:
    assert await belgium.decide(MIDNIGHT + HOUR, CLEAR) == ["registry.unknown"]


async def test_list_from_an_sftp_server_is_pulled_by_another_node(belgium: Office) -> None:
    """The daily file of the Belgian list comes by SFTP. A second node copies the publication with `registry-sync pull`."""
    belgium.put(f"dncm_{TODAY:%Y%m%d}.txt", "0470123456\t01/02/2019")
    async with serve_sftp(belgium.folder, asyncssh.generate_private_key("ssh-ed25519")) as control:
        source = {
            "kind": "sftp", "host": "127.0.0.1", "port": control.port, "user": USER, "host_key": control.host_key,
            "password_file": secret(belgium.folder / "password", PASSWORD), "inbox": "inbox",
        }  # fmt: skip
        belgium.configure(listed=[DNCM | {"source": source}])
        assert kinds(await belgium.run(MIDNIGHT + HOUR)) == []
    published = belgium.folder / "data/snapshots"
    first = published.rename(belgium.folder / "publisher")
    command = [*PROGRAM, "pull", "--from", str(first), "--snapshots", str(published)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert await belgium.decide(MIDNIGHT + HOUR, LISTED, CLEAR) == ["registry.listed", "allow"]


FAULTS: dict[str, tuple[tuple[str, ...], str]] = {
    "another separator": (
        ("0470123456;01/02/2019",),
        "line 1: the line has no column 2, only 1. Check `separator`",
    ),
    "a truncated line": (
        ("0470123456\t01/02/2019", "0470"),
        "line 2: the line has 1 columns, not 2. Is the file truncated?",
    ),
    "a short number": (
        ("0470123456\t01/02/2019", "047012\t01/02/2019"),
        "line 2: no number in BE has 5 digits",
    ),
    "a letter": (("O470123456\t01/02/2019",), "line 1: the number contains something other than digits"),
    "an empty line": (("0470123456\t01/02/2019", ""), "line 2: the line is empty"),
    "another date format": (
        ("0470123456\t2019-02-01",),
        "line 1: the date does not have the format %d/%m/%Y",
    ),
    "an older file with a new name": (
        ("0470123456\t01/02/2099",),
        "line 1: the date is after the version in the file name",
    ),
    "a quotation mark": (('"0470123456\t01/02/2019',), "line 1: the line is not CSV"),
    "not ASCII": (("0470123456\t01/02/2019", "0470é"), "line 2: the line is not ascii text"),
    "another country": (
        ("612345678\t01/02/2019", "712345678\t01/02/2019"),
        "most of its first 2 numbers are not valid",
    ),
    "empty": ((), "the file is empty"),
}


@pytest.mark.parametrize("case", FAULTS)
async def test_fault_names_the_first_bad_line_and_publishes_nothing(belgium: Office, case: str) -> None:
    lines, fault = FAULTS[case]
    name = f"dncm_{TODAY:%Y-%m-%d}.csv"
    belgium.put(name, *lines)
    result = await belgium.run(MIDNIGHT + HOUR)
    (text,) = (alarm.text for alarm in result.alarms if alarm.kind == "file_faulty")
    assert text.startswith(name)
    assert fault in text
    assert "0123456" not in text
    assert result.version == ""


async def test_file_without_a_number_of_an_area_does_not_clear_the_area(belgium: Office) -> None:
    """A file of mobile numbers alone says nothing about landlines."""
    layout = {"country": "BE", "separator": "tab"}
    belgium.configure(listed=[DNCM | {"coverage": ["322", "324"], "layout": layout}])
    belgium.put(f"dncm_{TODAY:%Y%m%d}.txt", "0470123456\t01/02/2019")
    result = await belgium.run(MIDNIGHT + HOUR)
    (text,) = (alarm.text for alarm in result.alarms if alarm.kind == "file_faulty")
    assert text.startswith(
        f"dncm_{TODAY:%Y%m%d}.txt: it contains no number of area 322. If the file never contains"
    )
    assert await belgium.decide(MIDNIGHT + HOUR, LISTED, CLEAR, OUTSIDE) == [
        "registry.listed",
        "allow",
        "registry.uncovered",
    ]


# ---- several registries in one country -------------------------------------------------------------------------------

STATE = DNCM | {
    "registry": "us_co_dnc", "coverage": ["1303", "1719"], "max_age_days": 31, "file_name": "colorado {area} {date}.csv",
    "layout": {
        "country": "US", "header": True, "number": "Phone", "status": "Status", "listed": ["ACTIVE"], "clear": ["REMOVED"],
    },
}  # fmt: skip
NATIONAL = DNCM | {"registry": "us_dnc", "format": "us_dnc", "coverage": ["1303"], "max_age_days": 31}


async def test_state_list_stands_beside_the_national_one(tmp_path: Path) -> None:
    """Each file of the state list covers one area and has a status for each number."""
    del NATIONAL["layout"]
    office = Office(tmp_path, "US", listed=[NATIONAL, STATE])
    office.put(f"{TODAY:%Y-%m-%d}_303_ab.txt", "303,5550100")
    office.put(
        f"colorado 303 {TODAY}.csv", "Name,Phone,Status", "A,(303) 555-0101,ACTIVE", "B,13035550102,REMOVED"
    )
    office.put(f"colorado 719 {TODAY}.csv", "Name,Phone,Status", "C,719 555 0103,ACTIVE")
    office.put("colorado 303.csv", "no date")
    assert kinds(await office.run(MIDNIGHT + 12 * HOUR)) == []
    opened = Snapshot.open(office.folder / "data/snapshots")
    try:
        found = {
            number: [opened.answer(registry, "acme", number).answer for registry in ("us_dnc", "us_co_dnc")]
            for number in (13035550100, 13035550101, 13035550102, 17195550103, 12125550100)
        }
    finally:
        opened.close()
    assert found == {
        13035550100: ["listed", "clear"],
        13035550101: ["clear", "listed"],
        13035550102: ["clear", "clear"],
        17195550103: ["uncovered", "listed"],
        12125550100: ["uncovered", "uncovered"],
    }
    # Noon in Denver. The lists of other states, which nothing published, do not bind a number of Colorado.
    calls = ["+13035550100", "+13035550101", "+13035550102", "+17195550103"]
    verdicts = await office.decide(MIDNIGHT + 20 * HOUR, *calls)
    assert verdicts == ["registry.listed", "registry.listed", "allow", "registry.uncovered"]


# ---- answers ---------------------------------------------------------------------------------------------------------

SYDNEY = "Australia/Sydney"
WASHED: dict[str, Any] = {
    "registry": "dncr",
    "controller": "acme",
    "format": "csv",
    "layout": {
        "country": "AU",
        "separator": ";",
        "header": True,
        "number": "Number",
        "request": ["Row", "Number"],
    },
    "source": {"kind": "folder", "outbox": "outbox", "inbox": "inbox", "settle_seconds": 0},
    "submit_every_hours": 0,
}
TUESDAY: Instant = local_time.midnight(SYDNEY, date(2026, 11, 24)) + 10 * HOUR
RISKY, WELCOME = "+61291234560", "+61291234561"


async def test_washed_list_answers_the_query(tmp_path: Path) -> None:
    """The register returns only the clear numbers of a query. All others count as listed, even in a truncated file."""
    office = Office(tmp_path, "AU", asked=[WASHED])
    (office.folder / "outbox").mkdir()
    assert await office.decide(TUESDAY, RISKY, WELCOME) == ["registry.unknown"] * 2
    first = await office.run(TUESDAY)
    assert first.parts[0].submitted == 2
    (package,) = (office.folder / "outbox").glob("*.zip")
    with zipfile.ZipFile(package) as archive:
        assert archive.read("numbers.txt").decode().split() == ["Row;Number", "1;0291234560", "2;0291234561"]
    office.put(f"{package.stem}.receipt.txt", "WASH-1")
    office.put(f"{package.stem}.answer.csv", "Row;Number", "2;0291234561")
    assert (await office.run(TUESDAY + HOUR)).parts[0].answered == 2
    assert await office.decide(TUESDAY + HOUR, RISKY, WELCOME) == ["registry.listed", "allow"]
    assert await office.decide(TUESDAY + 30 * DAY, WELCOME) == ["registry.expired"]


def test_answer_is_imported_by_hand_with_the_layout_of_its_registry(tmp_path: Path) -> None:
    office = Office(tmp_path, "AU", asked=[WASHED])
    office.put("request.csv", "Row;Number", "1;0291234560", "2;0291234561")
    office.put("answer.csv", "Row;Number", "2;0291234561")
    command = [
        *PROGRAM,
        "import",
        "--json",
        "--registry",
        "dncr",
        "--controller",
        "acme",
        "--receipt",
        "WASH-1",
    ]
    command += ["--config", str(office.gate), "--consulted-at", "2026-11-24T10:00:00+11:00", "--expired"]
    command += ["--request", str(office.inbox / "request.csv"), "--answer", str(office.inbox / "answer.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["listed"], report["clear"]) == (1, 1)
    assert report["valid_until"] - report["consulted_at"] == 30 * DAY
    refused = subprocess.run(
        [*command, "--registry", "robinson"],
        capture_output=True,
        text=True,
        check=False,
        env={"COLUMNS": "300"},
    )
    assert refused.returncode == 2
    assert "registries.yaml has no entry for registry robinson and controller acme" in refused.stderr


async def test_enrolment_voids_no_consent_where_the_law_says_nothing_of_it(tmp_path: Path) -> None:
    """In Australia a consent outweighs the register, so an enrolment must not void a consent in the history."""
    office = Office(tmp_path, "AU", asked=[WASHED])
    assert config.load(office.path).voiding == frozenset()


QUERY_WITH_HEADER = FileLayout(
    country="FR",
    separator=";",
    header=True,
    encoding="utf-8",
    number="Telephone",
    status=3,
    clear=("OK",),
    request=("Telephone", "Identifiant"),
)
ANSWER_WITH_HEADER = ("Telephone;Identifiant;Statut", "0612345678;1;OK", "0712345678;2;KO", "0112345678;3;")


def test_only_the_value_for_clear_permits_a_number(tmp_path: Path) -> None:
    table = TableFormat(QUERY_WITH_HEADER)
    (tmp_path / "answer.csv").write_text("".join(f"{line}\n" for line in ANSWER_WITH_HEADER))
    answer = table.read_answer(tmp_path / "answer.csv")
    assert dict(zip(answer.numbers.tolist(), answer.statuses.tolist(), strict=True)) == {
        33612345678: 0,
        33712345678: 1,
        33112345678: 1,
    }
    assert table.request_text(answer.numbers[1:2]) == b"Telephone;Identifiant\r\n0612345678;1\r\n"


FORMS = {
    "a plus sign": ("FR", "international", "+33 6 12 34 56 78", 33612345678),
    "two zeros": ("FR", "international", "0033612345678", 33612345678),
    "the country code alone": ("FR", "international", "33612345678", 33612345678),
    "a trunk prefix": ("FR", "national", "06.12.34.56.78", 33612345678),
    "no trunk prefix": ("FR", "national", "612345678", 33612345678),
    "nine digits with a trunk prefix": ("BE", "national", "02/512.34.56", 3225123456),
    "a leading zero of the number": ("IT", "national", "06 12345678", 390612345678),
    "a plan without a trunk prefix": ("ES", "national", "612 345 678", 34612345678),
    "a trunk prefix that is also a first digit": ("RU", "national", "8001234567", 78001234567),
    "a trunk prefix in brackets": ("DE", "international", "+49 (0)170 1234567", 491701234567),
    "a trunk prefix after the country code": ("AT", "international", "00430664 1234567", 436641234567),
    "a prefix 1": ("CA", "national", "1 (416) 555-0100", 14165550100),
}


@pytest.mark.parametrize("case", FORMS)
def test_forms_of_a_number(tmp_path: Path, case: str) -> None:
    country, form, written, number = FORMS[case]
    (tmp_path / "list.txt").write_text(written + "\n")
    layout = msgspec.convert({"country": country, "numbers": form, "separator": "none"}, FileLayout)
    assert TableFormat(layout).read_list(tmp_path / "list.txt", TODAY).numbers.tolist() == [number]


UNSURE: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "a foreign number": (
        {"country": "FR", "numbers": "international", "separator": "none"},
        ("+33612345678", "+34612345678"),
        "line 2: the number does not begin with the country code 33",
    ),
    "a country code in a national list": (
        {"country": "DE", "separator": "none"},
        ("0170 1234567", "0049 170 1234568"),
        "line 2: the number begins with two zeros",
    ),
    "two columns of one name": (
        {
            "country": "DE", "separator": ";", "header": True, "number": "Nummer", "status": "Status", "clear": ["frei"],
        },
        ("Nummer;Status;Status", "0170 1234567;frei;gesperrt"),
        "line 1: the header has several columns named 'Status'",
    ),
    "no header": (
        {"country": "DE", "separator": "none", "header": True},
        ("0170 1234567", "0170 1234568"),
        "line 1: the first line contains a number instead of the column names",
    ),
    "a line of another form": (
        {"country": "DE", "separator": ";", "header": True, "line": r"0\d+;\d+\n"},
        ("Nummer;Status", "01701234567;1", "01701234568;A"),
        "line 3: the line does not have the form",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNSURE)
def test_list_that_may_lose_a_listed_number_is_refused(tmp_path: Path, case: str) -> None:
    layout, lines, fault = UNSURE[case]
    (tmp_path / "list.txt").write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(FaultyFile, match=fault):
        TableFormat(msgspec.convert(layout, FileLayout)).read_list(tmp_path / "list.txt", TODAY)


# ---- settings --------------------------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no layout": ({"layout": None}, "listed dncm: format csv needs a `layout`"),
    "two formats": (
        {"format": "tps"},
        "format tps has its own layout; remove `layout`, or set `format: csv`",
    ),
    "country": (
        {"layout": {"country": "XX"}},
        "layout: country XX is unknown; use an ISO 3166 code, for example BE",
    ),
    "a name without a header": (
        {"layout": {"country": "BE", "number": "Tel"}},
        "so the file needs `header: true`",
    ),
    "line": ({"layout": {"country": "BE", "line": "("}}, "line is not a regular expression"),
    "one column twice": ({"layout": {"country": "BE", "date": 1}}, "must be different columns"),
    "one column only": (
        {"layout": {"country": "BE", "separator": "none", "date": 2}},
        "separator is none, so the number is the only column",
    ),
    "values without a column": ({"layout": {"country": "BE", "clear": ["0"]}}, "set `status`"),
    "listed alone": (
        {"layout": {"country": "BE", "status": 2, "listed": ["1"]}},
        "`clear` is empty; list the values",
    ),
    "two meanings": (
        {"layout": {"country": "BE", "status": 2, "listed": ["1"], "clear": ["1"]}},
        "'1' has two meanings",
    ),
    "date format": (
        {"layout": {"country": "BE", "date": 2, "date_format": "%d/%m"}},
        "must contain the year, the month and the day",
    ),
    "a query": ({"layout": {"country": "BE", "request": ["1"]}}, "`request` is the header of a query"),
    "coverage": ({"coverage": ["33"]}, "coverage '33' must begin with 32, the country code of BE"),
    "several areas": (
        {"coverage": ["324", "322"]},
        "coverage: a list with a `date` column must have one prefix",
    ),
    "registry": (
        {"registry": "dncn"},
        "listed dncn: no country file names this registry. Known registries: dncm",
    ),
    "file name": ({"file_name": "dncm.txt"}, "file_name"),
}


def test_format_of_another_country_is_a_mistake(tmp_path: Path) -> None:
    """The default format is for Italian numbers, so the job would never submit a number from another country."""
    office = Office(
        tmp_path, "AU", asked=[{key: WASHED[key] for key in ("registry", "controller", "source")}]
    )
    with pytest.raises(
        ConfigError, match="asked dncr, acme: its format is for numbers from IT, but the registry is in AU"
    ):
        config.load(office.path)


@pytest.mark.parametrize("case", MISTAKES)
def test_mistake_in_a_layout_is_reported_by_both_commands(belgium: Office, case: str) -> None:
    changes, fault = MISTAKES[case]
    belgium.configure(listed=[DNCM | changes])
    with pytest.raises(ConfigError) as refused:
        config.load(belgium.path)
    assert fault in "\n".join(refused.value.problems)
    _, warnings = check(belgium.gate, belgium.path, MIDNIGHT)
    assert any(fault in warning for warning in warnings)


def test_missing_extra_of_a_transport_is_reported(belgium: Office) -> None:
    source = {
        "kind": "sftp",
        "host": "h",
        "user": "u",
        "host_key": "ssh-ed25519 AAAA",
        "inbox": "in",
        "password_env": "HOME",
    }
    belgium.configure(listed=[DNCM | {"source": source}])
    program = "import sys; sys.modules['asyncssh'] = None; from dialgate.__main__ import main; main()"
    command = [sys.executable, "-c", program, "config", "check", "--config", str(belgium.gate)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Warning: registries.yaml: listed dncm: source: kind sftp needs an extra" in done.stderr


# ---- disconnected numbers --------------------------------------------------------------------------------------------

REASSIGNED: dict[str, Any] = {
    "registry": "rnd",
    "controller": "acme",
    "format": "csv",
    "layout": {
        "country": "US", "header": True, "number": "Number", "date": "Since", "date_format": "%m/%d/%Y", "status": "Answer",
        "request": ["Number", "Since"], "clear": ["No"], "listed": ["Yes"], "unknown": ["No data"],
    },
    "source": {"kind": "folder", "outbox": "outbox", "inbox": "inbox", "settle_seconds": 0},
    "submit_every_hours": 0,
}  # fmt: skip
KEPT, CHANGED, NO_DATA, WITHOUT_CONSENT = "+12125550101", "+12125550102", "+12125550103", "+12125550104"
NEW_YORK_NOON: Instant = local_time.midnight("America/New_York", date(2026, 11, 24)) + 12 * HOUR
GIVEN: Instant = local_time.midnight("America/New_York", date(2026, 3, 2)) + 9 * HOUR


async def give_consents(office: Office, at: Instant, *numbers: str, collected_at: Instant = GIVEN) -> None:
    app = await App.open(loader.load(office.gate), registry=CollectorRegistry(), clock=Hand(at))
    try:
        client = app.config.settings.clients[0]
        for number in numbers:
            ask = {
                "number": number, "collected_at": local_time.rfc3339(collected_at), "purposes": ["sale"],
                "call_types": ["agent"], "id": f"c{collected_at}", "artefact": "ab", "artefact_sha256": "0" * 64, "form": "written",
            }  # fmt: skip
            await app.registrar.consents.record(client, msgspec.convert(ask, ConsentRequest))
    finally:
        await app.close()


def queries(office: Office) -> dict[str, list[str]]:
    found = {}
    for package in sorted((office.folder / "outbox").glob("*.zip")):
        with zipfile.ZipFile(package) as archive:
            found[package.stem] = archive.read("numbers.txt").decode().split("\r\n")[:-1]
        package.unlink()
    return found


def reassigned(office: Office, number: str) -> tuple[str, Instant, Instant]:
    opened = Snapshot.open(office.folder / "data/snapshots")
    try:
        answer = opened.answer("rnd", "acme", int(number[1:]))
        return answer.answer, answer.asked_since, answer.listed_at
    finally:
        opened.close()


async def test_disconnection_is_asked_about_since_the_newest_consent(tmp_path: Path) -> None:
    """A disconnected number, or a number about which the registry has no data, is not submitted again the next day.

    A newer consent causes a new query, with the collection date of that consent.
    """
    office = Office(tmp_path, "US", asked=[REASSIGNED])
    (office.folder / "outbox").mkdir()
    await give_consents(office, NEW_YORK_NOON, KEPT, CHANGED, NO_DATA)
    await office.load_list(NEW_YORK_NOON, KEPT, CHANGED, NO_DATA, WITHOUT_CONSENT)
    await office.run(NEW_YORK_NOON)
    ((name, rows),) = queries(office).items()
    numbers = [number[2:] for number in (KEPT, CHANGED, NO_DATA)]
    assert rows == ["Number,Since", *(f"{number},03/02/2026" for number in numbers)]
    office.put(f"{name}.receipt.txt", "RND-1")
    answers = zip(numbers, ("No", "Yes", "No data"), strict=True)
    office.put(f"{name}.answer.csv", "Number,Answer", *(f"{number},{answer}" for number, answer in answers))
    first = NEW_YORK_NOON + HOUR
    assert kinds(await office.run(first)) == []
    since = local_time.midnight("Etc/GMT+12", date(2026, 3, 2))
    assert reassigned(office, KEPT) == ("clear", since, 0)
    assert reassigned(office, CHANGED) == ("listed", since, NEW_YORK_NOON)
    assert reassigned(office, NO_DATA)[0] == "unknown"
    await office.run(first + DAY)
    assert queries(office) == {}
    await give_consents(office, first + 2 * DAY, CHANGED, collected_at=first + DAY)
    await office.run(first + 2 * DAY)
    assert list(queries(office).values()) == [["Number,Since", f"{CHANGED[2:]},11/25/2026"]]


def test_answer_about_a_disconnection_names_its_day_when_imported_by_hand(tmp_path: Path) -> None:
    office = Office(tmp_path, "US", asked=[REASSIGNED])
    office.put("request.csv", "Number,Since", "2125550101,03/02/2026", "2125550102,03/02/2026")
    office.put("answer.csv", "Number,Answer", "2125550101,No", "2125550102,No data")
    command = [
        *PROGRAM,
        "import",
        "--json",
        "--registry",
        "rnd",
        "--controller",
        "acme",
        "--receipt",
        "RND-1",
    ]
    command += ["--config", str(office.path), "--consulted-at", "2026-11-24T10:00:00-05:00", "--expired"]
    command += ["--request", str(office.inbox / "request.csv"), "--answer", str(office.inbox / "answer.csv")]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (refused.returncode, "is required for this registry" in refused.stderr) == (2, True)
    done = subprocess.run([*command, "--since", "2026-03-02"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert reassigned(office, KEPT)[:2] == ("clear", local_time.midnight("Etc/GMT+12", date(2026, 3, 2)))
    assert reassigned(office, CHANGED)[0] == "unknown"


def test_registry_that_is_asked_about_a_day_needs_a_column_for_it(tmp_path: Path) -> None:
    layout = {key: value for key, value in REASSIGNED["layout"].items() if key != "date"}
    office = Office(tmp_path, "US", asked=[REASSIGNED | {"layout": layout}])
    with pytest.raises(ConfigError, match="so `layout` needs a `date` column in `request`"):
        config.load(office.path)
