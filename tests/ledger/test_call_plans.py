"""A plan permits a call exactly when `simulate` does, with the same first reason for a denial, at every instant of the plan."""

import csv
import json
import os
import random
import shutil
from bisect import bisect_right
from collections import Counter
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dialgate.core.ledger_events import (
    CallRequested,
    ConsentGiven,
    ContractMade,
    Draft,
    NumberWrong,
    Revoked,
)
from dialgate.core.local_time import rfc3339
from dialgate.core.model import AUTO, DAY, HOUR, MINUTE, SECOND, Attempt, Call, Instant
from dialgate.store import CallerIdProof, Shared
from tests.ledger.test_scrub import OPERATOR
from tests.ledger.test_scrub_columns import COUNTRIES, numbers_of, write_answers
from tests.support import world
from tests.support.world import CALLER, CLEAR, CONFIG, LISTED, NOW, World

LINES = ("+390212345670", "+390612345670", "+390812345670")  # caller IDs that need a proof
PAIRS = int(os.environ.get("DIALGATE_PLAN_PAIRS", "300"))
LOG = "5ec0da70"  # of an earlier gate
ADMIN = [world.client("tests", world.KEY, *world.SCOPES, "admin")]
RESULTS: Any = ("pending", "no_answer", "answered", "abandoned", "refused")


class Period(NamedTuple):
    """Days in which something changes: by a date of the configuration or the law, or because the clocks of some places do."""

    begins: str
    campaign: str = ""
    law_from: str = "2024-09-28"
    codes: frozenset[str] = frozenset({"", "hours.outside"})

    @property
    def at(self) -> Instant:
        return round(datetime.fromisoformat(self.begins).timestamp() * 1000)

    def add_countries(self, folder: Path) -> None:
        for country in COUNTRIES:
            shutil.copy(CONFIG / "countries" / f"{country}.yaml", folder / "countries")
        path, law = folder / "controllers/acme.yaml", folder / "countries/it.yaml"
        text = path.read_text().replace("[own_hours]", "[own_hours, codice_condotta_telemarketing]")
        path.write_text(text + self.campaign)
        law.write_text(law.read_text().replace("from: 2024-09-28", f"from: {self.law_from}", 1))


PERIODS = {
    "a campaign begins and ends, and a section of law begins": Period(
        "2026-11-24T10:00+01:00",
        "    starts: 2026-11-25\n    ends: 2026-11-27\n",
        "2026-11-26",
        frozenset({"", "hours.outside", "registry.expired", "campaign.inactive"}),
    ),
    "the clocks of Europe change": Period("2027-03-26T10:00+01:00"),
    "the clocks of America change": Period("2026-10-30T10:00+01:00"),
}


def entries(gate: World, number: str, draw: random.Random, now: Instant) -> list[Draft]:
    def when() -> int:
        return now + draw.choice((draw.randrange(-20 * DAY, 6 * DAY), draw.randrange(-40, 200) * HOUR))

    begins = when()
    day = datetime.fromtimestamp(now / 1000, UTC).date() + timedelta(days=draw.randrange(-40, 6))
    proof: dict[str, Any] = {"artefact": "a", "artefact_sha256": "0" * 64}
    events = (
        ConsentGiven(id="C", collected_at=when(), purposes=("sale",), call_types=("agent",), expires_at=draw.choice((0, when())), **proof),
        ConsentGiven(id="D", collected_at=when(), purposes=("sale",), call_types=("agent",), place=draw.choice(("", "US-FL", "US-HI")), **proof),
        ContractMade(id="K", starts=day, ends=day + timedelta(days=20), sector="telecommunications", goods=("broadband",), marketing=True),
        CallRequested(id="R", requested_at=when(), begins=begins, expires_at=begins + draw.choice((HOUR, 4 * DAY)),
                      goods="broadband", own_interface=True, appointment=draw.random() < 0.5),
        Revoked(at=when()),
        NumberWrong(at=when()),
    )  # fmt: skip
    weights = (4, 3, 3, 4, 1, 1)
    return [
        Draft(at=now - HOUR, controller="acme", subject=gate.app.registrar.access.keys.subject("acme", number), event=event,
              actor="anna", channel="web", proof="p")
        for event in draw.choices(events, weights, k=draw.randrange(1, 4))
    ]  # fmt: skip


