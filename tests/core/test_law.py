"""Tests of laws: a law is loaded completely or not at all, and each section applies only to its calls and days."""

import copy
from datetime import date, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dialgate.core import law as law_module
from dialgate.core.decision import decide
from dialgate.core.law import SECTIONS, Law, parse_law
from dialgate.core.law_scope import Scope
from dialgate.core.law_sections import LawError, Section
from dialgate.core.model import HOUR, CallerId, Campaign, Controller, Facts, Kind, Number, Place
from dialgate.tools.policy.case_facts import instant
from dialgate.tools.policy.case_file import PolicyCase, Wanted
from tests.support import yaml_files
from tests.support.casebook import facts_of, law_data, law_of
from tests.support.paths import ROOT

IT = law_of("IT")
ONE_DAY = timedelta(days=1)
CODE = "codice_condotta_telemarketing"


LIMIT = {"source": "s", "events": "attempts", "per": "1d", "counting": "calendar"}
REGIONS = ["IT", "SM", "IT-RM", "IT-MI"]
INVALID = yaml_files.read(ROOT / "tests/cases/tables/invalid_laws.yaml")["invalid"]


def of(kind: Kind, *places: str) -> Number:
    return Number(kind=kind, region="IT", places=places)


def change_law(path: str, value: Any) -> dict[str, Any]:
    """Return a copy of Italy's country file with `value` at a path such as `hours.0.day_set`."""
    data = copy.deepcopy(law_data("IT"))
    *parents, last = path.split(".")
    at: Any = data
    for key in parents:
        at = at[int(key) if key.isdigit() else key]
    at[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("limit", "`limit`"),
        ("day_sets.holidays.province", "`$.day_sets[...]`"),
        ("caller_ids.0.classes.1.purpose", "`$.caller_ids[0].classes[1]`"),
        *((f"{name}.0.limti", f"`$.{name}[0]`") for name in SECTIONS if law_data("IT").get(name)),
    ],
)
def test_an_unknown_key_is_refused_with_its_path(path: str, where: str) -> None:
    with pytest.raises(LawError, match="unknown field") as refused:
        parse_law(change_law(path, 1))
    assert where in str(refused.value)


@pytest.mark.parametrize(("path", "value", "where"), INVALID)
def test_an_invalid_value_is_refused_with_its_path(path: str, value: object, where: str) -> None:
    with pytest.raises(LawError) as refused:
        parse_law(change_law(path, value))
    assert where in str(refused.value)


def test_all_problems_of_a_law_are_named_together() -> None:
    with pytest.raises(LawError) as refused:
        parse_law({**change_law("diallable", []), "regions": ["IT", "rome"]})
    assert len(refused.value.problems) == 2
    assert str(refused.value) == "; ".join(refused.value.problems)


@pytest.mark.parametrize("days", [1, 3660])
def test_a_limit_counts_over_a_day_or_ten_years(days: int) -> None:
    assert parse_law(change_law("limits.0.per", f"{days}d")).limits[0].per == f"{days}d"


@pytest.mark.parametrize(("counting", "days"), [("earlier", 31), ("rolling", 32)])
def test_the_validity_of_registry_answers_depends_on_how_it_is_counted(counting: str, days: int) -> None:
    data = change_law("registries.0.counting", counting)
    data["registries"][0]["validity"] = f"{days}d"
    assert parse_law(data).registries[0].validity == f"{days}d"


@pytest.mark.parametrize("key", ["source", "from", "allows"])
def test_an_incomplete_section_is_refused(key: str) -> None:
    data = copy.deepcopy(law_data("IT"))
    del data["diallable"][0][key]
    with pytest.raises(LawError, match=f"missing required field `{key}`"):
        parse_law(data)


def test_a_law_must_be_a_mapping() -> None:
    with pytest.raises(LawError, match="Expected `object`, got `array`"):
        parse_law([])


def test_windows_are_seconds_of_the_day_and_may_end_with_it() -> None:
    law = parse_law(change_law("hours.0.days.mon-fri", ["00:00-00:01", "09:30-24:00"]))
    assert law.hours[0].windows["mon"] == law.hours[0].windows["fri"] == ((0, 60), (34_200, 86_400))
    assert law.hours[0].windows["sun"] == ()


