"""Reports: figures match the records, and no format contains a called number."""

import asyncio
import csv
import io
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dialgate.config import loader
from dialgate.core.local_time import rfc3339
from dialgate.core.model import DAY, HOUR, MINUTE
from dialgate.crypto.keys import Keys
from dialgate.decision_log import chains
from dialgate.interfaces.http.reports import period_of
from dialgate.report import month
from dialgate.report.page import axis_end
from dialgate.report.rendering import Form, ReportOrder, make_report
from dialgate.report.tables import words
from dialgate.store.sqlite import SqliteStore
from dialgate.texts import LANGUAGES, Language
from registry_sync import publication
from tests.observability.test_metrics import check
from tests.support import sample_log
from tests.support.sample_log import SampleDecision
from tests.support.world import (
    CLEAR,
    KEY,
    LISTED,
    NOW,
    SCOPES,
    World,
    client,
    load_list,
    publish_answers,
    running,
    write_folder,
)

UNKNOWN = "+390612349912"


async def fill_day(world: World) -> None:
    """Fill a day with two allowed calls (answered, abandoned) and two denied calls (listed, unknown to the registry).

    Also record a revocation an hour after its request, and a call of the next day, which begins at 23:00 UTC.
    """
    await load_list(world)
    for outcome in ("answered", "abandoned"):
        result = await check(world.client, call_id=outcome)
        await world.post("/v1/outcomes", {"decision_id": result["decision_id"], "outcome": outcome}, 200)
    await check(world.client, to=LISTED)
    await check(world.client, to=UNKNOWN)
    requested_at = "2026-11-24T09:00:00+01:00"
    revocation = {"number": CLEAR, "channel": "mail", "proof": "mail/1", "at": requested_at}
    await world.post("/v1/revocations", revocation)
    world.hand.at = NOW + 14 * HOUR + MINUTE
    await check(world.client, to=LISTED)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reported")

    async def fill() -> None:
        async with running(folder) as world:
            await fill_day(world)

    asyncio.run(fill())
    return folder / "dialgate.yaml"


async def run_report(config: Path, *words: str) -> bytes:
    """Return the report that `dialgate report` gets from a gate with these options."""
    given, loaded = dict(zip(words[::2], words[1::2], strict=True)), loader.load(config)
    named = {name: given.get(f"--{name}", "") for name in ("day", "week", "month")}
    period = period_of(loaded, "acme", NOW, **named)
    order = ReportOrder(
        controller="acme",
        period=period,
        form=msgspec.convert(given.get("--format", "html"), Form),
        language=msgspec.convert(given.get("--language", "it"), Language),
        made_at=NOW,
    )
    return await asyncio.to_thread(make_report, loaded, order)


