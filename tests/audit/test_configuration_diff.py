"""What a draft changes in recorded decisions is what a gate with the draft decides on the same calls."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
from msgspec import Struct, structs

from dialgate.audit.configuration_diff import ConfigurationDiff, compare, last_days
from dialgate.audit.draft_configuration import DraftConfiguration
from dialgate.audit.replay import Change, ChangedCalls, in_reasons, read_kept_laws, replay
from dialgate.config import loader
from dialgate.config.configuration import Config
from dialgate.core.model import AUTO, DAY, MINUTE, Call, Facts
from dialgate.core.reasons import REASONS
from dialgate.decision_log.chains import Chains
from dialgate.decision_log.records import Record
from dialgate.decision_log.span import LogSpan
from tests.support import world, yaml_files
from tests.support.commands import Done, run_command
from tests.support.paths import ROOT
from tests.support.world import CALLER, NOW, Hand, World

Edit: TypeAlias = Callable[[Path], None]
Wanted: TypeAlias = dict[str, int]  # calls, by campaign, verdict, and new verdict or doubt

ACME, BETA = "acme-fibre", "beta-fibre"
OTHER_CALLER, BETA_CALLER = "+390844123999", "+390844123457"
MOBILE, REPEATED, STOPPED, LISTED, BETA_LISTED = (
    "+393471234567", "+390612340001", "+390612340002", "+390612340003", "+390212340003",
)  # fmt: skip
ACME_NUMBERS = [REPEATED, STOPPED, LISTED, *(f"+3906123401{n:02}" for n in range(10))]
BETA_NUMBERS = [BETA_LISTED, *(f"+3902123401{n:02}" for n in range(10))]


class PlannedCall(NamedTuple):
    """A call some minutes after 10:00 in Rome."""

    minutes: int
    to: str
    from_: str = CALLER
    campaign: str = ACME
    client: str = "tests"
    call_type: Any = None


CALLS = sorted([
    *(PlannedCall(n, number) for n, number in enumerate(ACME_NUMBERS)),  # one stopped, one listed
    *(PlannedCall(60 * n, REPEATED) for n in (1, 2, 3)),  # with the first: four attempts
    *(PlannedCall(660, f"+3906123401{n:02}") for n in (0, 1)),  # 21:00
    *(PlannedCall(100 + n, number, BETA_CALLER, BETA, "beta") for n, number in enumerate(BETA_NUMBERS)),
    PlannedCall(120, "+390612340102", BETA_CALLER),  # not assigned to acme's campaign
    PlannedCall(121, "+390612340103", OTHER_CALLER),
    PlannedCall(122, "+390612340104", CALLER, BETA),  # not this client's campaign
    PlannedCall(123, "+390612340105", CALLER, "acme-new"),
    PlannedCall(124, "0612340106"),  # read as Italian
    PlannedCall(125, "nonsense"),
    PlannedCall(126, "+33142345678"),
    PlannedCall(127, MOBILE),  # by consent
    PlannedCall(128, "+390612340107", call_type="automated"),
    PlannedCall(129, "+390612340108", client="cli:root"),
], key=lambda call: call.minutes)  # fmt: skip


def _prepare(folder: Path) -> None:
    """Add a second tenant with a campaign, a client and registry answers of its own."""
    beta = yaml_files.read(folder / "controllers/acme.yaml")
    beta.update(id="beta", name="Beta S.p.A.")
    beta["campaigns"][0].update(id=BETA, caller_ids=[BETA_CALLER])
    yaml_files.write(folder / "controllers/beta.yaml", beta)
    path = folder / "dialgate.yaml"
    settings = yaml_files.read(path)
    settings["clients"].append(
        {**world.client("beta", "key-of-beta", *world.SCOPES), "controllers": ["beta"]}
    )
    yaml_files.write(path, settings)
    answers = dict.fromkeys(BETA_NUMBERS, False) | {BETA_LISTED: True}
    world.publish_answers(folder / "data", answers, NOW - DAY, controller="beta")


class Day(Struct, frozen=True):
    """The gate's folder after a day of calls, and the record of each call."""

    folder: Path
    records: list[Record]


