"""Generation of `dialgate/core/phone_areas.py` from `phonenumbers`: `python -m tests.packaging.phone_areas`, or `make lock`.

`phonenumberslite` is `phonenumbers` without its 40 MB of place names and its map of time zones. The generated
tables hold the part of this data that decisions need, corrected by `area_facts.yaml`. Under +1 and +55 each area code
has one row. Longer prefixes belong to exchanges, and a ported or mobile number need not be in the area of its exchange.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from dialgate.core import phone_areas
from tests.support import yaml_files

_MODULE = Path(phone_areas.__file__)
_FACTS = Path(__file__).with_name("area_facts.yaml")
_HEAD = '''"""Time zones and subdivisions by E.164 prefix. Generated: see tests/packaging/phone_areas.py.

From `phonenumbers`, copyright (C) The Libphonenumber Authors, Apache License 2.0, with the corrections in
tests/packaging/area_facts.yaml, which names their sources. Subdivisions are named as in ISO 3166-2.
"""

from typing import Final

VERSION: Final = "{version}"

# fmt: off
'''
_PARTS = {
    "ZONES": "prefixes, by the names of their time zones",
    "PLACES": "area codes, by the subdivisions that they serve",
    "ZONES_OF_PLACES": "subdivisions, by the names of their time zones",
}
_AREA_CODE = {"1": 4, "55": 4}  # length of country code and area code
# Names of subdivisions as `phonenumbers` writes them.
_STATES = {
    "US": "AL Alabama|AK Alaska|AZ Arizona|AR Arkansas|CA California|CO Colorado|CT Connecticut|DE Delaware|DC Washington D.C.|FL Florida"
    "|GA Georgia|HI Hawaii|ID Idaho|IL Illinois|IN Indiana|IA Iowa|KS Kansas|KY Kentucky|LA Louisiana|ME Maine|MD Maryland"
    "|MA Massachusetts|MI Michigan|MN Minnesota|MS Mississippi|MO Missouri|MT Montana|NE Nebraska|NV Nevada|NH New Hampshire"
    "|NJ New Jersey|NM New Mexico|NY New York|NC North Carolina|ND North Dakota|OH Ohio|OK Oklahoma|OR Oregon|PA Pennsylvania"
    "|RI Rhode Island|SC South Carolina|SD South Dakota|TN Tennessee|TX Texas|UT Utah|VT Vermont|VA Virginia|WA Washington State"
    "|WV West Virginia|WI Wisconsin|WY Wyoming",
    "CA": "AB Alberta|BC British Columbia|BC British Colombia|MB Manitoba|NB New Brunswick|NL Newfoundland and Labrador|NS Nova Scotia"
    "|NT Northwest Territories|NU Nunavut|ON Ontario|PE Prince Edward Island|QC Quebec|SK Saskatchewan|YT Yukon",
    "BR": "AC Acre|AL Alagoas|AP Amapá|AM Amazonas|BA Bahia|CE Ceará|DF Federal District|ES Espirito Santo|GO Goiás|MA Maranhão"
    "|MT Mato Grosso|MS Mato Grosso do Sul|MG Minas Gerais|PA Pará|PB Paraiba|PR Paraná|PE Pernambuco|PI Piauí|RJ Rio de Janeiro"
    "|RN Rio Grande do Norte|RS Rio Grande do Sul|RO Rondônia|RR Roraima|SC Santa Catarina|SP São Paulo|SE Sergipe|TO Tocantins",
}  # fmt: skip
_NAMES = {
    entry[3:]: f"{country}-{entry[:2]}" for country, states in _STATES.items() for entry in states.split("|")
}
_LETTERS = {place[3:]: place for place in _NAMES.values() if not place.startswith("BR")}
_IN_STATE = re.compile(r".*, ([A-Z]{2})")

Rows = dict[str, tuple[str, ...]]


class Upstream(NamedTuple):
    """The data of `phonenumbers`: time zones and English names by prefix."""

    zones: Mapping[str, Sequence[str]]
    names: Mapping[str, str]


def upstream(release: str) -> Upstream:
    """Download a release of `phonenumbers` with pip and return its data."""
    with TemporaryDirectory() as folder:
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*install, "--target", folder, f"phonenumbers=={release}"], check=True)
        show = (
            "import json, phonenumbers.geodata as g, phonenumbers.tzdata as t;"
            "print(json.dumps([t.TIMEZONE_DATA, {p: n['en'] for p, n in g.GEOCODE_DATA.items() if 'en' in n}]))"
        )
        shown = subprocess.run([sys.executable, "-c", show], cwd=folder, check=True, stdout=subprocess.PIPE)
    return Upstream(*json.loads(shown.stdout))


def tables(data: Upstream) -> dict[str, Rows]:
    """Return the rows of the generated tables `ZONES`, `PLACES` and `ZONES_OF_PLACES`."""
    facts = yaml_files.read(_FACTS)
    places = _places(data.names, facts["places"])
    zones = _zones(data.zones, facts["zones"], places)
    return {"ZONES": zones, "PLACES": places, "ZONES_OF_PLACES": _zones_of_places(zones, places, facts)}


def _places(names: Mapping[str, str], known: Mapping[str, str]) -> Rows:
    places: Rows = {
        area: found
        for prefix, name in names.items()
        for area in _area_codes(prefix)
        if (found := _subdivisions(name)) and len(prefix) <= len(area)
    }
    places |= {
        prefix: tuple(names.split()) for names, prefixes in known.items() for prefix in prefixes.split()
    }
    return places


def _area_codes(prefix: str) -> list[str]:
    """Return the area codes that a prefix under +1 or +55 covers: the prefix itself, or all that begin with it."""
    length = next((length for code, length in _AREA_CODE.items() if prefix.startswith(code)), 0)
    if len(prefix) == length - 1:
        return [f"{prefix}{digit}" for digit in range(1, 10)]
    return [prefix] if len(prefix) == length else []


def _subdivisions(name: str) -> tuple[str, ...]:
    letters = _IN_STATE.fullmatch(name)
    places = [_LETTERS.get(letters[1])] if letters else [_NAMES.get(part) for part in name.split("/")]
    return tuple(sorted(place for place in places if place))


def _zones(map_: Mapping[str, Sequence[str]], facts: list[Any], places: Rows) -> Rows:
    united: defaultdict[str, set[str]] = defaultdict(set)
    for prefix, names in map_.items():
        length = next((length for code, length in _AREA_CODE.items() if prefix.startswith(code)), len(prefix))
        united[prefix[:length]] |= set(names)
    for area in places:
        united[area] |= set(_longest(map_, area))
    zones = {prefix: tuple(sorted(names)) for prefix, names in united.items()}
    return zones | {
        prefix: tuple(sorted(fact["zones"].split())) for fact in facts for prefix in fact["prefixes"].split()
    }


def _longest(map_: Mapping[str, Sequence[str]], digits: str) -> Sequence[str]:
    return next(map_[digits[:length]] for length in range(len(digits), 0, -1) if digits[:length] in map_)


def _zones_of_places(zones: Rows, places: Rows, facts: Any) -> Rows:
    united: defaultdict[str, set[str]] = defaultdict(set)
    for area, served in places.items():
        for place in served:
            united[place] |= set(zones[area])
    result = {place: tuple(sorted(names)) for place, names in united.items()}
    for fact in facts["zones_of_places"]:
        for names, known in fact.items():
            if names != "source":
                result |= dict.fromkeys(known.split(), tuple(names.split()))
    return result


def text(parts: Mapping[str, Rows], release: str) -> str:
    """Return the source of `dialgate/core/phone_areas.py`."""
    return _HEAD.format(version=release) + "\n".join(_part(name, rows) for name, rows in parts.items())


def _part(name: str, rows: Rows) -> str:
    keys: defaultdict[str, list[str]] = defaultdict(list)
    for key, values in sorted(rows.items()):
        keys[" ".join(values)].append(key)
    lines = (f'    "{values}": "{" ".join(found)}",\n' for values, found in sorted(keys.items()))
    return f"{name}: Final = {{  # {_PARTS[name]}\n{''.join(lines)}}}\n"


if __name__ == "__main__":
    installed = version("phonenumberslite")
    _MODULE.write_text(text(tables(upstream(installed)), installed), "utf-8")
