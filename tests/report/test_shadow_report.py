"""The report on shadow mode: it counts what the log has, names exactly what enforcing changes, and begins with coverage."""

import html
import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from dialgate.audit.reconciliation.matching import KINDS
from dialgate.core import local_time
from dialgate.core.model import MINUTE, Instant
from dialgate.core.reasons import REASONS
from dialgate.core.shadow import BINDING
from dialgate.decision_log.records import Record
from dialgate.report.tables import words
from dialgate.texts import LANGUAGES
from dialgate.tools.demo import Demo, traffic
from dialgate.tools.demo.world import _RESOURCES, _draw_numbers
from tests.support import world, yaml_files
from tests.support.world import CALL, CALLER, CLEAR, KEY, LISTED, SCOPES, Hand, World

CALLS = 350
DAY_OF_NOW, LAST_DAY = "2026-11-24", date(2026, 12, 20)
MORNING = local_time.midnight("Europe/Rome", date(2026, 11, 24)) + 450 * MINUTE  # half past seven
WATCHING = [world.client("tests", KEY, *SCOPES, "watch")]
ORIGIN = {"basis": "directory", "collected_by": "Acme", "collected_on": "2026-10-01"}
LISTS: list[dict[str, Any]] = [
    {"id": "directory", "campaigns": ["acme-fibre", "acme-voice", "acme-power"], "numbers": ["fibre", "few"]},
    {"id": "mobiles", "campaigns": ["acme-mobile"], "basis": "consent", "numbers": ["mobile"]},
    {"id": "winter", "campaigns": ["acme-fibre"], "numbers": ["few"]},
]


async def report_of(gate: World, key: str = KEY, **ask: Any) -> Any:
    headers = {"Authorization": f"Bearer {key}"}
    return await gate.post("/v1/report/shadow", {"day": DAY_OF_NOW, "format": "json", **ask}, 200, **headers)


# ---- a day of the demonstration --------------------------------------------------------------------------------------


NUMBERS = {name: numbers[:60] for name, numbers in _draw_numbers(5_000).items()}
ANSWERS = {
    number: place % 12 == 3
    for name in ("fibre", "few", "mobile", "ceded", "unlisted")
    for place, number in enumerate(NUMBERS[name])
}


def write_demo(folder: Path) -> None:
    (folder / "controllers/acme.yaml").write_bytes((_RESOURCES / "acme.yaml").read_bytes())


def calls_of_a_day() -> Iterator[tuple[Instant, dict[str, str]]]:
    """Yield the demonstration's calls of one controller, in its shares, over six hours."""
    demo = Demo(config=Path(), textfile=Path(), port=0, key="", numbers=NUMBERS)
    kinds = [
        kind for kind in traffic._kinds(demo, {"valid": NUMBERS["mobile"][:30]}) if "acme" in kind.campaign
    ]
    draw = random.Random(54)
    weights = [min(kind.weight, 60) for kind in kinds]  # more calls of the rare kinds
    for place in range(CALLS):
        (kind,) = draw.choices(kinds, weights)
        body = {"to": draw.choice(kind.numbers), "from": kind.shown, "campaign": kind.campaign}
        yield MORNING + place * MINUTE, body | {"call_id": f"call-{place}"}


async def play(gate: World) -> dict[str, dict[str, Any]]:
    """Place the calls of the day and report outcomes of those that are permitted by the rules. Return the answers."""
    for fields in LISTS:
        numbers = [number for group in fields["numbers"] for number in NUMBERS[group]]
        await gate.post("/v1/lists", ORIGIN | fields | {"numbers": numbers})
    for number in NUMBERS["mobile"][:30]:
        consent = {
            "number": number,
            "id": "web",
            "collected_at": "2026-11-01T10:00:00+01:00",
            "goods": ["mobile"],
        }
        consent |= {
            "purposes": ["sale"],
            "call_types": ["agent"],
            "artefact": "form",
            "artefact_sha256": "0" * 64,
        }
        await gate.post("/v1/consents", consent)
    await gate.app.tick(patience=None)
    answers = {}
    for place, (at, body) in enumerate(calls_of_a_day()):
        gate.hand.at = at
        answer = answers[body["call_id"]] = await gate.post("/v1/check", body, 200)
        if answer.get("would", answer["decision"]) == "allow":
            outcome = {3: "opt_out", 6: "abandoned"}.get(place % 25, "no_answer")
            await gate.post("/v1/outcomes", {"decision_id": answer["decision_id"], "outcome": outcome}, 200)
    return answers  # fmt: skip