async def _decide(folder: Path, edit: Edit, calls: list[PlannedCall] = CALLS) -> Day:
    """Load lists and entries, change the configuration, and decide the calls."""
    answers = dict.fromkeys([*ACME_NUMBERS, MOBILE], False) | {LISTED: True}
    async with world.running(folder, Hand(), _prepare, answers=answers) as gate:
        await _load(gate)
        edit(folder)
        gate.app.reload(loader.load(folder / "dialgate.yaml"))
        await gate.app.tick(patience=None)
        clients = {client.name: client for client in gate.app.config.settings.clients}
        for call in calls:
            gate.hand.at = NOW + call.minutes * MINUTE
            client = clients.get(call.client) or gate.app.config.operator(call.client)
            asked = Call(to=call.to, from_=call.from_, campaign=call.campaign, call_type=call.call_type)
            if "check" in client.scopes:
                await gate.app.gate.check(asked, client)
        return Day(folder, gate.records())


async def _load(gate: World) -> None:
    keys = {"acme": world.KEY, "beta": "key-of-beta"}
    names = {"acme": (ACME, ACME_NUMBERS), "beta": (BETA, BETA_NUMBERS)}
    for owner, (campaign, numbers) in names.items():
        body = {**world.LIST, "id": owner, "collected_by": owner, "campaigns": [campaign], "numbers": numbers}
        headers = {"Authorization": f"Bearer {keys[owner]}"}
        async with gate.client.post("/v1/lists", json=body, headers=headers) as answer:
            assert answer.status == 201, await answer.text()
    consent = {
        "number": MOBILE, "id": "c1", "collected_at": "2026-11-20T10:00:00+01:00", "purposes": ["sale"],
        "goods": ["broadband"], "call_types": ["agent"], "proof": "form 1", "artefact_sha256": "0" * 64,
    }  # fmt: skip
    for path, sent in (("/v1/consents", consent), ("/v1/revocations", {"number": STOPPED})):
        async with gate.client.post(path, json=sent) as answer:
            assert answer.status == 201, await answer.text()
    await gate.app.tick(patience=None)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    return asyncio.run(_decide(tmp_path_factory.mktemp("gate") / "gate", lambda _: None))


def in_file(name: str, change: Callable[[Any], object]) -> Edit:
    def edit(folder: Path) -> None:
        content = yaml_files.read(folder / name)
        change(content)
        yaml_files.write(folder / name, content)

    return edit


def law(change: Callable[[Any], object]) -> Edit:
    return in_file("countries/it.yaml", change)


def campaign(**changes: Any) -> Edit:
    return in_file("controllers/acme.yaml", lambda owner: owner["campaigns"][0].update(changes))


def client(**changes: Any) -> Edit:
    return in_file("dialgate.yaml", lambda settings: settings["clients"][0].update(changes))


def _add_country(folder: Path) -> None:
    shutil.copy(ROOT / "config/countries/fr.yaml", folder / "countries")
    in_file("dialgate.yaml", lambda settings: settings.update(accept_drafts=["FR"]))(folder)


def _add_campaign(folder: Path) -> None:
    edit = in_file(
        "controllers/acme.yaml",
        lambda owner: owner["campaigns"].append({**owner["campaigns"][0], "id": "acme-new"}),
    )
    edit(folder)


def _exchange_campaigns(folder: Path) -> None:
    in_file("controllers/acme.yaml", lambda owner: owner["campaigns"][0].update(id="acme-old"))(folder)
    in_file("controllers/beta.yaml", lambda owner: owner["campaigns"][0].update(id=ACME))(folder)


def draft_of(day: Day, folder: Path, edit: Edit) -> Path:
    shutil.copytree(day.folder, folder, ignore=shutil.ignore_patterns("data"))
    edit(folder)
    return folder / "dialgate.yaml"


def compared(
    day: Day, draft: Path | Config, records: list[Record] | None = None, name: str = ""
) -> ConfigurationDiff:
    chains = Chains(day.folder / "data")
    entries = day.records if records is None else records
    config = loader.load(draft) if isinstance(draft, Path) else draft
    return compare(config, chains, entries, LogSpan(since=NOW, until=NOW + DAY), name)


