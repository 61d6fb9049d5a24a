"""Every decision can be explained to a called person, in each language."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
from msgspec import structs

from dialgate import texts
from dialgate.core import phone
from dialgate.core.decision import decide
from dialgate.core.law import Law
from dialgate.core.model import RESULT_RANK, Callee, Deny, Facts, Kind, Purpose
from dialgate.core.number_format import PROBLEMS_OF_WRITING
from dialgate.core.reasons import REASONS
from dialgate.core.rules import RULES, revocation
from dialgate.texts import LANGUAGES, Language
from tests.core import test_vocabulary as vocabulary
from tests.core.test_decision import ALWAYS, BEYOND_THE_CALENDAR, base, with_law
from tests.core.test_phone import TABLES
from tests.support import yaml_files
from tests.support.casebook import all_cases, case_law, facts_of
from tests.support.country_cases import all_country_cases
from tests.support.paths import ROOT
from tests.support.world import CONFIG


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_code_rule_and_result_has_a_sentence(language: Language) -> None:
    translation = texts.texts_in(language)
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
    laws = texts.texts_in("it").laws
    stored = {*sources(yaml_files.read(CONFIG / "countries" / "it.yaml")), revocation._LAW}
    assert laws.keys() == stored
    for source, text in laws.items():
        assert re.findall(r"\d+", text) == re.findall(r"\d+", source)
        assert not re.search(r"\b(and|of|or|the|not|are|is|to|with)\b", text), text


def test_all_languages_use_the_same_names_in_braces() -> None:
    def names(language: Language) -> dict[str, list[str]]:
        phrases = structs.asdict(texts.texts_in(language).phrases)
        return {key: sorted(re.findall(r"\{(\w+)\}", phrase)) for key, phrase in phrases.items()}

    assert names("it") == names("en")


def test_no_two_codes_have_the_same_sentence() -> None:
    for language in LANGUAGES:
        reasons = texts.texts_in(language).reasons
        codes = {text: [code for code in reasons if reasons[code] == text] for text in reasons.values()}
        assert [same for same in codes.values() if len(same) > 1] == []


# ---- findings --------------------------------------------------------------------------------------------------------

_ENGLISH = re.compile(
    r"\b(and|of|or|the|not|are|is|to|with|was|no|number|call|caller|for|about|times|days?|hours?)\b"
)
CORE = ROOT / "dialgate" / "core"
SOURCES = (
    *sorted((CORE / "rules").glob("*.py")),
    *(CORE / f"{name}.py" for name in ("decision", "exemptions", "legal_basis", "number_format", "phone")),
    ROOT / "dialgate" / "gate" / "binding_law.py",
)
# Texts in these files that no decision contains as the finding of a rule.
NO_FINDINGS = {
    revocation._LAW,
    "has no Italian national form",
    "can be read as a number with the prefix 0843 or 0844, or as a mobile number",
    "is a short code; write it without separators",
}


def decided() -> Iterator[tuple[Facts, Law]]:
    """Yield the cases in tests/cases, and one in which a rule fails.

    The thousands of cases in `grid` are left out, because they produce no other texts.
    """
    for case in (*all_cases(), *all_country_cases()):
        yield facts_of(case), case_law(case)
    for file in vocabulary.FILES.values():
        for small in file.cases:
            yield vocabulary.read(file, small)
    yield structs.replace(base(), at=BEYOND_THE_CALENDAR), with_law(hours=[ALWAYS])


def refusals() -> Iterator[str]:
    for raw, home, _ in TABLES["refused"]:
        try:
            phone.parse(raw, home)
        except phone.NotANumber as problem:
            yield str(problem)


@cache
def found_by_rules() -> frozenset[str]:
    """Return all texts that rules produce for the cases, and all texts about problems with a number."""
    outcomes = (outcome for facts, law in decided() for outcome in decide(facts, law).outcomes.values())
    found = {outcome.text if isinstance(outcome, Deny) else outcome.why for outcome in outcomes}
    problems = {*refusals(), *PROBLEMS_OF_WRITING, *phone._LENGTH_PROBLEMS.values()}
    return frozenset((found | problems) - {""})


def texts_in(source: Path) -> Iterator[str]:
    """Yield the texts in a module: strings with words, and f-strings such as `list:{id}`. A value is shown as `{}`."""
    nodes = list(ast.walk(ast.parse(source.read_text("utf-8"))))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    joined = [node for node in nodes if isinstance(node, ast.JoinedStr)]
    parts = {id(part) for node in joined for part in ast.walk(node)} - {id(node) for node in joined}
    for node in nodes:
        text = ""
        if isinstance(node, ast.JoinedStr):
            text = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings | parts
        ):
            text = node.value
        if re.search(r"[a-z] | [a-z]", text) or re.fullmatch(r"[a-z_]+:\{\}", text):
            yield text


def test_the_cases_produce_every_text_in_the_rules() -> None:
    """A text that no case produces would be missing from the tests of translations below."""
    found = "\n".join(found_by_rules())
    written = {text for source in SOURCES for text in texts_in(source)} - NO_FINDINGS
    assert len(written) > 80
    assert [
        text for text in sorted(written) if not re.search(re.escape(text).replace(r"\{\}", ".*"), found)
    ] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_everything_that_rules_find_in_the_cases_has_a_sentence(language: Language) -> None:
    assert [text for text in sorted(found_by_rules()) if texts._translate(language, text) is None] == []


def test_findings_are_in_italian_on_italian_pages() -> None:
    sentences = {texts.finding("it", text) for text in found_by_rules()}
    assert [sentence for sentence in sorted(sentences) if _ENGLISH.search(sentence)] == []


def test_there_are_words_for_every_kind_purpose_and_callee() -> None:
    terms = texts.texts_in("en").terms
    for name, values in (("kind", get_args(Kind)), ("purpose", get_args(Purpose))):
        stored = {*values, *(value.replace("_", " ") for value in values)} - {"invalid"}
        assert terms[name].keys() >= stored
    assert terms["callee"].keys() == {f"{callee}s" for callee in get_args(Callee)}


def test_all_languages_translate_the_same_findings_with_the_same_names() -> None:
    english, italian = texts.texts_in("en"), texts.texts_in("it")
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
        ("called for this campaign 3 times in 1 days, 3 are allowed", "frequency.exceeded",
         "Chiamate per questa campagna in 1 giorno: 3. Limite: 3"),
        ("called about these goods 3 times in 30 days, 3 are allowed", "frequency.exceeded",
         "Chiamate su questi prodotti in 30 giorni: 3. Limite: 3"),
        ("the person refused the offer; 72 hours of rest follow", "frequency.rest",
         "La persona ha rifiutato l'offerta. Non sono consentite chiamate per 72 ore"),
        ("a silent call was made; 1 hour of rest follow", "frequency.rest",
         "C'è stata una chiamata muta. Non sono consentite chiamate per 1 ora"),
        ("calls back to the caller ID are answered until 2026-12-23, not for 18 months after the call", "",
         ("Chi richiama la numerazione chiamante riceve risposta fino al 2026-12-23, "
          "ma la legge richiede 18 mesi dopo la chiamata")),
        ("a wording of an earlier version", "hours.holiday",
         "Era un giorno festivo nel luogo in cui si trova la persona."),
        ("a wording of an earlier version", "", "A wording of an earlier version"),
    ],
)  # fmt: skip
def test_a_finding_is_translated_or_replaced_by_the_sentence_of_its_code(
    stored: str, code: str, sentence: str
) -> None:
    assert texts.finding("it", stored, code) == sentence


@pytest.mark.parametrize(
    ("stored", "sentence"),
    [
        ("called 1 times in 1 days, 1 are allowed", "Calls in 1 day: 1. Limit: 1"),
        ("called 2 times in 1 hour, 2 are allowed", "Calls in 1 hour: 2. Limit: 2"),
        ("called 11 times in 21 days, 11 are allowed", "Calls in 21 days: 11. Limit: 11"),
        ("a silent call was made; 1 days of rest follow",
         "A silent call was made. Calls are not permitted for 1 day"),
        ("4 abandoned calls to 90 answered calls in 1 days, 3 to 100 are allowed",
         "Abandoned calls in 1 day: 4, answered: 90. Limit: 3 per 100 answered"),
    ],
)  # fmt: skip
def test_one_day_and_one_hour_are_singular(stored: str, sentence: str) -> None:
    assert texts.finding("en", stored) == sentence


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
