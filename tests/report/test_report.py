"""A report says what stands on record, no more and no less, and shows it in every form without anybody's number."""

import asyncio
import csv
import io
import json
import re
import subprocess
from email import message_from_bytes, policy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from dialgate.core.model import DAY, HOUR, MINUTE
from dialgate.interfaces.cli import main
from dialgate.report import month
from dialgate.report.page import nice
from dialgate.report.tables import words
from dialgate.texts import LANGUAGES
from tests.deploy.test_dashboards import post
from tests.observability.test_metrics import check
from tests.support.world import CLEAR, LISTED, NOW, World, load_list, running

UNKNOWN = "+390612349912"


async def a_day(world: World) -> None:
    """Four calls: two allowed, of which one was answered and one abandoned, one refused by the registry, one unknown to
    it; a stop told an hour before it was written down, and one call of the next day, which began at 23:00 UTC."""
    await load_list(world)
    for outcome in ("answered", "abandoned"):
        told = await check(world.client, call_id=outcome)
        await post(world, "/v1/outcomes", decision_id=told["decision_id"], outcome=outcome)
    await check(world.client, to=LISTED)
    await check(world.client, to=UNKNOWN)
    told_at = "2026-11-24T09:00:00+01:00"
    await post(world, "/v1/revocations", number=CLEAR, channel="mail", proof="mail/1", at=told_at)
    world.hand.at = NOW + 14 * HOUR + MINUTE
    await check(world.client, to=LISTED)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reported")

    async def filled() -> None:
        async with running(folder) as world:
            await a_day(world)

    asyncio.run(filled())
    return folder / "dialgate.yaml"


async def reported(config: Path, *words: str) -> bytes:
    asked = ["report", *words, "--config", str(config)]
    done = await asyncio.to_thread(CliRunner().invoke, main.app, asked)
    assert done.exit_code == 0, done.output
    return done.stdout_bytes


async def figures(config: Path, *words: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(await reported(config, "--format", "json", *words))
    return told


async def test_it_counts_what_the_log_holds_of_the_local_day(config: Path) -> None:
    told = await figures(config, "--day", "2026-11-24")
    assert (told["asked"], told["allowed"], told["denied"]) == (4, 2, 2)
    assert told["reasons"] == {"registry.listed": 1, "registry.unknown": 1}
    assert told["slots"][10] == {"name": "10", "allowed": 2, "denied": 2}  # ten o'clock in Rome
    assert sum(slot["allowed"] + slot["denied"] for slot in told["slots"]) == 4
    assert told["outcomes"] == {"answered": 1, "abandoned": 1}
    assert told["campaigns"][0]["abandoned_share"] == 1.0
    assert told["bases"] == {"directory": 2}
    assert told["ledger"] == {"revoked": 1}


async def test_a_call_just_after_midnight_in_rome_belongs_to_the_next_day_and_to_the_month(
    config: Path,
) -> None:
    assert (await figures(config, "--day", "2026-11-25"))["reasons"] == {"registry.listed": 1}
    told = await figures(config, "--month", "2026-11")
    assert told["asked"] == 5
    assert [(slot["name"], slot["denied"]) for slot in told["slots"] if slot["denied"]] == [
        ("24", 2),
        ("25", 1),
    ]
    assert (await figures(config, "--day", "2026-11-23"))["asked"] == 0


async def test_a_revocation_waits_from_the_word_to_the_entry(config: Path) -> None:
    stops = (await figures(config, "--day", "2026-11-24"))["stops"]
    assert stops == {"revocations": 1, "by_channel": {"mail": 1}, "median_wait": HOUR, "longest_wait": HOUR}


async def test_it_shows_what_was_asked_of_the_registry(config: Path) -> None:
    (use,) = (await figures(config, "--month", "2026-11"))["registries"]
    assert (use["registry"], use["numbers"], use["consultations"], use["listed"]) == ("rpo", 2, 1, 1)
    assert use["receipts"] == ["TICKET-1"]


class Page(HTMLParser):
    """Every tag that is opened is closed, and nothing is fetched."""

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


@pytest.mark.parametrize(("language", "said"), [("it", "Chiamate chieste"), ("en", "Calls asked for")])
async def test_the_page_is_whole_fetches_nothing_and_runs_nothing(
    config: Path, language: str, said: str
) -> None:
    text = (await reported(config, "--day", "2026-11-24", "--language", language)).decode()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.fetched == []
    assert {"svg", "table"} <= page.seen
    assert not page.seen & {"script", "iframe", "object", "form"}
    assert "url(" not in text
    assert said in text
    assert f'<html lang="{language}">' in text


async def test_the_spreadsheet_has_a_figure_a_row_and_no_formula(config: Path) -> None:
    text = (await reported(config, "--day", "2026-11-24", "--format", "csv")).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["controller"] for row in rows} == {"acme"}
    reasons = {row["name"]: row["value"] for row in rows if row["section"] == "reasons"}
    assert reasons == {"registry.listed": "1", "registry.unknown": "1"}
    assert not [row for row in rows for cell in row.values() if cell[:1] in "=+-@" and cell]