DENIED_ACME = {"acme-fibre allow deny": 18}
PAUSED = {**DENIED_ACME, "acme-fibre deny deny": 8}
DENIED_ALL = {**DENIED_ACME, "beta-fibre allow deny": 10}
CASES: dict[str, tuple[Edit, Wanted]] = {
    "nothing": (lambda _: None, {}),
    "other goods": (campaign(goods="phones"), {}),
    "hours end at 20:00": (
        law(lambda it: it["hours"][1].update(days={"mon-sun": ["00:00-20:00"]})),
        {"acme-fibre allow deny": 2},
    ),
    "a holiday": (
        law(
            lambda it: (
                it["day_sets"].update(own={"added": ["2026-11-24"]}),
                it["hours"][1].update(days={"mon-sun": ["00:00-24:00"], "holiday": []}, day_set="own"),
            )
        ),
        {**DENIED_ALL, "acme-fibre deny deny": 6, "beta-fibre deny deny": 1},
    ),
    "a campaign has ended": (campaign(ends=date(2026, 11, 1)), PAUSED),
    "a campaign is renamed": (campaign(id="acme-other"), PAUSED),
    "an unknown campaign is added": (_add_campaign, {"(unknown) deny campaign": 1}),
    "campaigns change hands": (
        _exchange_campaigns,
        {
            "acme-fibre allow deny": 17,
            "acme-fibre deny deny": 8,
            "acme-fibre allow campaign": 1,  # an operator's call, who may use every campaign
            "beta-fibre allow deny": 10,
            "beta-fibre deny deny": 1,
        },
    ),
    "statistics instead of sales": (
        campaign(purpose="statistics"),
        {**DENIED_ACME, "acme-fibre deny deny": 6},
    ),
    "energy": (campaign(sector="electricity"), {**DENIED_ACME, "acme-fibre deny deny": 6}),
    "automated calls": (campaign(call_type="automated"), {**DENIED_ACME, "acme-fibre deny deny": 4}),
    "a foreign trunk": (campaign(trunk_country="FR"), {**DENIED_ACME, "acme-fibre deny deny": 6}),
    "another caller ID": (
        campaign(caller_ids=["+390844999999"]),
        {**DENIED_ACME, "acme-fibre deny deny": 4, "acme-fibre deny caller_id": 2},
    ),
    "one more caller ID": (
        campaign(caller_ids=[CALLER, OTHER_CALLER]),
        {"acme-fibre deny caller_id": 2},
    ),
    "numbers without a country are refused": (
        campaign(dial_region=""),
        {"acme-fibre allow dial_region": 18, "acme-fibre deny dial_region": 8},
    ),
    "a client gets another campaign": (
        client(controllers=["beta"]),
        {"acme-fibre allow deny": 17, "acme-fibre deny deny": 8, "(unknown) deny campaign": 1},
    ),
    "a client may not check": (
        client(scopes=["simulate", "revoke", "ledger", "lists"]),
        {"acme-fibre allow deny": 17, "acme-fibre deny deny": 8},
    ),
    "no registry": (
        law(lambda it: it.update(registries=[])),
        {"acme-fibre deny allow": 1, "beta-fibre deny allow": 1},
    ),
    "answers hold for a day": (
        law(lambda it: it["registries"][0].update(validity="1d")),
        {**DENIED_ALL, "acme-fibre deny deny": 5},
    ),
    "a second registry": (
        law(lambda it: it["registries"].append({**it["registries"][0], "id": "new"})),
        {"acme-fibre allow registry": 18, "acme-fibre deny deny": 5, "beta-fibre allow registry": 10},
    ),
    "two calls a month": (
        law(lambda it: it["limits"][0].update(after=2)),
        {"acme-fibre allow deny": 2},
    ),
    "calls are counted for a year": (
        law(lambda it: it["limits"][0].update(per="365d")),
        {"acme-fibre allow attempts": 18, "beta-fibre allow attempts": 10},
    ),
    "abandoned calls are counted for two months": (
        law(lambda it: it["ratios"][0].update(per="60d")),
        {"acme-fibre allow counts": 18, "beta-fibre allow counts": 10},
    ),
    "no fixed numbers": (
        law(lambda it: it["diallable"][0].update(allows=["mobile"])),
        {**DENIED_ALL, "acme-fibre deny deny": 5, "beta-fibre deny deny": 1, "(unknown) deny deny": 2},
    ),
    "a barred prefix": (
        law(lambda it: it["diallable"][0].update(not_prefixes=["+3906"])),
        {"acme-fibre allow prefix": 18, "beta-fibre allow prefix": 10},
    ),
    "another country": (_add_country, {"acme-fibre deny deny": 1}),
}
# Reasons that the record does not contain, beside others for which the call is denied.
VAGUE = {
    "a barred prefix",
    "a campaign is renamed",
    "campaigns change hands",
    "a client gets another campaign",
}


