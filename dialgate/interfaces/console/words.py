"""What the console says, in each language: `texts/<language>.yaml`, one flat mapping from key to text.

In braces stands what is filled in. A test holds every file to the same keys and names, and to a text for each reason code.
"""

from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
import yaml

from dialgate import texts
from dialgate.texts import LANGUAGES, Language, Texts


class Words:
    """Called with a key it gives the text. Raises KeyError where there is none: that is a fault of ours."""

    def __init__(self, language: Language, said: dict[str, str]) -> None:
        self.language: Language = language
        self.said = said

    def __call__(self, key: str, **names: Any) -> str:
        return self.said[key].format(**names) if names else self.said[key]

    def has(self, key: str) -> bool:
        return key in self.said

    @property
    def told(self) -> Texts:
        """The sentences for the person called."""
        return texts.of(self.language)

    def some(self, *beginnings: str) -> dict[str, str]:
        """Those whose keys begin so, for a script."""
        return {key: text for key, text in self.said.items() if key.startswith(beginnings)}


@cache
def of(language: Language) -> Words:
    raw = files(__package__).joinpath("texts", f"{language}.yaml").read_bytes()
    return Words(language, msgspec.convert(yaml.load(raw, Loader=yaml.CSafeLoader), dict[str, str]))


__all__ = ["LANGUAGES", "Language", "Words", "of"]
