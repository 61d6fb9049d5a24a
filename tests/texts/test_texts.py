"""Every decision can be explained to a called person, in each language."""

import re
from collections.abc import Iterator

import pytest
import yaml
from msgspec import structs

from dialgate import texts
from dialgate.core import phone
from dialgate.core.decision import decide
from dialgate.core.model import RESULT_RANK, Deny
from dialgate.core.number_format import PROBLEMS_OF_WRITING
from dialgate.core.reasons import REASONS
from dialgate.core.rules import RULES, revocation
from dialgate.texts import LANGUAGES, Language
from tests.support.casebook import all_cases, case_law, facts_of
from tests.support.world import CONFIG


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_code_rule_and_result_has_a_sentence(language: Language) -> None:
    translation = texts.of(language)
    assert list(translation.reasons) == list(REASONS)
    assert list(translation.rules) == [name for name, _ in RULES]
    assert translation.results.keys() == RESULT_RANK.keys()
    assert len(translation.months) == 12
    assert all({*translation.reasons.values(), *translation.rules.values()})


def sources(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        yield from ([part["source"]] if "source" in part else [])
        for value in part.values():
            yield from sources(value)
    elif isinstance(part, list):
        for item in part:
            yield from sources(item)


def test_each_italian_law_has_a_translation_with_the_same_figures() -> None:
    laws = texts.of("it").laws
    stored = {*sources(yaml.safe_load((CONFIG / "countries" / "it.yaml").read_text())), revocation._LAW}
    assert laws.keys() == stored
    for source, text in laws.items():
        assert re.findall(r"\d+", text) == re.findall(r"\d+", source)
        assert not re.search(r"\b(and|of|or|the|not|are|is|to|with)\b", text), text


def test_all_languages_use_the_same_names_in_braces() -> None:
    def names(language: Language) -> dict[str, list[str]]:
        phrases = structs.asdict(texts.of(language).phrases)
        return {key: sorted(re.findall(r"\{(\w+)\}", phrase)) for key, phrase in phrases.items()}

    assert names("it") == names("en")


def test_no_two_codes_have_the_same_sentence() -> None:
    for language in LANGUAGES:
        reasons = texts.of(language).reasons
        codes = {text: [code for code in reasons if reasons[code] == text] for text in reasons.values()}
        assert [same for same in codes.values() if len(same) > 1] == []


# ---- findings --------------------------------------------------------------------------------------------------------

_ENGLISH = re.compile(r"\b(and|of|or|the|not|are|is|to|with|was|no|number|call|caller)\b")


def found_by_rules() -> set[str]:
    """Return all texts that rules produce for the cases in tests/cases, and all texts about problems with a number."""
    decisions = [decide(facts_of(case), case_law(case)) for case in all_cases()]
    outcomes = [outcome for decision in decisions for outcome in decision.outcomes.values()]
    found = {outcome.text if isinstance(outcome, Deny) else outcome.why for outcome in outcomes}
    return (found | PROBLEMS_OF_WRITING | {*phone._LENGTH_PROBLEMS.values()}) - {"", "ambiguous"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_everything_that_rules_find_in_the_cases_has_a_sentence(language: Language) -> None:
    assert [text for text in sorted(found_by_rules()) if texts._translate(language, text) is None] == []


def test_findings_are_in_italian_on_italian_pages() -> None:
    sentences = {texts.finding("it", text) for text in found_by_rules()}
    assert [sentence for sentence in sorted(sentences) if _ENGLISH.search(sentence)] == []


def test_all_languages_translate_the_same_findings_with_the_same_names() -> None:
    english, italian = texts.of("en"), texts.of("it")
    assert list(english.findings) == list(italian.findings)
    for stored in english.findings:
        names = set(re.findall(r"\{(\w+)\}", stored))
        for language in (english, italian):
            assert set(re.findall(r"\{(\w+)\}", language.findings[stored])) <= names, stored
    assert {name: list(words) for name, words in english.terms.items()} == {
        name: list(words) for name, words in italian.terms.items()
    }


@pytest.mark.parametrize(
    ("stored", "code", "sentence"),
    [
        ("rpo was never consulted about this number for this controller", "registry.unknown",
         "RPO mai consultato per questo numero per conto di questo titolare"),
        ("advised against: Sunday 12:00:00 in Europe/Rome (sunday) is outside the permitted hours", "",
         "Sconsigliato: domenica 12:00:00, Europe/Rome (domenica): fuori dalle fasce orarie consentite"),
        ("list:sale", "", "Nella lista sale"),
        ("a wording of an earlier version", "hours.holiday",
         "Era un giorno festivo nel luogo in cui si trova la persona."),
        ("a wording of an earlier version", "", "A wording of an earlier version"),
    ],
)  # fmt: skip
def test_a_finding_is_translated_or_replaced_by_the_sentence_of_its_code(
    stored: str, code: str, sentence: str
) -> None:
    assert texts.finding("it", stored, code) == sentence


# ---- the language ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("", "en"),
        ("it", "it"),
        ("it-IT,it;q=0.9,en;q=0.8", "it"),
        ("de, it;q=0.5, en;q=0.7", "en"),
        ("en;q=0, it;q=0.1", "it"),
        ("fr", "en"),
        ("it;q=high", "en"),
        ("*", "en"),
    ],
)
def test_the_language_is_the_one_that_the_browser_prefers(accept: str, language: Language) -> None:
    assert texts.preferred(accept) == language
