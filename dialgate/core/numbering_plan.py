"""Numbering plans, from `phonenumbers`: what is needed to read national numbers, and what `number_ranges` reads."""

import re
from functools import cache
from typing import NamedTuple

import phonenumbers
from phonenumbers import (
    NumberParseException,
    PhoneMetadata,
    PhoneNumber,
    PhoneNumberFormat,
    PhoneNumberType,
    ValidationResult,
)

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


@cache
def country_code(region: str) -> int:
    return phonenumbers.country_code_for_region(region)


@cache
def example_number(region: str, *, mobile: bool) -> str:
    """Return an example of the region's mobiles or landlines, without the country code, or "" if it has none."""
    kind = PhoneNumberType.MOBILE if mobile else PhoneNumberType.FIXED_LINE
    number = phonenumbers.example_number_for_type(region, kind)
    return phonenumbers.national_significant_number(number) if number else ""


@cache
def has_trunk_prefix(region: str) -> bool:
    """Return whether callers in a region, or some of them, dial digits that are not part of the number."""
    plan = PhoneMetadata.metadata_for_region(region)
    return plan is None or bool(plan.national_prefix_for_parsing)


@cache
def longest_short_number(region: str) -> int:
    plan = PhoneMetadata.short_metadata_for_region(region)
    return max(plan.general_desc.possible_length) if plan and plan.general_desc else 0


def is_valid(number: int) -> bool:
    """Return whether a number is valid in any country's plan. `number` is an E.164 number without `+`."""
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(f"+{number}"))
    except NumberParseException:
        return False


def calling_code(digits: str) -> int | None:
    """Return the country code at the beginning of an E.164 number without its plus."""
    codes = (int(digits[:width]) for width in (1, 2, 3))
    return next((code for code in codes if code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE), None)


def plans(code: int) -> list[PhoneMetadata]:
    """Return the numbering plans of the regions that share a country code, in the order of `phonenumbers`."""
    regions = phonenumbers.region_codes_for_country_code(code)
    found = (PhoneMetadata.metadata_for_region_or_calling_code(code, region) for region in regions)
    return [plan for plan in found if plan is not None]
