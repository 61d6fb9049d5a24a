"""Promise: whatever can be decided can be said to a citizen, in each language."""

import re
from collections.abc import Iterator

import pytest
import yaml
from msgspec import structs

from dialgate import texts
from dialgate.core.model import RESULT_RANK
from dialgate.core.reasons import REASONS
from dialgate.core.rules import RULES, revocation
from dialgate.texts import LANGUAGES, Language
from tests.support.world import CONFIG


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_code_rule_and_result_has_a_sentence(language: Language) -> None:
    said = texts.of(language)
    assert list(said.reasons) == list(REASONS)
    assert list(said.rules) == [name for name, _ in RULES]
    assert said.results.keys() == RESULT_RANK.keys()
    assert len(said.months) == 12
    assert all({*said.reasons.values(), *said.rules.values()})


def sources(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        yield from ([part["source"]] if "source" in part else [])
        for each in part.values():
            yield from sources(each)
    elif isinstance(part, list):
        for each in part:
            yield from sources(each)


def test_italian_law_is_quoted_in_italian_with_the_figures_that_it_has() -> None:
    said = texts.of("it").laws
    stored = {*sources(yaml.safe_load((CONFIG / "countries" / "it.yaml").read_text())), revocation._LAW}
    assert said.keys() == stored
    for source, text in said.items():
        assert re.findall(r"\d+", text) == re.findall(r"\d+", source)
        assert not re.search(r"\b(and|of|or|the|not|are|is|to|with)\b", text), text


def test_every_language_fills_in_the_same() -> None:
    def filled_in(language: Language) -> dict[str, list[str]]:
        phrases = structs.asdict(texts.of(language).phrases)
        return {name: sorted(re.findall(r"\{(\w+)\}", phrase)) for name, phrase in phrases.items()}

    assert filled_in("it") == filled_in("en")


def test_no_two_codes_are_told_in_the_same_words() -> None:
    for language in LANGUAGES:
        said = texts.of(language).reasons
        twins = {text: [code for code in said if said[code] == text] for text in said.values()}
        assert [codes for codes in twins.values() if len(codes) > 1] == []


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
def test_the_reader_is_answered_in_the_language_that_the_browser_prefers(
    accept: str, language: Language
) -> None:
    assert texts.preferred(accept) == language
