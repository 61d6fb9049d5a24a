"""Tests that the facts of a call match its instant, number and controller, whatever was looked up before."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from dialgate.config import loader
from dialgate.core import local_time
from dialgate.core.model import DAY, HOUR, MINUTE, SECOND, Call, CallType, Known
from dialgate.crypto.keys import Keys
from dialgate.gate.facts import Gatherer
from dialgate.gate.question import FileFacts, Question
from dialgate.lists.snapshot import Snapshot
from dialgate.store import CallerIdProof, CallList
from tests.support import world, yaml_files
from tests.support.world import CALLER, CLEAR, LISTED, NOW, write_folder

MIDNIGHT = NOW + 14 * 60 * MINUTE  # in Rome
OTHER = "+390698765432"  # on no list, and not in the registry's answers
ATHENS, CANARIES, SPANISH = "+302101234567", "+34928123456", "+34612345678"
STRANGER = "+390612345670"  # a caller ID that is assigned to no campaign


def add_controllers(folder: Path) -> None:
    """Add a second campaign, with automated calls, and a second controller."""
    path = folder / "controllers/acme.yaml"
    text = yaml_files.read(path)
    (first,) = text["campaigns"]
    robot = first | {"id": "acme-robot", "call_type": "automated"}
    yaml_files.write(path, text | {"campaigns": [first, robot]})
    other = first | {"id": "beta-fibre", "caller_ids": ["+390844123457"]}
    yaml_files.write(folder / "controllers/beta.yaml", text | {"id": "beta", "campaigns": [other]})


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Gatherer:
    """Return a gatherer that no test changes."""
    return world.open_gatherer(tmp_path_factory.mktemp("facts"), add_controllers)


@pytest.fixture
def gatherer(tmp_path: Path) -> Gatherer:
    return world.open_gatherer(tmp_path, add_controllers)


def ask(gatherer: Gatherer, to: str = CLEAR, **changes: Any) -> Question:
    call = Call(to=to, from_=CALLER, campaign="acme-fibre")
    (client,) = gatherer.config.settings.clients
    return gatherer.read(structs.replace(call, **changes), client)


def lists_of(gatherer: Gatherer, to: str = CLEAR, campaign: str = "acme-fibre") -> list[str]:
    return [listing.list for listing in ask(gatherer, to, campaign=campaign).files.listings]


# ---- questions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "e164", "spoken", "number", "zones"),
    [
        (CLEAR, CLEAR, CLEAR, ("fixed", "IT"), ("Europe/Rome",)),
        ("06 12345678", CLEAR, f"{CLEAR} 06 12345678", ("fixed", "IT"), ("Europe/Rome",)),
        (SPANISH, SPANISH, SPANISH, ("mobile", "ES"), ("Atlantic/Canary", "Europe/Madrid")),
        ("112", "112", "112", ("emergency", "IT"), ()),
    ],
)
def test_a_number_is_read_in_the_dial_region_of_the_campaign(
    sample: Gatherer, to: str, e164: str, spoken: str, number: tuple[str, str], zones: tuple[str, ...]
) -> None:
    question = ask(sample, to)
    assert (question.call.to, question.e164, question.spoken) == (to, e164, spoken)
    assert ((question.number.kind, question.number.region), question.zones) == (number, zones)
    assert (question.country, question.line) == ("IT", sample.config.lines["acme-fibre"])
    assert question.subjects == (sample.keys.subject("acme", e164), sample.keys.subject("*", e164))


def test_a_number_that_cannot_be_read_has_no_subjects(sample: Gatherer) -> None:
    question = ask(sample, "nonsensé" + "e" * 100, call_id="a", call_type="ai_voice")
    assert (question.e164, question.zones, question.subjects) == ("", (), ())
    assert question.spoken == r"nonsens\xe9" + "e" * 56, "64 characters, escaped"
    assert (question.number.kind, question.number.region) == ("invalid", "")
    assert question.number.problem.startswith("is longer than")
    assert (question.call.to[:5], question.line.campaign.id, question.country) == (
        "nonse",
        "acme-fibre",
        "IT",
    )
    assert question.call_type == "ai_voice"
    assert len(question.key) == 16


@pytest.mark.parametrize("campaign", ["beta-fibre", f"to {LISTED} è"])
def test_a_campaign_that_is_not_the_clients_is_replaced_by_an_unknown_one(
    sample: Gatherer, campaign: str
) -> None:
    question = ask(sample, campaign=campaign)
    name = {"beta-fibre": "beta-fibre"}.get(campaign, r"to # \xe8")
    line = question.line
    assert (line.campaign.id, line.campaign.known, line.campaign.call_type) == (name, False, "automated")
    assert (line.controller.id, line.controller_name, line.home, line.caller_ids) == ("", "", "IT", {})
    assert (question.e164, question.subjects) == (CLEAR, ())
    assert question.files == FileFacts((), ())
    assert ask(sample, "0612345678", campaign=campaign).number.kind == "invalid", "it has no dial region"


def test_the_home_of_an_unknown_campaign_is_that_of_the_clients_controller(tmp_path: Path) -> None:
    def add_countries(folder: Path) -> None:
        text = (folder / "countries/it.yaml").read_text("utf-8")
        for country in ("AT", "FR"):
            copied = text.replace("country: IT\nname", f"country: {country}\nname")
            (folder / f"countries/{country.lower()}.yaml").write_text(copied, "utf-8")
        controller = folder / "controllers/acme.yaml"
        controller.write_text(controller.read_text().replace("country: IT", "country: FR"))

    gatherer = world.open_gatherer(tmp_path, add_countries)
    (client,) = gatherer.config.settings.clients
    unknown = Call(to=ATHENS, from_=CALLER, campaign="no-such")
    homes = [
        gatherer.read(unknown, structs.replace(client, controllers=names)).line.home
        for names in (("acme",), ())
    ]
    assert homes == ["FR", "AT"], "without a controller it is the first country"


def test_a_call_can_only_tighten_the_call_type_of_its_campaign(sample: Gatherer) -> None:
    requested: tuple[CallType | None, ...] = (None, "agent", "automated", "ai_voice")
    by_campaign = {
        campaign: [ask(sample, campaign=campaign, call_type=type_).call_type for type_ in requested]
        for campaign in ("acme-fibre", "acme-robot")
    }
    assert by_campaign == {
        "acme-fibre": ["agent", "agent", "automated", "ai_voice"],
        "acme-robot": ["automated", "automated", "automated", "ai_voice"],
    }


def test_the_key_of_a_question_depends_on_all_of_it(sample: Gatherer) -> None:
    first = {"call_id": "a"}
    changes: tuple[dict[str, Any], ...] = (
        {"call_id": "b"}, {"to": LISTED}, {"from_": STRANGER}, {"campaign": "acme-robot"},
        {"call_type": "agent"}, {"call_id": "\udcff"},
    )  # fmt: skip
    keys = [ask(sample, **(first | change)).key for change in ({}, *changes)]
    (client,) = sample.config.settings.clients
    call = Call(to=CLEAR, from_=CALLER, campaign="acme-fibre", call_id="a")
    keys.append(sample.read(call, structs.replace(client, name="x")).key)
    assert len(set(keys)) == len(changes) + 2
    assert sample.read(call, client, "sip").key == keys[0], "the interface is no part of a question"
    text = f"tests\0a\0{CLEAR}\0{CALLER}\0acme-fibre\0"
    assert keys[0] == sample.keys.named("?", text.encode()), "stored answers are found after an update"
    assert ask(sample).key == b""


@pytest.mark.parametrize(
    ("to", "from_", "text", "left"),
    [
        (CLEAR, CALLER, "crm-7", "crm-7"),
        (CLEAR, CALLER, f"crm-{CLEAR[1:]}", "crm-#"),
        (CLEAR, CALLER, f"crm-{CALLER[1:]}", f"crm-{CALLER[1:]}"),
        (CLEAR, STRANGER, f"crm-{STRANGER[1:]}", "crm-#"),
        (CLEAR, STRANGER, f"crm-{CLEAR[1:8]}", f"crm-{CLEAR[1:8]}"),  # not the digits that identify it
        (CLEAR, "4545", "crm-4545", "crm-4545"),
        (CLEAR, "1234567x", "crm-1234567", "crm-#"),
        ("1234567x", CALLER, "crm-1234567", "crm-#"),
        ("1234567x", CALLER, "crm-7", "crm-7"),
    ],
)
def test_a_call_id_keeps_neither_the_called_number_nor_an_unassigned_caller_id(
    sample: Gatherer, to: str, from_: str, text: str, left: str
) -> None:
    question = ask(sample, to, from_=from_, call_id=text)
    assert question.call_id == left


# ---- days ------------------------------------------------------------------------------------------------------------


def test_the_day_and_the_places_of_a_call_are_those_of_its_instant(gatherer: Gatherer) -> None:
    """The local date and the offsets of a time zone are cached for a day.

    A clock change and Christmas fall between the tested instants.
    """
    question = ask(gatherer)
    law = gatherer.config.laws["IT"]
    later = (MIDNIGHT + days * DAY for days in (1, 20, 31, 150))
    for at in (NOW, MIDNIGHT - 1, MIDNIGHT, *later, NOW - 200 * DAY, NOW):
        facts = gatherer.terms.facts(question, Known(), at)
        day = local_time.day_in(law.zone, at)
        places = (local_time.place("Europe/Rome", law.day_sets, at),)
        assert (facts.at, facts.today, facts.places) == (at, day, places)
        ends = places[0].instant(places[0].local(at)[0] + 1, 0)
        assert gatherer.terms.same_until(facts, law) == ends


@pytest.mark.parametrize(
    ("to", "ends"),
    [(CLEAR, MIDNIGHT), (ATHENS, MIDNIGHT - HOUR), (CANARIES, MIDNIGHT), ("nonsense", MIDNIGHT)],
)
def test_the_calendar_changes_at_the_first_midnight_of_the_law_and_of_the_number(
    sample: Gatherer, to: str, ends: int
) -> None:
    question, law = ask(sample, to), sample.config.laws["IT"]

    def same_until(at: int) -> int:
        return sample.terms.same_until(sample.terms.facts(question, Known(), at), law)

    assert [same_until(at) for at in (NOW, ends - 1)] == [ends, ends]
    assert same_until(ends) > ends


def test_a_law_covers_the_numbers_of_its_regions(tmp_path: Path) -> None:
    write_folder(tmp_path)
    countries = tmp_path / "countries"
    text = (countries / "it.yaml").read_text("utf-8")
    french = text.replace("country: IT\nname", "regions: [FR, GP]\ncountry: FR\nname")
    (countries / "fr.yaml").write_text(french, "utf-8")
    config = loader.load(tmp_path / "dialgate.yaml")
    gatherer = Gatherer(config, Keys.open(tmp_path / "keys.json"))
    (client, *_) = config.settings.clients
    numbers = {"+33142685300": "FR", "+590590123456": "GP", "+596596301234": "MQ", CLEAR: "IT"}
    laws = {}
    for number, region in numbers.items():
        question = gatherer.read(Call(to=number, from_=CALLER, campaign="acme-fibre"), client)
        assert question.number.region == region
        laws[region] = question.country
    assert laws == {"FR": "FR", "GP": "FR", "MQ": "IT", "IT": "IT"}


# ---- registry answers ------------------------------------------------------------------------------------------------


def test_registry_answers_are_those_to_the_controller(gatherer: Gatherer) -> None:
    expected = {CLEAR: "clear", LISTED: "listed", OTHER: "unknown", "112": "unknown"}
    for number, answer in expected.items():
        answers = ask(gatherer, number).files.registries
        assert [(found.registry, found.answer) for found in answers] == [("rpo", answer)]
        assert gatherer.registry_answers("IT", "acme", number) == answers
    (theirs,) = gatherer.registry_answers("IT", "beta", CLEAR)
    assert theirs.answer == "unknown"


def test_a_new_snapshot_replaces_the_answers(gatherer: Gatherer) -> None:
    data = gatherer.config.data
    assert ask(gatherer).files.registries[0].answer == "clear"
    world.publish_answers(data, {CLEAR: True}, NOW)
    gatherer.use_snapshot(Snapshot.open(data / "snapshots"))
    assert ask(gatherer).files.registries[0].answer == "listed"


def test_without_a_snapshot_there_are_no_answers(gatherer: Gatherer) -> None:
    config = gatherer.config
    empty = Gatherer(config, gatherer.keys)
    assert ask(empty).files == FileFacts((), ())
    empty.use_lists(gatherer._lists)
    assert empty.snapshot is None
    assert empty.registry_answers("IT", "acme", CLEAR) == ()
    assert ask(empty).files == FileFacts(ask(gatherer).files.listings, ())


def test_equal_facts_of_two_numbers_share_one_object(sample: Gatherer) -> None:
    """The cache of verdicts compares facts by identity."""
    first, second = (ask(sample, number).files for number in (OTHER, "+390698765431"))
    assert first is second is not ask(sample).files


# ---- call lists ------------------------------------------------------------------------------------------------------


def use(gatherer: Gatherer, *records: CallList) -> None:
    gatherer.use_lists(gatherer.open_lists(records, gatherer.config.data))


def write(gatherer: Gatherer, **changes: Any) -> CallList:
    return world.write_list(gatherer.config.data, **changes)


def test_a_list_serves_its_own_campaigns_of_its_own_controller(gatherer: Gatherer) -> None:
    use(
        gatherer,
        write(gatherer),
        write(gatherer, id="two", file="two", campaigns=("acme-robot", "acme-fibre"), numbers_on=(LISTED,)),
        write(gatherer, id="theirs", file="theirs", controller="beta"),
    )
    on = {
        (to, name): lists_of(gatherer, to, name)
        for to in (CLEAR, LISTED)
        for name in ("acme-fibre", "acme-robot")
    }
    assert on == {
        (CLEAR, "acme-fibre"): ["rome"],
        (LISTED, "acme-fibre"): ["rome", "two"],
        (CLEAR, "acme-robot"): [],
        (LISTED, "acme-robot"): ["two"],
    }
    assert lists_of(gatherer, OTHER) == []
    answers = [ask(gatherer, to).files.registries[0].answer for to in (CLEAR, LISTED)]
    assert answers == ["clear", "listed"], "lists do not move the answers"


def test_a_row_has_its_own_basis(gatherer: Gatherer) -> None:
    record = write(gatherer, bases=("consent", "directory"))
    for stated, flags in (((False, True), (False, True)), ((), (False, False))):
        use(gatherer, structs.replace(record, stated=stated))
        listings = [ask(gatherer, number).files.listings for number in (CLEAR, LISTED)]
        assert [(each.list, each.basis, each.origin, each.stated) for (each,) in listings] == [
            ("rome", "consent", record.origin, flags[0]),
            ("rome", "directory", record.origin, flags[1]),
        ]


def test_a_call_may_be_where_a_row_says_that_the_person_lives(gatherer: Gatherer) -> None:
    use(gatherer, write(gatherer, bases=("directory", "directory"), places=("", "US-FL")))
    zones = {}
    for number in (CLEAR, LISTED):
        question = ask(gatherer, number)
        facts = gatherer.terms.facts(question, Known(), NOW)
        zones[number] = [place.zone for place in facts.places]
    assert zones == {
        CLEAR: ["Europe/Rome"],
        LISTED: ["America/Chicago", "America/New_York", "Europe/Rome"],
    }


def test_a_retired_list_is_not_opened(gatherer: Gatherer) -> None:
    record, later = write(gatherer), write(gatherer, id="two", file="two")
    use(gatherer, structs.replace(record, retired_at=NOW), later)
    assert lists_of(gatherer) == ["two"]


def test_an_unchanged_list_stays_open_and_a_changed_one_is_opened_again(gatherer: Gatherer) -> None:
    ((key, loaded),) = gatherer._lists.items()
    assert gatherer.open_lists([loaded.record], gatherer.config.data)[key] is loaded
    changed = write(gatherer, file="new", numbers_on=(OTHER,))
    opened = gatherer.open_lists([changed], gatherer.config.data)
    assert opened[key].record == changed
    assert (lists_of(gatherer), lists_of(gatherer, OTHER)) == (["rome"], []), "until they are used"
    gatherer.use_lists(opened)
    assert (lists_of(gatherer), lists_of(gatherer, OTHER)) == ([], ["rome"])


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (Path.unlink, "No such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "two"),
        (
            lambda path: world.write_list(path.parent, file="two", numbers_on=(OTHER,)),
            "was modified after it was loaded",
        ),
    ],
)
def test_a_damaged_list_is_left_out_and_logged_once(
    gatherer: Gatherer, damage: Callable[[Path], object], problem: str
) -> None:
    first, second = write(gatherer), write(gatherer, id="two", file="two")
    damage(gatherer.config.data / "two")
    for logged in (1, 0):
        with capture_logs() as logs:
            use(gatherer, second, first)
        assert [(entry["list"], problem in entry["problem"]) for entry in logs] == [("two", True)] * logged
        assert lists_of(gatherer) == ["rome"]
    with capture_logs() as logs:
        use(gatherer, first)
        use(gatherer, first, second)
    assert len(logs) == 1, "it was loaded again, and is damaged again"


def test_a_list_that_was_retired_or_removed_is_dropped(gatherer: Gatherer) -> None:
    first, second = write(gatherer), write(gatherer, id="two", file="two")
    for records in ([second], [structs.replace(first, retired_at=NOW), second]):
        use(gatherer, first, second)
        gatherer.drop_lists(records)
        assert lists_of(gatherer) == ["two"]


def test_a_replaced_list_is_used_until_the_new_file_is_open(gatherer: Gatherer) -> None:
    lists = gatherer._lists
    gatherer.drop_lists([write(gatherer, file="new"), write(gatherer, id="two", file="two")])
    assert gatherer._lists is lists


def test_equal_lists_change_nothing(gatherer: Gatherer) -> None:
    """Each round of upkeep sets the call lists. Unchanged lists must not clear the cached look-ups."""
    lists, facts = gatherer._lists, ask(gatherer).files
    gatherer.use_lists(dict(lists))
    assert gatherer._lists is lists
    assert ask(gatherer).files is facts


# ---- another configuration -------------------------------------------------------------------------------------------


def test_a_new_configuration_keeps_answers_lists_and_proofs(gatherer: Gatherer) -> None:
    proof = CallerIdProof(controller="acme", caller_id=CALLER, at=NOW - SECOND, kind="call_back")
    gatherer.load_proofs([proof])
    path = gatherer.config.folder / "controllers/acme.yaml"
    path.write_text(path.read_text().replace("acme-robot", "acme-late"))
    use(gatherer, write(gatherer, campaigns=("acme-fibre", "acme-late")))
    config = loader.load(gatherer.config.folder / "dialgate.yaml")
    fresh = gatherer.configured(config)
    assert (fresh.config, fresh.keys, fresh.snapshot) == (config, gatherer.keys, gatherer.snapshot)
    assert fresh.proofs == gatherer.proofs == {("acme", CALLER): proof}
    assert ask(fresh).presentation.fact.proved_at == proof.at
    assert lists_of(gatherer, campaign="acme-late") == []
    assert lists_of(fresh, campaign="acme-late") == ["rome"]
    assert ask(fresh).files == ask(gatherer).files