def test_a_section_may_be_in_force_for_one_day() -> None:
    law = parse_law(change_law("limits", [{**LIMIT, "from": date(2014, 2, 20), "until": date(2014, 2, 20)}]))
    assert not law.binding(facts(today=date(2014, 2, 19))).limits
    assert law.binding(facts(today=date(2014, 2, 20))).limits
    assert not law.binding(facts(today=date(2014, 2, 21))).limits


def facts(
    *,
    today: date = date(2026, 11, 24),
    adheres_to: tuple[str, ...] = (),
    traits: tuple[str, ...] = (),
    number: Number = Number(kind="fixed", region="IT"),  # noqa: B008 - frozen
    **campaign: Any,
) -> Facts:
    call_type = campaign.pop("call_type", "agent")
    return Facts(
        at=0,
        today=today,
        number=number,
        controller=Controller(id="acme", adheres_to=adheres_to, traits=traits),
        campaign=Campaign(id="fibre", call_type=call_type, **campaign),
        call_type=call_type,
        caller_id=CallerId(number="", form="withheld"),
    )


def in_scope(section: Section, today: date) -> Facts:
    return facts(
        today=today,
        profiling=section.profiled,
        adheres_to=section.traits,
        purpose=next(iter(section.purposes), "sale"),
        call_type=next(iter(section.call_types), "agent"),
        sector=next(iter(section.sectors), ""),
        callee=next(iter(section.callees), "consumer"),
    )


ITALIAN = [(name, section) for name in SECTIONS for section in getattr(IT, name)]


@pytest.mark.parametrize(("name", "section"), ITALIAN, ids=lambda each: getattr(each, "source", each)[:60])
def test_every_section_binds_only_from_its_first_to_its_last_day(name: str, section: Section) -> None:
    last = section.ends or date(2199, 12, 31)
    days = [section.starts - ONE_DAY, section.starts, last, last + ONE_DAY]
    bound = [section in getattr(IT.binding(in_scope(section, day)), name) for day in days]
    assert bound == [False, True, True, section.ends is None]


@pytest.mark.parametrize(
    ("scope", "inside", "outside"),
    [
        ({}, {}, None),
        ({"purposes": ["sale", "debt"]}, {"purpose": "debt"}, {"purpose": "charity"}),
        ({"call_types": ["automated"]}, {"call_type": "automated"}, {"call_type": "ai_voice"}),
        ({"sectors": ["gas"]}, {"sector": "gas"}, {"sector": ""}),
        ({"callees": ["consumer"]}, {"callee": "consumer"}, {"callee": "business"}),
        ({"profiled": True}, {"profiling": True}, {"profiling": False}),
        ({"adherents_of": CODE}, {"adheres_to": ("a", CODE)}, {"adheres_to": (f"{CODE}s",)}),
        ({"adherents_of": ""}, {"adheres_to": ()}, None),
        ({"traits": [CODE, "own_hours"]}, {"traits": ("own_hours",)}, {"traits": ("press",)}),
        ({"not_traits": [CODE, "own_hours"]}, {"traits": ("press",)}, {"traits": ("own_hours",)}),
        ({"callees": ["consumer", "sole_trader"]}, {"callee": "sole_trader"}, {"callee": "business"}),
        ({"kinds": ["mobile"]}, {"number": of("mobile")}, {"number": of("fixed")}),
        ({"kinds": ["mobile"]}, {"number": of("fixed_or_mobile")}, {"number": of("voip")}),
        ({"kinds": ["mobile"]}, {"number": Number(kind="unknown")}, None),
        ({"dial_modes": ["predictive"]}, {"dial_mode": "predictive"}, {"dial_mode": "manual"}),
        ({"dial_modes": ["predictive"]}, {"dial_mode": ""}, {"dial_mode": "progressive"}),
        ({"places": ["IT-RM", "IT-MI"]}, {"number": of("fixed", "IT-RM")}, {"number": of("fixed", "IT-NA")}),
        (
            {"places": ["IT-RM"]},
            {"number": of("fixed", "IT-NA", "IT-RM")},
            {"number": of("fixed", "IT-NA", "IT-MI")},
        ),
        ({"places": ["IT-RM"]}, {"number": of("fixed")}, {"number": Number(kind="fixed", region="SM")}),
        ({"places": ["SM"]}, {"number": Number(kind="fixed", region="SM")}, {"number": of("fixed")}),
        ({"places": ["IT-RM"]}, {"number": Number(kind="unknown")}, None),
    ],
)
def test_a_section_binds_only_the_calls_that_it_names(
    scope: dict[str, Any], inside: dict[str, Any], outside: dict[str, Any] | None
) -> None:
    data = {
        **change_law("limits", [{**LIMIT, "from": date(2020, 1, 1), **scope}]),
        "regions": REGIONS,
    }
    law = parse_law(data)
    assert law.binding(facts(**inside)).limits == law.limits
    assert outside is None or not law.binding(facts(**outside)).limits