def counts_of(diff: ConfigurationDiff) -> Wanted:
    return {f"{c.campaign} {c.was} {c.doubt or c.becomes}": c.calls for c in diff.changes}


@pytest.mark.parametrize("name", CASES)
def test_draft_changes_what_a_gate_with_it_decides(name: str, day: Day, tmp_path: Path) -> None:
    edit, wanted = CASES[name]
    draft = loader.load(draft_of(day, tmp_path / "draft", edit))
    diff = compared(day, draft)
    assert counts_of(diff) == wanted
    assert (diff.decisions, diff.unjudged) == (len(CALLS), sum(c.calls for c in diff.changes if c.doubt))
    truth = iter(asyncio.run(_decide(tmp_path / "gate", edit)).records)
    refused = {c.name for c in draft.settings.clients if "check" not in c.scopes}
    folders = [home.folder / "kept" for home in Chains(day.folder / "data").homes]
    retrial_of = DraftConfiguration(draft, read_kept_laws(*folders), *folders)
    for call, record in zip(CALLS, day.records, strict=True):
        changed = replay([record], retrial_of, in_reasons).changed
        again = None if call.client in refused else next(truth)
        direction, calls = next(iter(changed.items()), (None, ChangedCalls()))
        if direction and direction.doubt:
            continue
        becomes = direction.becomes if direction else "allow" if record.decision.allow else "deny"
        assert becomes == ("allow" if again and again.decision.allow else "deny"), call
        if again is not None and name not in VAGUE:
            expected = in_reasons(record.decision, again.decision)
            for side in ("was", "becomes"):
                assert _codes(calls.changes, side) == _codes(expected, side), call
    assert next(truth, None) is None


LINE = "+390612345670"  # a caller ID without a proof
CHOSEN_DRAFTS: dict[str, tuple[Edit, int]] = {  # with the number of calls about which they say nothing
    "nothing": (lambda _: None, 0),
    "hours end at 20:00": (CASES["hours end at 20:00"][0], 0),
    "other caller IDs": (campaign(caller_ids=[OTHER_CALLER, LINE]), 3),
    "one more caller ID": (campaign(caller_ids=[CALLER, LINE, "+390212345670"]), 3),
    "proofs for a day": (law(lambda it: it["caller_ids"][-1].update(proof_validity="1d")), 3),
}


@pytest.fixture(scope="module")
def day_of_choices(tmp_path_factory: pytest.TempPathFactory) -> Day:
    """Return the calls of a gate that chose their caller IDs."""
    calls = [PlannedCall(n, number, AUTO) for n, number in enumerate(ACME_NUMBERS[3:6])]
    folder = tmp_path_factory.mktemp("choices") / "gate"
    day = asyncio.run(_decide(folder, campaign(caller_ids=[CALLER, LINE]), calls))
    assert [record.facts.caller_id.number for record in day.records] == [CALLER] * 3
    return day


@pytest.mark.parametrize("name", CHOSEN_DRAFTS)
def test_draft_does_not_guess_which_caller_id_the_gate_would_choose(
    name: str, day_of_choices: Day, tmp_path: Path
) -> None:
    """The record has the proof of the chosen one only."""
    edit, unjudged = CHOSEN_DRAFTS[name]
    found = counts_of(compared(day_of_choices, draft_of(day_of_choices, tmp_path / "draft", edit)))
    assert found.get("acme-fibre allow caller_id", 0) == unjudged


def _codes(changes: Iterable[Change], side: str) -> set[str]:
    return {code for change in changes if (code := getattr(change, side)) in REASONS}


def test_every_fact_is_either_recorded_or_comes_from_the_draft() -> None:
    recorded = {"at", "known", "listings", "registries"}
    drafted = {
        *("today", "number", "controller", "campaign", "call_type", "caller_id", "places"),
        *("former_campaigns", "former_goods"),
    }  # a new fact that comes from the configuration: dialgate/audit/draft_configuration.py
    assert {*Facts.__struct_fields__} == recorded | drafted