async def test_the_mail_holds_the_page_the_pdf_and_the_spreadsheet(config: Path) -> None:
    raw = await reported(
        config, "--day", "2026-11-24", "--format", "eml", "--to", "officer@example.com", "--language", "en"
    )
    mail = message_from_bytes(raw, policy=policy.default)
    assert mail["To"] == "officer@example.com"
    assert "2026-11-24" in str(mail["Subject"])
    kinds = [part.get_content_type() for part in mail.walk() if not part.is_multipart()]
    assert kinds == ["text/plain", "text/html", "application/pdf", "text/csv"]
    names = [part.get_filename() for part in mail.walk() if part.get_filename()]
    assert names == ["dialgate-acme-2026-11-24.pdf", "dialgate-acme-2026-11-24.csv"]


async def test_the_pdf_says_the_same(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.pdf"
    await reported(config, "--month", "2026-11", "--out", str(out), "--language", "en")
    assert out.stat().st_mode & 0o777 == 0o600
    assert out.read_bytes().startswith(b"%PDF-")
    done = await asyncio.create_subprocess_exec("pdftotext", "-layout", out, "-", stdout=subprocess.PIPE)
    text = (await done.communicate())[0].decode()
    assert "Calls asked for" in text
    assert "registry.listed" in text
    assert CLEAR[1:] not in re.sub(r"[^0-9]", "", text)


@pytest.mark.parametrize("form", ["html", "csv", "json", "eml"])
async def test_no_called_number_stands_in_it(config: Path, form: str) -> None:
    text = await reported(config, "--month", "2026-11", "--format", form, "--to", "officer@example.com")
    if form == "eml":
        parts = [part for part in message_from_bytes(text).walk() if not part.is_multipart()]
        text = b"\n".join(cast("bytes", part.get_payload(decode=True)) for part in parts)
    assert b"acme-fibre" in text
    digits = re.sub(rb"[^0-9]", b"", text)
    for number in (CLEAR, LISTED, UNKNOWN):
        assert number[1:].encode() not in digits


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--day", "24-11-2026"), "2026-10-31"),
        (("--month", "2026-13"), "2026-10"),
        (("--day", "2026-11-24", "--month", "2026-11"), "not both"),
        (("--controller", "nobody"), "acme"),
        (("--day", "2026-11-24", "--format", "eml"), "--to"),
    ],
)
async def test_misuse_is_told(config: Path, words: tuple[str, ...], said: str) -> None:
    done = await asyncio.to_thread(CliRunner().invoke, main.app, ["report", *words, "--config", str(config)])
    assert done.exit_code == 2
    assert said in done.output


def test_each_language_has_the_same_words() -> None:
    keys = [list(words(language)) for language in LANGUAGES]
    assert keys[0] == keys[1]


def test_a_month_is_its_local_days_though_the_clock_is_put_forward() -> None:
    march = month("2026-03", "Europe/Rome")
    assert len(march.slots) == 31
    assert march.until - march.since == 31 * DAY - HOUR
    assert march.slot(march.until - 1) == 30


@pytest.mark.parametrize("most", [0, 1, 4, 5, 9, 99, 101, 12_345, 999_999])
def test_the_axis_ends_at_a_round_number_that_is_enough(most: int) -> None:
    assert nice(most) >= max(most, 1)
    assert nice(most) % 4 == 0