@pytest.mark.parametrize(
    ("scope", "sure", "unsure"),
    [
        ({"kinds": ["fixed"]}, {"number": of("fixed")}, {"number": of("fixed_or_mobile")}),
        (
            {"kinds": ["fixed", "mobile"]},
            {"number": of("fixed_or_mobile")},
            {"number": Number(kind="unknown")},
        ),
        ({"dial_modes": ["manual"]}, {"dial_mode": "manual"}, {"dial_mode": ""}),
        ({"places": ["IT-RM"]}, {"number": of("fixed", "IT-RM")}, {"number": of("fixed")}),
        ({"places": ["IT-RM"]}, {"number": of("fixed", "IT-RM")}, {"number": of("fixed", "IT-RM", "IT-MI")}),
        ({"places": ["IT"]}, {"number": of("fixed")}, {"number": Number(kind="unknown")}),
    ],
)
def test_a_wider_basis_applies_only_to_calls_that_are_surely_in_its_scope(
    scope: dict[str, Any], sure: dict[str, Any], unsure: dict[str, Any]
) -> None:
    """If a call may be outside the scope, the stricter section applies too. An unknown property must never permit a call."""
    common = {"source": "s", "from": date(2020, 1, 1)}
    wide, narrow = {**common, **scope, "accepts": ["directory"]}, {**common, "accepts": ["consent"]}
    law = parse_law({**change_law("legal_basis", [wide, narrow]), "regions": REGIONS})
    assert law.binding(facts(**sure)).legal_basis == law.legal_basis[:1]
    assert law.binding(facts(**unsure)).legal_basis == law.legal_basis


HOME = Place(zone="Europe/Rome", offset=2 * 3600)
ABROAD = Place(zone="Indian/Reunion", offset=4 * 3600)
NIGHT = 1_786_395_600_000  # 2026-08-10T21:00Z: the 11th in La Réunion


def test_a_section_binds_on_its_days_in_the_laws_zone_or_where_the_person_is() -> None:
    begun, ended = {"from": date(2026, 8, 11)}, {"from": date(2020, 1, 1), "until": date(2026, 8, 10)}
    law = parse_law(change_law("limits", [{**LIMIT, **days} for days in (begun, ended)]))
    here = replace(facts(today=date(2026, 8, 10)), at=NIGHT)
    assert law.binding(here).limits == law.limits[1:]
    assert law.binding(replace(here, places=(ABROAD,))).limits == law.limits


@pytest.mark.parametrize("places", [(ABROAD,), (HOME, ABROAD), (ABROAD, HOME)])
def test_calls_share_sections_only_if_their_local_days_are_the_same(places: tuple[Place, ...]) -> None:
    begun, ended = {"from": date(2026, 8, 11)}, {"from": date(2020, 1, 1), "until": date(2026, 8, 10)}
    law = parse_law(change_law("limits", [{**LIMIT, **days} for days in (begun, ended)]))
    evening = replace(facts(today=date(2026, 8, 10)), at=NIGHT - 2 * HOUR)
    for _ in range(2):
        assert law.binding(replace(evening, places=(HOME,))).limits == law.limits[1:]
        assert law.binding(replace(evening, places=places)).limits == law.limits[1:]
        assert law.binding(replace(evening, places=places, at=NIGHT)).limits == law.limits
        assert law.binding(replace(evening, places=(HOME,), at=NIGHT)).limits == law.limits[1:]