async def fill(gate: World, numbers: list[str], draw: random.Random, now: Instant) -> None:
    store, keys = gate.app.registrar.access.store, gate.app.registrar.access.keys
    await store.append([draft for number in numbers[::3] for draft in entries(gate, number, draw, now)])
    attempts = [
        (keys.subject("acme", number), Attempt(decision=f"{LOG}-{n}{turn}", at=now - draw.randrange(1, 40 * 24) * HOUR - draw.randrange(HOUR),
                                               campaign="acme-fibre", goods="broadband", result=draw.choice(RESULTS)))
        for n, number in enumerate(numbers[1::2], 1)
        for turn in range(draw.randrange(1, 6))
    ]  # fmt: skip
    await store.settle(LOG, 1_000_000, attempts, ())
    if isinstance(store, Shared):  # which takes missing attempts for a sign that it is an older copy
        await store.acknowledge(LOG, store.generation.number)
    await store.put_proof(
        CallerIdProof(controller="acme", caller_id=CALLER, at=now - 28 * DAY, kind="call_back", evidence="e")
    )


def spans_of(plan: dict[str, Any]) -> list[tuple[int, str]]:
    both = [(window["from"], "") for window in plan["windows"]] + [
        (time["from"], time["code"]) for time in plan["denied"]
    ]
    return sorted((round(datetime.fromisoformat(text).timestamp() * 1000), code) for text, code in both)