def counted(records: list[Record]) -> dict[str, Any]:
    """Count records one by one, as the report does by columns."""
    totals: dict[str, Counter[tuple[str, bool]]] = {
        name: Counter() for name in ("campaigns", "lists", "hours")
    }
    reasons, alone = Counter[str](), Counter[str]()
    for record in records:
        allow, facts = record.decision.allow, record.facts
        codes = {reason.code for reason in record.decision.reasons}
        reasons.update(codes)
        alone.update(codes if len(codes) == 1 else ())
        hour = local_time.hour_in("Europe/Rome", record.at)[1]
        totals["campaigns"][facts.campaign.id, allow] += 1
        totals["hours"][f"{hour:02}", allow] += 1
        totals["lists"].update((name, allow) for name in {one.list for one in facts.listings} or {""})
    rows: dict[str, Any] = {
        section: {
            name: (counter[name, True] + counter[name, False], counter[name, False]) for name, _ in counter
        }
        for section, counter in totals.items()
    }
    return rows | {"reasons": {code: (number, alone[code]) for code, number in reasons.items()}}


def shown_by(report: Any) -> dict[str, Any]:
    rows: dict[str, Any] = {
        section: {row["name"]: (row["checked"], row["refused"]) for row in report[section] if row["checked"]}
        for section in ("campaigns", "lists", "hours")
    }
    return rows | {"reasons": {row["code"]: (row["refused"], row["alone"]) for row in report["reasons"]}}


@pytest.mark.parametrize("store_settings", ["redis"], indirect=True)  # other tests have SQLite
async def test_a_day_of_the_demonstration(tmp_path: Path, store_settings: dict[str, Any]) -> None:
    answers = {}
    modes: dict[str, dict[str, Any]] = {"shadow": {"shadow_until": LAST_DAY}, "enforcing": {}}
    async with AsyncExitStack() as stack:
        for name, changes in modes.items():
            store = store_settings and {
                "store": store_settings["store"] | {"name": f"{tmp_path.name}-{name}"}
            }
            running = world.running(
                tmp_path / name, Hand(MORNING), prepare=write_demo, answers=ANSWERS, clients=WATCHING, **changes, **store
            )  # fmt: skip
            gate = await stack.enter_async_context(running)
            answers[name] = await play(gate)
            if name == "shadow":
                report, records = await report_of(gate), gate.records()
                found = await gate.output(
                    "log", "search", "--shadow", "--verdict", "deny", "--limit", "9999", "--json"
                )
    tried = [record for record in records if record.shadow]
    refused = {record.call_id for record in tried if not record.decision.allow}
    assert (report["checked"], report["refused"]) == (len(tried), len(refused))
    assert report["enforced"] == len(records) - len(tried) > 0  # stops
    assert shown_by(report) == counted(tried)
    assert {json.loads(line)["call_id"] for line in found.splitlines()} == refused
    stops = {id_ for id_, answer in answers["shadow"].items() if answer["decision"] == "deny"}
    denied = {id_ for id_, answer in answers["enforcing"].items() if answer["decision"] == "deny"}
    assert denied - stops == refused
    assert stops < denied
    for id_ in denied:
        assert answers["shadow"][id_]["reasons"] == answers["enforcing"][id_]["reasons"]
    by_id = {record.id: record for record in records}
    for row in report["reasons"]:
        assert 1 <= len(row["samples"]) <= 3
        for sample in row["samples"]:
            assert row["code"] in {reason.code for reason in by_id[sample].decision.reasons}
    assert len(report["reasons"]) >= 12, "the day shows too few reasons"  # fmt: skip


# ---- period and controllers ------------------------------------------------------------------------------------------


async def test_hours_and_days_are_those_of_the_country(tmp_path: Path) -> None:
    midnight = local_time.midnight("Europe/Rome", date(2026, 11, 25))
    async with world.running(tmp_path, clients=WATCHING, shadow_until=LAST_DAY) as gate:
        for at in (midnight - 1, midnight):  # 22:59:59.999 and 23:00 UTC
            gate.hand.at = at
            await gate.post("/v1/check", CALL | {"to": LISTED}, 200)
        for day, hour in ((DAY_OF_NOW, "23"), ("2026-11-25", "00")):
            report = await report_of(gate, day=day)
            assert [row["name"] for row in report["hours"] if row["refused"]] == [hour]
        report = await report_of(gate, day="", month="2026-11")
        assert [row["name"] for row in report["hours"] if row["refused"]] == ["00", "23"]


async def test_a_controller_sees_only_its_own(tmp_path: Path) -> None:
    def add_beta(folder: Path) -> None:
        acme = yaml_files.read(folder / "controllers/acme.yaml")
        (campaign, *_) = acme["campaigns"]
        beta = campaign | {"id": "beta-fibre", "caller_ids": ["+390844123457"]}
        yaml_files.write(folder / "controllers/beta.yaml", acme | {"id": "beta", "campaigns": [beta]})

    own = world.client("beta", "key-of-beta", "check", "watch") | {"controllers": ["beta"]}
    async with world.running(
        tmp_path, prepare=add_beta, clients=[*WATCHING, own], shadow_until=LAST_DAY
    ) as gate:
        beta = {"Authorization": "Bearer key-of-beta"}
        await gate.post("/v1/check", CALL | {"to": LISTED}, 200)
        await gate.post("/v1/check", CALL | {"campaign": "acme-none"}, 200)
        for campaign in ("beta-fibre", "beta-fibre", "beta-none"):
            await gate.post("/v1/check", CALL | {"to": LISTED, "campaign": campaign}, 200, **beta)
        for key, campaigns in (
            (KEY, {"acme-fibre": 1, "acme-none": 1}),
            ("key-of-beta", {"beta-fibre": 2, "beta-none": 1}),
        ):
            report = await report_of(gate, key)
            assert {row["name"]: row["checked"] for row in report["campaigns"]} == campaigns
            samples = {sample for row in report["reasons"] for sample in row["samples"]}
            assert all(len(sample) == 32 for sample in samples)
        assert (await report_of(gate, campaigns=["acme-fibre"]))["checked"] == 1
        foreign = {"day": DAY_OF_NOW, "campaigns": ["beta-fibre"]}
        assert (await gate.post("/v1/report/shadow", foreign, 404))["error"]["code"] == "campaign.unknown"
        foreign = {"day": DAY_OF_NOW, "controller": "beta"}
        assert (await gate.post("/v1/report/shadow", foreign, 404))["error"]["code"] == "controller.unknown"


