from datetime import date
from typing import Any, get_args

import msgspec
import pytest

from dialgate.core import periods
from dialgate.core.law import ALL_SECTIONS, Law, parse_law
from dialgate.core.law_sections import AcceptedBasis, Exemption, Requirement
from dialgate.core.model import Callee, CallType, DialMode, Kind, Purpose, Severity
from dialgate.core.record_terms import KeptKind
from dialgate.report.law_page import LawChange, changes, law_page, markdown
from dialgate.texts import law_words
from tests.support.casebook import COUNTRIES, law_of

LAW: dict[str, Any] = {
    "country": "XX",
    "name": "Nowhere",
    "zone": "UTC",
    "draft": True,
    "missing": ["appointments"],
    "unconfirmed": ["the day of the act"],
    "day_sets": {"feste": {"library": "IT", "subdivision": "RM", "added": ["06-14", "good_friday"]}},
    "sectors": ["energy"],
    "traits": ["publisher"],
    "regions": ["XX", "XX-A"],
    "diallable": [{"source": "act 1", "from": "2020-01-01", "allows": ["fixed", "fixed_or_mobile"]}],
    "legal_basis": [
        {"source": "act 2", "from": "2020-01-01", "until": "2024-12-31", "callees": ["business"], "accepts": ["directory"]},
        {"source": "act 3", "from": "2025-01-01", "callees": ["business"], "accepts": ["consent"]},
        {"source": "act 4", "from": "2020-01-01", "call_types": ["ai_voice"], "accepts": ["consent"]},
    ],
    "hours": [
        {"source": "act 5", "from": "2020-01-01", "days": {"mon-fri": ["09:00-12:00", "14:00-20:00"], "sat": [], "holiday": []}, "day_set": "feste", "traits": ["publisher"], "places": ["XX-A"], "kinds": ["mobile"],
         "severity": "self_regulation"},
    ],
    "registries": [{"source": "act 6", "from": "2021-01-01", "until": "2022-12-31", "id": "stop", "mode": "answers",
                    "validity": "30d", "purposes": ["sale"], "sectors": ["energy"]}],
    "consents": [{"source": "act 7", "from": "2020-01-01", "cited_for": ["proof"]}],
    "limits": [
        {"source": "act 8", "from": "2020-01-01", "events": "attempts", "after": 4, "per": "30d", "counting": "calendar"},
        {"source": "act 9", "from": "2020-01-01", "events": "answered", "after": 3, "per": "1d", "counting": "rolling", "among": "goods"},
        {"source": "act 10", "from": "2020-01-01", "events": "abandoned", "per": "72h", "counting": "rolling", "until_answered": ["agent"],
         "unless": ["guaranteed_agent"]},
        {"source": "act 11", "from": "2020-01-01", "events": "refused", "after": 2, "per": "60d", "counting": "whole_days"},
    ],
}  # fmt: skip


def test_a_page_holds_the_sections_of_the_day_in_words() -> None:
    page = law_page(parse_law(LAW), date(2024, 12, 31))
    assert (page.draft, page.missing, page.unconfirmed) == (True, ("appointments",), ("the day of the act",))
    assert page.day_sets == ("feste: those of IT-RM in the `holidays` library, 06-14, good friday.",)
    told = [(line.scope, line.content, line.severity) for lines in page.subjects.values() for line in lines]
    assert told == [
        ("all calls", "fixed, fixed or mobile", "statute"),
        ("to businesses", "accepted: directory", "statute"),
        ("calls by an AI voice", "accepted: consent", "statute"),
        ("all calls", "", "statute"),
        ("by publisher, in XX-A, to mobile numbers", "Monday to Friday 09:00-12:00, 14:00-20:00; closed: Saturday, Sunday, days of feste", "code of conduct"),
        ("all calls", "at most 4 calls in 30 calendar days, answered or not", "statute"),
        ("all calls", "at most 3 answered calls in 1 day; only calls with the same goods count", "statute"),
        ("all calls", "no call for 72 hours after an abandoned call; unless: a guaranteed agent; then, until a later call is answered, only calls by an agent", "statute"),
        ("all calls", "no call for 60 whole days after a refusal; only after 2 such calls", "statute"),
    ]  # fmt: skip


def test_without_a_day_a_page_holds_every_section_with_its_days() -> None:
    page = law_page(parse_law(LAW), None)
    assert sum(map(len, page.subjects.values())) == 11
    (line,) = page.subjects["Opposition registries"]
    assert (line.scope, line.since, line.until) == (
        "for sale, in energy",
        date(2021, 1, 1),
        date(2022, 12, 31),
    )
    assert line.content == "id: stop; mode: answers; an answer is valid for 30 days"


