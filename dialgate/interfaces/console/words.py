"""The console texts in each language, read from `texts/<language>.yaml`.

A file is one flat mapping from keys to texts, with placeholders in braces. A test checks that all files have the same keys and
placeholders, and that there is a text for each reason code.
"""

from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
import yaml

from dialgate import texts
from dialgate.texts import Language, Texts


class Words:
    """The texts in one language. Call an instance with a key to get a text. Raises `KeyError` for an unknown key."""

    def __init__(self, language: Language, texts_by_key: dict[str, str]) -> None:
        self.language: Language = language
        self.texts = texts_by_key

    def __call__(self, key: str, **names: Any) -> str:
        return self.texts[key].format(**names) if names else self.texts[key]

    def has(self, key: str) -> bool:
        return key in self.texts

    @property
    def sentences(self) -> Texts:
        """The sentences for the called person, in this language."""
        return texts.texts_in(self.language)

    def finding(self, stored: str, code: str = "") -> str:
        """Translate a rule's stored finding. `code` is the reason code for a denial."""
        return texts.finding(self.language, stored, code)

    def by_prefix(self, *prefixes: str) -> dict[str, str]:
        """Return the texts whose keys begin with one of the prefixes, for use in a script."""
        return {key: text for key, text in self.texts.items() if key.startswith(prefixes)}


@cache
def words_in(language: Language) -> Words:
    raw = files(__package__).joinpath("texts", f"{language}.yaml").read_bytes()
    return Words(language, msgspec.convert(yaml.load(raw, Loader=yaml.CSafeLoader), dict[str, str]))