# ---- the command -----------------------------------------------------------------------------------------------------


def _diff(day: Day, *words: object) -> Done:
    config = ("--config", day.folder / "dialgate.yaml")
    return run_command(
        "dialgate", "config", "diff", *config, *words, environment={**os.environ, "NO_COLOR": "1"}
    )


FAILING: dict[str, set[str]] = {  # by draft, the values of --fail-on with which the command exits 1
    "nothing": set(),
    "hours end at 20:00": {"deny", "any"},
    "no registry": {"allow", "any"},
    "a second registry": {"deny", "any"},  # an allowed call that cannot be judged counts as denied
    "another country": {"any"},  # denied, for other reasons
}


@pytest.mark.parametrize("name", FAILING)
def test_fail_on_names_the_direction_that_must_be_wanted(name: str, day: Day, tmp_path: Path) -> None:
    draft = draft_of(day, tmp_path / "draft", CASES[name][0])
    assert set[str]().union(*(change.directions for change in compared(day, draft).changes)) == FAILING[name]
    for direction in ("allow", "never"):
        code = _diff(day, "--draft", draft, "--fail-on", direction).code
        assert code == (direction in FAILING[name])


def test_changes_are_told_in_sentences(day: Day, tmp_path: Path) -> None:
    draft = draft_of(day, tmp_path / "draft", CASES["hours end at 20:00"][0])
    example = ", ".join(record.id for record in day.records if record.at == NOW + 660 * MINUTE)
    assert _diff(day, "--draft", draft).out.splitlines() == [
        "Compared 39 decisions from 17/11/2026 20:00 to 24/11/2026 20:00 (UTC).",
        "acme-fibre: of the calls that were allowed, 2 would be denied: hours.outside (2)",
        f"  Decisions, for example: {example}",
    ]
    draft = draft_of(day, tmp_path / "unsure", CASES["a second registry"][0])
    shown = _diff(day, "--draft", draft, "--campaign", BETA).out.splitlines()
    assert shown[0].endswith("Of these, 10 cannot be judged from their records and count as denied.")
    assert "10 cannot be judged and count as denied: the draft needs a registry" in shown[1]
    assert _diff(day).out.splitlines()[0].endswith("Nothing changes.")


def test_json_has_the_same_figures(day: Day, tmp_path: Path) -> None:
    draft = draft_of(day, tmp_path / "draft", CASES["no registry"][0])
    shown = _diff(day, "--draft", draft, "--days", 1, "--json").json
    assert (shown["decisions"], shown["unjudged"]) == (len(CALLS), 0)
    (change, other) = shown["changes"]
    assert [change["campaign"], other["campaign"]] == [ACME, BETA]
    assert change | {"examples": []} == {
        "campaign": ACME, "was": "deny", "becomes": "allow", "calls": 1, "doubt": "",
        "no_longer": [{"code": "registry.listed", "calls": 1}], "now": [], "examples": [],
    }  # fmt: skip


def test_configuration_on_disk_is_the_default_draft(day: Day, tmp_path: Path) -> None:
    folder = tmp_path / "gate"
    shutil.copytree(day.folder, folder, ignore=shutil.ignore_patterns("*.sock"))
    campaign(paused=True)(folder)
    done = run_command(
        "dialgate", "config", "diff", "--config", folder / "dialgate.yaml", "--fail-on", "deny"
    )
    assert (done.code, "campaign.inactive (18)" in done.out) == (1, True), done


@pytest.mark.parametrize("words", [("--days", 0), ("--fail-on", "often"), ("--draft", "README.md")])
def test_misuse_exits_2(words: tuple[object, ...], day: Day) -> None:
    assert _diff(day, *words).code == 2


def test_older_days_are_left_out(day: Day) -> None:
    chains = Chains(day.folder / "data")
    assert last_days(chains, 2) == LogSpan(since=day.records[-1].at - 2 * DAY, until=day.records[-1].at + 1)


def test_call_let_through_in_shadow_mode_is_judged_as_decided(day: Day, tmp_path: Path) -> None:
    draft = draft_of(day, tmp_path / "draft", CASES["no registry"][0])
    shadow = [structs.replace(record, shadow=not record.decision.allow) for record in day.records]
    assert compared(day, draft, shadow) == compared(day, draft)
