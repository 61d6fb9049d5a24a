"""The words that describe a country's law, read from `law.<language>.yaml`."""

from functools import cache

from msgspec import Struct

from dialgate.texts import Language, load


class LawWords(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The words for law sections in one language. A key or value without an entry is shown by its name.

    `scopes` and `contents` map a key of a country file to a text in which `{}` is replaced by the value of
    the key. `keys` maps other keys to their translated names. `units` maps a unit of time to its singular and
    plural. `counted` maps a way of counting days to the singular and plural of "day". `events` contains the
    wording of a limit for each kind of call, for example for answered calls.
    """

    subjects: dict[str, str]
    severities: dict[str, str]
    scopes: dict[str, str]
    contents: dict[str, str]
    values: dict[str, str]
    keys: dict[str, str]
    days: dict[str, str]
    units: dict[str, tuple[str, str]]
    events: dict[str, str]
    counted: dict[str, tuple[str, str]]
    phrases: dict[str, str]
    countries: dict[str, str] = {}


@cache
def words_in(language: Language) -> LawWords:
    return load(f"law.{language}.yaml", LawWords)
