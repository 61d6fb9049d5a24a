"""The parts of a country's numbering plan that are needed to read files with national numbers."""

import re
from typing import NamedTuple

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumber, PhoneNumberFormat, ValidationResult

_LONGEST = 15  # E.164


class NumberingPlan(NamedTuple):
    country_code: str
    trunk: str  # prefix that callers in the country dial, such as `0`; may be empty
    written: str  # the trunk prefix if national numbers are usually written with it, else empty
    lengths: tuple[int, ...]  # possible numbers of digits after the country code


def numbering_plan(region: str) -> NumberingPlan | None:
    """Return the numbering plan of an ISO 3166 country, or None if it is unknown."""
    if region not in phonenumbers.SUPPORTED_REGIONS:
        return None
    code = phonenumbers.country_code_for_region(region)
    return NumberingPlan(
        country_code=str(code),
        trunk=phonenumbers.ndd_prefix_for_region(region, strip_non_digits=True) or "",
        written=_written_prefix(region),
        lengths=tuple(length for length in range(1, _LONGEST) if _is_possible(code, length)),
    )


def _is_possible(country_code: int, length: int) -> bool:
    number = PhoneNumber(country_code=country_code, national_number=10 ** (length - 1))
    return phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE


def _written_prefix(region: str) -> str:
    example = phonenumbers.example_number(region)
    if example is None:
        return ""
    national = re.sub(r"\D", "", phonenumbers.format_number(example, PhoneNumberFormat.NATIONAL))
    return national.removesuffix(phonenumbers.national_significant_number(example))


def is_valid(number: int) -> bool:
    """Return whether a number is valid in any country's plan. `number` is an E.164 number without `+`."""
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(f"+{number}"))
    except NumberParseException:
        return False