# ---- coverage --------------------------------------------------------------------------------------------------------


def write_trunk(folder: Path, rows: list[tuple[str, str]]) -> Path:
    path = folder / "trunk.csv"
    lines = [f"2026-11-24T10:00:01+01:00,{called},{caller}" for called, caller in rows]
    path.write_text("\n".join(["time,called,caller", *lines, ""]))
    return path


async def test_coverage_comes_first(tmp_path: Path) -> None:
    async with world.running(tmp_path, clients=WATCHING, shadow_until=LAST_DAY) as gate:
        await world.load_list(gate)
        await gate.post("/v1/check", CALL, 200)
        await gate.post("/v1/check", CALL | {"to": LISTED}, 200)
        await gate.post("/v1/check", CALL | {"to": LISTED, "from": "+390612000000"}, 200)
        await gate.post("/v1/check", CALL | {"to": LISTED, "from": "anonymous"}, 200)
        rows = [(CLEAR, CALLER), (LISTED, CALLER), (LISTED, "+390612000000"), (LISTED, "anonymous")]
        never_asked = ("+390612999999", CALLER)
        trunk = write_trunk(tmp_path, rows)
        found = json.loads(await gate.output("reconcile", trunk, "--format", "csv", "--json"))
        assert (found["ok"], found["allowed"], found["shadow"]) == (True, 1, 3)
        assert "3 let through in shadow mode" in await gate.output("reconcile", trunk, "--format", "csv")
        trunk = write_trunk(tmp_path, [*rows, never_asked])
        found = await gate.output("reconcile", trunk, "--format", "csv", "--json", code=1)
        coverage = tmp_path / "trunk.json"
        coverage.write_text(found)
        report = ("report", "--shadow", "--day", DAY_OF_NOW, "--language", "en")
        shown = await gate.output(*report, "--coverage", coverage, COLUMNS="80")
        assert shown.startswith(
            "Coverage: the gate saw 4 of the 5 calls that left through the trunk (80.0 %)"
        )
        assert "There was no check for this number." in shown
        assert shown.index("no check for this") < shown.index("registry.listed")
        assert max(map(len, shown.splitlines()[2:])) <= 80
        unknown = await gate.output(*report, COLUMNS="80")
        assert unknown.startswith("Coverage is unknown")
        assert "dialgate reconcile" in unknown.splitlines()[0]
        for words_, code in (
            (("report", "--coverage", coverage), 2),
            ((*report, "--format", "pdf"), 2),
            ((*report, "--coverage", trunk), 2),
            ((*report, "--campaign", "none"), 2),
        ):
            await gate.output(*words_, code=code)


async def test_formats(tmp_path: Path) -> None:
    async with world.running(tmp_path, clients=WATCHING, shadow_until=LAST_DAY) as gate:
        await gate.post("/v1/check", CALL | {"to": LISTED}, 200)
        ask = {"day": DAY_OF_NOW, "language": "it"}
        coverage = {"calls": 2, "allowed": 0, "shadow": 1, "counts": {"undecided": 1}}
        texts = {}
        for form in ("html", "csv"):
            body = {**ask, "format": form, "coverage": coverage}
            async with gate.client.post("/v1/report/shadow", json=body) as response:
                assert response.status == 200
                texts[form] = await response.text()
        assert "acme,2026-11-24,reasons,registry.listed,alone,0" in texts["csv"]
        assert "acme,2026-11-24,coverage,undecided,bypassed,1" in texts["csv"]
        page = html.unescape(texts["html"])
        assert page.index("il gate ha visto 1 delle 2 chiamate") < page.index("registry.listed")
        assert words("it")["do.registry.listed"] in page
        assert "<script" not in page
        for text in texts.values():
            assert LISTED[3:] not in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reason_says_what_to_do(language: Any) -> None:
    say = words(language)
    assert {name.removeprefix("do.") for name in say if name.startswith("do.")} == set(REASONS)
    assert {name.removeprefix("bypass.") for name in say if name.startswith("bypass.")} == set(KINDS)
    assert set(REASONS) >= BINDING