@pytest.mark.parametrize(
    ("name", "store_settings"),
    [*zip(PERIODS, ("redis", "sqlite", "redis"), strict=True)],
    indirect=["store_settings"],
)
async def test_a_plan_is_what_simulate_answers(
    tmp_path: Path, store_settings: dict[str, Any], name: str
) -> None:
    period = PERIODS[name]
    draw, now = random.Random(46), period.at
    drafts = [name.upper() for name in COUNTRIES[1:]]
    async with world.running(
        tmp_path, world.Hand(now), period.add_countries, accept_drafts=drafts, clients=ADMIN, **store_settings
    ) as gate:
        numbers = numbers_of(draw, 70)
        texts = [f"+{number}" for number in numbers]
        await world.load_list(gate)
        await gate.post("/v1/lists", {**world.LIST, "id": "half", "numbers": [*texts[::2], CLEAR]})
        await fill(gate, texts, draw, now)
        write_answers(gate.app.config.data / "snapshots", draw, numbers, now)
        await gate.app.tick(patience=None)
        answer = await gate.post(
            "/v1/plan", {"campaign": "acme-fibre", "days": 5, "numbers": texts, "at": rfc3339(now)}, 200
        )
        plans = {plan["number"]: spans_of(plan) for plan in answer["plans"]}
        changing, codes = [number for number in texts if len(plans[number]) > 1], Counter[str]()
        for _ in range(PAIRS // len(PERIODS)):
            number = draw.choice(changing if draw.random() < 0.8 else texts)
            spans = plans[number]
            at = draw.choice(
                (
                    now + draw.randrange(5 * DAY),
                    draw.choice(spans)[0] + draw.choice((0, 0, -1, 1, -SECOND, MINUTE)),
                )
            )
            at = min(max(at, now), now + 5 * DAY - 1)
            simulated = await gate.app.gate.simulate(
                Call(to=number, from_=AUTO, campaign="acme-fibre"), OPERATOR, at
            )
            code = simulated.reasons[0].code if simulated.reasons else ""
            assert spans[bisect_right(spans, (at, "~")) - 1][1] == code, (number, at, spans)
            codes[code] += 1
    assert period.codes <= codes.keys(), codes


def add_lines(folder: Path) -> None:
    path = folder / "controllers/acme.yaml"
    path.write_text(path.read_text().replace(f'"{CALLER}"', ", ".join(f'"{line}"' for line in LINES)))


async def test_a_plan_assumes_the_caller_ids_that_the_gate_would_choose(tmp_path: Path) -> None:
    """The first has no proof; the proofs of the others end one after the other within the plan."""
    ends = [NOW + 2 * DAY + HOUR, NOW + 3 * DAY + 2 * HOUR]
    async with world.running(tmp_path, prepare=add_lines, clients=ADMIN) as gate:
        await world.load_list(gate)
        for line, end in zip(LINES[1:], ends, strict=True):
            proof = CallerIdProof(
                controller="acme", caller_id=line, at=end - 30 * DAY, kind="call_back", evidence="e"
            )
            await gate.app.registrar.access.store.put_proof(proof)
        await gate.app.tick(patience=None)
        ask = {"campaign": "acme-fibre", "days": 5, "numbers": [CLEAR], "at": rfc3339(NOW)}
        (plan,) = (await gate.post("/v1/plan", ask, 200))["plans"]
        spans = spans_of(plan)
        shown = list[str]()
        for at in [*range(NOW, NOW + 5 * DAY, HOUR), *ends, ends[0] - 1, ends[1] - 1]:
            call = Call(to=CLEAR, from_=AUTO, campaign="acme-fibre")
            simulated = await gate.app.gate.simulate(call, OPERATOR, at)
            code = simulated.reasons[0].code if simulated.reasons else ""
            assert spans[bisect_right(spans, (at, "~")) - 1][1] == code, (at, spans)
            shown += [simulated.from_] * simulated.caller_id_chosen.startswith(("1", "2"))
    assert LINES[0] not in shown
    assert (ends[1], "caller_id.not_recallable") in spans
    assert plan["now"]


async def test_plans_of_a_list_are_recorded_with_their_hash(tmp_path: Path) -> None:
    async with world.running(tmp_path, clients=ADMIN, answered_at=NOW - 15 * DAY + HOUR) as gate:
        await world.load_list(gate)
        ask = {"campaign": "acme-fibre", "days": 1, "list": "rome", "at": rfc3339(NOW)}
        async with gate.client.post("/v1/plan", json={**ask, "format": "csv"}) as response:
            body, planned = await response.read(), json.loads(response.headers["Dialgate-Planned"])
        (export,) = await gate.app.registrar.list_exports.exports(OPERATOR)
        callable_now = await gate.post("/v1/plan", {**ask, "now": True}, 200)
        both_at_once = await gate.post("/v1/plan", {**ask, "numbers": [CLEAR]}, 400)
        too_early = await gate.post("/v1/plan", {**ask, "at": "1960-01-01T00:00:00Z"}, 400)
    assert (planned["rows"], planned["now"], planned["never"]) == (2, 1, 1)
    assert planned["sha256"] == sha256(body).hexdigest() == export.details["sha256"]
    assert (export.channel, export.actor, export.proof) == ("plan", "tests", "rome")
    rows = {
        row["number"]: row for row in csv.DictReader(body.decode().splitlines()) if row["number"] == LISTED
    }
    assert (rows[LISTED]["verdict"], rows[LISTED]["code"], rows[LISTED]["zone"]) == (
        "deny",
        "registry.listed",
        "Europe/Rome",
    )
    (plan,) = callable_now["plans"]
    assert (plan["number"], plan["now"]) == (CLEAR, True)
    assert (both_at_once["error"]["field"], too_early["error"]["field"]) == ("list", "at")
    # The registry's answer expires an hour after the beginning, to the second; times are those of the called person.
    ends = datetime.fromisoformat(plan["windows"][0]["until"])
    assert (round(ends.timestamp() * 1000), ends.utcoffset()) == (NOW + HOUR, timedelta(hours=1))
    assert plan["denied"][0]["code"] == "registry.expired"


async def test_the_command_writes_plans_of_a_file_and_of_a_list(tmp_path: Path) -> None:
    async with world.running(tmp_path / "gate") as gate:
        await world.load_list(gate)
        file, out = tmp_path / "list.csv", tmp_path / "plan.ndjson"
        file.write_text(f"number\n{CLEAR}\n12\n")
        options: tuple[Any, ...] = ("--campaign", "acme-fibre", "--days", "1", "-o", out)
        report = json.loads((await gate.command("list", "plan", "--file", file, *options, "--json")).out)
        assert (report["rows"], report["never"]) == (2, 1)
        first, second = [json.loads(line) for line in out.read_text().splitlines()]
        assert (first["number"], first["zone"], second["number"]) == (CLEAR, "Europe/Rome", "12")
        assert second["denied"][0]["code"] == "number.invalid"
        assert "never callable" in (await gate.command("list", "plan", "rome", *options)).out
        assert (await gate.command("list", "plan", *options)).code == 2