@pytest.mark.parametrize(
    ("since", "until", "told"),
    [
        ("2020-01-01", "2020-12-31", []),
        ("2020-12-31", "2021-01-01", [("2021-01-01", "begins", "act 6", "")]),
        ("2021-01-01", "2022-12-31", []),
        ("2022-12-31", "2023-01-01", [("2023-01-01", "ends", "act 6", "")]),
        ("2024-12-31", "2025-01-01", [("2025-01-01", "changes", "act 3", "act 2")]),
        (
            "2019-12-31",
            "2020-01-01",
            [("2020-01-01", "begins", f"act {number}", "") for number in (1, 2, 4, 7, 5, 8, 9, 10, 11)],
        ),
    ],
)
def test_a_change_is_found_on_its_day(since: str, until: str, told: list[tuple[str, ...]]) -> None:
    found = changes(parse_law(LAW), date.fromisoformat(since), date.fromisoformat(until))
    assert [_describe_change(change) for change in found] == told


def _describe_change(change: LawChange) -> tuple[str, ...]:
    before = change.before.source if change.before else ""
    return str(change.day), change.kind, change.line.source, before


def test_markdown_has_every_section_and_every_remark() -> None:
    text = markdown(law_page(parse_law(LAW), None))
    assert [f"act {number} " in text for number in range(1, 8)] == [True] * 7
    assert "- appointments" in text
    assert "- the day of the act" in text
    assert "| from 2021-01-01 until 2022-12-31 | for sale, in energy |" in text


@pytest.mark.parametrize("country", sorted(path.stem.upper() for path in COUNTRIES.glob("*.yaml")))
def test_every_section_of_every_country_has_words(country: str) -> None:
    law = law_of(country)
    page = law_page(law, None)
    lines = [line for lines in page.subjects.values() for line in lines]
    assert len(lines) == sum(len(getattr(law, name)) for name in ALL_SECTIONS)
    assert all(line.scope and line.source for line in lines)
    assert msgspec.json.decode(msgspec.json.encode(page))


def _kind(name: str) -> Any:
    (field,) = (field for field in msgspec.inspect.type_info(Law).fields if field.name == name)  # type: ignore[attr-defined]
    return field.type.item_type.cls


@pytest.mark.parametrize("name", ALL_SECTIONS)
def test_every_key_of_a_section_has_italian_words(name: str) -> None:
    italian = law_words.words_in("it")
    assert name in italian.subjects
    elsewhere = {"source", "starts", "ends", "severity", "cited_for", "days", "events", "after"}
    worded = {*italian.scopes, *italian.contents, *italian.keys, *elsewhere}
    assert {field.name for field in msgspec.structs.fields(_kind(name))} - worded == set()


def test_every_value_of_a_section_has_an_italian_word() -> None:
    italian = law_words.words_in("it")
    types = (Purpose, CallType, Callee, Kind, DialMode, Exemption, AcceptedBasis, Requirement, KeptKind)
    wanted = {value for type_ in types for value in get_args(type_)} | {
        *law_of("IT").sectors,
        *law_of("IT").traits,
    }
    assert wanted - italian.values.keys() == set()
    assert italian.severities.keys() >= set(get_args(Severity))
    assert italian.units.keys() == periods.UNITS.keys()
    assert italian.countries.keys() == {path.stem.upper() for path in COUNTRIES.glob("*.yaml")}


def test_a_page_in_italian() -> None:
    page = law_page(parse_law(LAW), date(2024, 12, 31), "it")
    lines = [line for lines in page.subjects.values() for line in lines]
    assert [(line.scope, line.content, line.severity) for line in lines] == [
        ("tutte le chiamate", "fissi, fissi o mobili", "legge"),
        ("a imprese", "ammessi: elenco pubblico", "legge"),
        ("chiamate di una voce artificiale", "ammessi: consenso", "legge"),
        ("tutte le chiamate", "", "legge"),
        ("titolari: publisher, luoghi: XX-A, numeri: mobili",
         "da lunedì a venerdì 09:00-12:00, 14:00-20:00; chiuso: sabato, domenica, giorni di `feste`", "codice di condotta"),
        ("tutte le chiamate", "al massimo 4 chiamate in 30 giorni di calendario, con o senza risposta", "legge"),
        ("tutte le chiamate", "al massimo 3 chiamate con risposta in 1 giorno; contano solo le chiamate con lo stesso valore di: beni o servizi", "legge"),
        ("tutte le chiamate", "nessuna chiamata per 72 ore dopo una chiamata muta; salvo: operatore già in linea; poi, fino a una chiamata con risposta, solo chiamate di un operatore", "legge"),
        ("tutte le chiamate", "nessuna chiamata per 60 giorni interi dopo un rifiuto; a partire da 2 chiamate simili", "legge"),
    ]  # fmt: skip
    (change,) = changes(parse_law(LAW), date(2022, 12, 31), date(2023, 1, 1), "it")
    assert (
        change.line.content
        == "nome: stop; consultazione: risposte sui numeri inviati; una risposta vale 30 giorni"
    )