async def figures(config: Path, *words: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(await run_report(config, "--format", "json", *words))
    return result


async def test_figures_count_the_records_of_the_local_day(config: Path) -> None:
    result = await figures(config, "--day", "2026-11-24")
    assert (result["asked"], result["allowed"], result["denied"]) == (4, 2, 2)
    assert result["reasons"] == {"registry.listed": 1, "registry.unknown": 1}
    assert result["slots"][10] == {"name": "10", "allowed": 2, "denied": 2}  # ten o'clock in Rome
    assert sum(slot["allowed"] + slot["denied"] for slot in result["slots"]) == 4
    assert result["outcomes"] == {"answered": 1, "abandoned": 1}
    assert result["campaigns"][0]["abandoned_share"] == 1.0
    assert result["bases"] == {"directory": 2}
    assert result["ledger"] == {"revoked": 1}


async def test_share_of_silent_calls_counts_each_call_in_which_an_agent_spoke(tmp_path: Path) -> None:
    outcomes = ("answered", "refused", "wrong_number", "opt_out", "abandoned")
    async with running(tmp_path) as world:
        await load_list(world)
        calls = [await check(world.client, call_id=outcome) for outcome in outcomes]
        for call, outcome in zip(calls, outcomes, strict=True):
            await world.post("/v1/outcomes", {"decision_id": call["decision_id"], "outcome": outcome}, 200)
    (row,) = (await figures(tmp_path / "dialgate.yaml", "--day", "2026-11-24"))["campaigns"]
    assert (row["answered"], row["abandoned"], row["abandoned_share"]) == (4, 1, 0.25)


async def test_first_and_last_decision_are_those_of_all_workers(tmp_path: Path) -> None:
    """Worker 1 decides at hours 2 and 3, worker 2 at hours 0 and 1."""
    loaded = loader.load(write_folder(tmp_path))
    loaded.data.mkdir()
    await SqliteStore.open(loaded.data / "store.db").close()
    logs = {}
    for worker, hours in ((1, (2, 3)), (2, (0, 1))):
        keys = Keys.open(loaded.data / "keys.json", worker)
        logs[worker] = keys.log
        decisions = [SampleDecision(CLEAR, NOW + hour * HOUR, allow=False) for hour in hours]
        sample_log.write(chains.folder(loaded.data, worker), keys, decisions)
    result = await figures(tmp_path / "dialgate.yaml", "--day", "2026-11-24")
    assert result["records"] == [f"{logs[2]}-2", f"{logs[1]}-3"]


async def test_call_after_local_midnight_counts_for_the_next_day(
    config: Path,
) -> None:
    assert (await figures(config, "--day", "2026-11-25"))["reasons"] == {"registry.listed": 1}
    result = await figures(config, "--month", "2026-11")
    assert result["asked"] == 5
    assert [(slot["name"], slot["denied"]) for slot in result["slots"] if slot["denied"]] == [
        ("24", 2),
        ("25", 1),
    ]
    assert (await figures(config, "--day", "2026-11-23"))["asked"] == 0
    week = await figures(config, "--week", "2026-W48")
    assert [(slot["name"], slot["denied"]) for slot in week["slots"][:3]] == [("23", 0), ("24", 2), ("25", 1)]
    assert (week["asked"], len(week["slots"]), week["slots"][-1]["name"]) == (5, 7, "29")


async def test_wait_of_a_revocation_is_from_request_to_entry(config: Path) -> None:
    stops = (await figures(config, "--day", "2026-11-24"))["stops"]
    assert stops == {"revocations": 1, "by_channel": {"mail": 1}, "median_wait": HOUR, "longest_wait": HOUR}


async def test_figures_show_the_registry_consultations(config: Path) -> None:
    (use,) = (await figures(config, "--month", "2026-11"))["registries"]
    assert (use["registry"], use["numbers"], use["consultations"], use["listed"]) == ("rpo", 2, 1, 1)
    assert use["receipts"] == ["TICKET-1"]


async def test_a_report_shows_the_registry_as_it_was_at_the_end_of_its_period(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        data = world.app.config.data
    path, old = tmp_path / "dialgate.yaml", NOW - DAY
    (before,) = (await figures(path, "--day", "2026-11-24"))["registries"]
    assert (before["numbers"], before["newest"]) == (2, rfc3339(old))
    publish_answers(data, {CLEAR: False, UNKNOWN: True}, NOW + 14 * HOUR)  # imported at 01:00 on the next day
    assert (await figures(path, "--day", "2026-11-24"))["registries"] == [before]
    (after,) = (await figures(path, "--day", "2026-11-25"))["registries"]
    assert (after["numbers"], after["newest"], after["consultations"]) == (3, rfc3339(NOW + 14 * HOUR), 1)
    for days in range(1, publication.KEPT + 1):
        publish_answers(data, {CLEAR: False}, NOW + days * DAY)
    (forgotten,) = (await figures(path, "--day", "2026-11-24"))["registries"]
    assert forgotten == before | {"numbers": None}
    page = (await run_report(path, "--format", "html", "--day", "2026-11-24")).decode()
    assert re.search(r"<td[^>]*>-</td>", page)


class Page(HTMLParser):
    """Checks that every tag is closed, and collects external resources."""

    VOID = ("meta", "link", "br", "img", "line", "rect")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.fetched += [name for name, _ in attrs if name in {"src", "href", "srcset", "data", "action"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.mark.parametrize(("language", "title"), [("it", "Chiamate verificate"), ("en", "Calls checked")])
async def test_page_is_well_formed_and_self_contained(config: Path, language: str, title: str) -> None:
    text = (await run_report(config, "--day", "2026-11-24", "--language", language)).decode()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.fetched == []
    assert {"svg", "table"} <= page.seen
    assert not page.seen & {"script", "iframe", "object", "form"}
    assert "url(" not in text
    assert title in text
    assert f'<html lang="{language}">' in text


async def test_csv_has_one_figure_a_row_and_no_formula(config: Path) -> None:
    text = (await run_report(config, "--day", "2026-11-24", "--format", "csv")).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["controller"] for row in rows} == {"acme"}
    reasons = {row["name"]: row["value"] for row in rows if row["section"] == "reasons"}
    assert reasons == {"registry.listed": "1", "registry.unknown": "1"}
    assert not [row for row in rows for cell in row.values() if cell[:1] in "=+-@" and cell]


async def test_pdf_has_the_same_content(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.pdf"
    words = ("--month", "2026-11", "--format", "pdf", "--language", "en")
    out.write_bytes(await run_report(config, *words))
    assert out.read_bytes().startswith(b"%PDF-")
    done = await asyncio.create_subprocess_exec("pdftotext", "-layout", out, "-", stdout=subprocess.PIPE)
    text = (await done.communicate())[0].decode()
    assert "Calls checked" in text
    assert "registry.listed" in text
    assert CLEAR[1:] not in re.sub(r"[^0-9]", "", text)


@pytest.mark.parametrize("form", ["html", "csv", "json"])
async def test_no_format_contains_a_called_number(config: Path, form: str) -> None:
    text = await run_report(config, "--month", "2026-11", "--format", form)
    assert b"acme-fibre" in text
    digits = re.sub(rb"[^0-9]", b"", text)
    for number in (CLEAR, LISTED, UNKNOWN):
        assert number[1:].encode() not in digits


MISUSES = [
    (("--day", "24-11-2026"), "2026-10-31"),
    (("--month", "2026-13"), "2026-10"),
    (("--day", "2026-11-24", "--month", "2026-11"), "only one of `day`, `week` and `month`"),
    (("--week", "2026-48"), "2026-W44"),
    (("--week", "2025-W53"), "2026-W44"),
    (("--controller", "nobody"), "acme"),
]


async def test_command_gets_a_report_and_explains_misuse(tmp_path: Path) -> None:
    clients = [client("tests", KEY, *SCOPES), client("agent", "agent-key", "check")]
    out = tmp_path / "report.csv"
    async with running(tmp_path, clients=clients) as world:
        await world.output("report", "--day", "2026-11-24", "--out", out)
        for words, advice in MISUSES:
            assert advice in await world.output("report", *words, code=2)
        await world.get("/v1/report", 403, Authorization="Bearer agent-key")
    assert out.stat().st_mode & 0o777 == 0o600
    assert out.read_text().startswith("controller,period,section,name,measure,value")


def test_each_language_has_the_same_keys() -> None:
    keys = [list(words(language)) for language in LANGUAGES]
    assert keys[0] == keys[1]


def test_month_has_all_local_days_across_daylight_saving() -> None:
    march = month("2026-03", "Europe/Rome")
    assert len(march.slots) == 31
    assert march.until - march.since == 31 * DAY - HOUR
    assert march.slot(march.until - 1) == 30


@pytest.mark.parametrize("most", [0, 1, 4, 5, 9, 99, 101, 12_345, 999_999])
def test_axis_ends_at_a_sufficient_round_number(most: int) -> None:
    assert axis_end(most) >= max(most, 1)
    assert axis_end(most) % 4 == 0
