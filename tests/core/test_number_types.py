"""Types and regions of numbers are those of `phonenumbers`, and no pattern is compiled twice."""

import cProfile
import pstats
import random
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

import phonenumbers
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, NumberParseException, PhoneNumberFormat, PhoneNumberType

from dialgate.core import numbering_plan, phone

_TYPES = PhoneNumberType.values()


@cache
def examples() -> tuple[str, ...]:
    """Return an example number of each type in each region, in E.164."""
    found = {
        phonenumbers.format_number(example, PhoneNumberFormat.E164)
        for code, regions in COUNTRY_CODE_TO_REGION_CODE.items()
        for region in regions
        for example in (
            [phonenumbers.example_number_for_non_geo_entity(code)]
            if region == "001"
            else [phonenumbers.example_number_for_type(region, kind) for kind in _TYPES]
        )
        if example is not None
    }
    return tuple(sorted(found))


def variants(number: str, rng: random.Random) -> Iterator[str]:
    """Yield a number, numbers that differ in one digit, a shorter and a longer one."""
    yield from (number, number[:-1], number + "1")
    for _ in range(6):
        place = rng.randrange(2, len(number))
        yield f"{number[:place]}{rng.randrange(10)}{number[place + 1 :]}"


def test_the_type_and_region_are_those_of_phonenumbers() -> None:
    rng = random.Random(7)
    compared = valid = 0
    for text in (text for number in examples() for text in variants(number, rng)):
        try:
            number = phonenumbers.parse(text)
        except NumberParseException:
            continue
        wanted = phonenumbers.number_type(number), phonenumbers.region_code_for_number(number) or ""
        assert numbering_plan.type_and_region(number) == wanted, text
        compared += 1
        valid += wanted[0] != PhoneNumberType.UNKNOWN
    assert compared > 8_000
    assert compared // 4 < valid < compared


def test_numbers_of_all_countries_in_turn_compile_no_pattern_again() -> None:
    """`re` keeps 512 patterns. The plans have more than a thousand, so it would compile each of them again."""
    parse_all()
    profile = cProfile.Profile()
    profile.runcall(parse_all)
    calls = pstats.Stats(profile).stats  # type: ignore[attr-defined] # documented, but not in its type stub
    compiled = sum(
        count[0]
        for (file, _, name), count in calls.items()
        if name == "compile" and file.endswith("_compiler.py")
    )
    assert compiled < len(examples()) // 20


def parse_all() -> None:
    for number in examples():
        with suppress(phone.NotANumber):
            phone.parse(number)