def test_an_allow_ends_at_midnight_where_the_person_is() -> None:
    here = facts_of(PolicyCase(about="", at="2026-08-10T17:00:00Z", want=Wanted(decision="allow")))
    there = replace(here, places=(*here.places, ABROAD))
    assert decide(here, IT).valid_until == instant("2026-08-10T22:00:00Z")
    assert decide(there, IT).valid_until == instant("2026-08-10T20:00:00Z")


def test_a_recommendation_does_not_bind_and_is_kept_as_advice() -> None:
    law = parse_law(
        change_law("limits", [{**LIMIT, "from": date(2014, 2, 20), "severity": "recommendation"}])
    )
    binding = law.binding(facts())
    assert not binding.limits
    assert binding.advised is not None
    assert binding.advised.limits == law.limits
    assert msgspec.structs.replace(binding.advised, limits=()) == msgspec.structs.replace(
        binding, advised=None
    )
    assert law.binding(facts(today=date(2014, 2, 19))).advised is None


_SCOPES = st.fixed_dictionaries(
    {
        "today": st.dates(date(2018, 1, 1), date(2027, 12, 31)),
        "purpose": st.sampled_from(["sale", "market_research", "service", "political"]),
        "call_type": st.sampled_from(["agent", "automated"]),
        "sector": st.sampled_from(["", "gas"]),
        "callee": st.sampled_from(["consumer", "business"]),
        "adheres_to": st.sampled_from([(), (CODE,)]),
    }
)


@given(st.lists(_SCOPES, min_size=1, max_size=8))
def test_a_cached_binding_equals_a_newly_selected_one(scopes: list[dict[str, Any]]) -> None:
    for scope in scopes:
        assert IT.binding(facts(**scope)) == IT._select(Scope.from_facts(facts(**scope), IT.sectors))


def test_the_kinds_that_a_row_must_state_come_from_all_sections() -> None:
    assert IT.stated_kinds == {"mobile"}
    assert parse_law(change_law("directories", [])).stated_kinds == frozenset()


def test_the_calls_of_one_campaign_and_day_share_one_binding() -> None:
    shared = IT.binding(facts())
    assert IT.binding(facts(today=date(2026, 11, 25))) is not shared
    assert IT.binding(facts()) is shared


def test_the_cache_of_bindings_is_bounded_without_changing_results() -> None:
    law: Law = parse_law(law_data("IT"))
    for n in range(law_module._MEMORY + 2):
        day = date(2018, 9, 19) + n * ONE_DAY
        assert law.binding(facts(today=day)).legal_basis == (law.legal_basis[-1],)
        assert len(law._bindings) <= law_module._MEMORY


def test_a_section_is_in_force_from_its_first_to_its_last_day() -> None:
    first, last = date(2014, 2, 20), date(2014, 2, 21)
    data = change_law("limits", [{**LIMIT, "from": first, "until": last}, {**LIMIT, "from": first}])
    dated, lasting = parse_law(data).limits
    days = [first - ONE_DAY, first, last, last + ONE_DAY]
    assert [dated.is_in_force(day) for day in days] == [False, True, True, False]
    assert [lasting.is_in_force(day) for day in days] == [False, True, True, True]


def test_longer_prefixes_that_bar_a_number_come_first() -> None:
    section = {"source": "s", "from": date(2020, 1, 1), "allows": ["fixed"]}
    prefixes = [["+3984"], ["+39844", "+3984"]]
    data = change_law("diallable", [{**section, "not_prefixes": several} for several in prefixes])
    assert parse_law(data).barred_prefixes == ("+39844", "+3984")
    assert parse_law(change_law("diallable", [section])).barred_prefixes == ()
