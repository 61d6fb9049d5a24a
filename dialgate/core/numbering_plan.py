"""Numbering plans, from `phonenumbers`: what is needed to read files with national numbers, and the types of numbers.

`phonenumbers.number_type` and `region_code_for_number` give the same types and regions as `type_and_region`, but compile
ten patterns for each number with `re.compile`. The module `re` keeps 512 patterns, and the plans have more than a
thousand. If calls go to all countries in turn, `re` compiles nearly every pattern anew: 0.60 ms of processor time to
parse a number. Here each pattern is compiled once: 0.05 ms.
"""

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
from phonenumbers.phonemetadata import REGION_CODE_FOR_NON_GEO_ENTITY, PhoneNumberDesc

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


# ---- types of numbers ------------------------------------------------------------------------------------------------


def type_and_region(number: PhoneNumber) -> tuple[int, str]:
    """Return a number's type, and its ISO region or "". An invalid number has the type `UNKNOWN`."""
    digits = phonenumbers.national_significant_number(number)
    regions = plans(number.country_code or 0)
    if len(regions) == 1:
        region, plan = regions[0]
        return _type_in(plan, digits), region
    for region, plan in regions:
        number_type = _type_in(plan, digits)
        # The leading digits alone assign a number to a region that has them.
        if plan.leading_digits:
            is_here = _compiled(plan.leading_digits).match(digits) is not None
        else:
            is_here = number_type != PhoneNumberType.UNKNOWN
        if is_here:
            return number_type, region
    return PhoneNumberType.UNKNOWN, ""


@cache
def plans(code: int) -> tuple[tuple[str, PhoneMetadata], ...]:
    """Return the regions that share a country code, with their numbering plans, in the order of `phonenumbers`."""
    regions = (
        (region, _plan_of(code, region)) for region in phonenumbers.region_codes_for_country_code(code)
    )
    return tuple((region, plan) for region, plan in regions if plan is not None)


def _plan_of(code: int, region: str) -> PhoneMetadata | None:
    if region == REGION_CODE_FOR_NON_GEO_ENTITY:
        return PhoneMetadata.metadata_for_nongeo_region(code)
    return PhoneMetadata.metadata_for_region(region)


def types_in_matching_order(plan: PhoneMetadata) -> tuple[tuple[int, PhoneNumberDesc | None], ...]:
    """Return the plan's number types in the order in which `phonenumbers` checks them. The first match wins."""
    return (
        (PhoneNumberType.PREMIUM_RATE, plan.premium_rate),
        (PhoneNumberType.TOLL_FREE, plan.toll_free),
        (PhoneNumberType.SHARED_COST, plan.shared_cost),
        (PhoneNumberType.VOIP, plan.voip),
        (PhoneNumberType.PERSONAL_NUMBER, plan.personal_number),
        (PhoneNumberType.PAGER, plan.pager),
        (PhoneNumberType.UAN, plan.uan),
        (PhoneNumberType.VOICEMAIL, plan.voicemail),
        (PhoneNumberType.FIXED_LINE, plan.fixed_line),
        (PhoneNumberType.MOBILE, plan.mobile),
    )


def _type_in(plan: PhoneMetadata, digits: str) -> int:
    """Return the type of a national number in a numbering plan."""
    if not _matches(plan.general_desc, digits):
        return PhoneNumberType.UNKNOWN
    for number_type, desc in types_in_matching_order(plan):
        if _matches(desc, digits):
            is_both = number_type == PhoneNumberType.FIXED_LINE and _matches(plan.mobile, digits)
            return PhoneNumberType.FIXED_LINE_OR_MOBILE if is_both else number_type
    return PhoneNumberType.UNKNOWN


def _matches(desc: PhoneNumberDesc | None, digits: str) -> bool:
    if desc is None or not desc.national_number_pattern:
        return False
    if desc.possible_length and len(digits) not in desc.possible_length:
        return False
    return _compiled(desc.national_number_pattern).fullmatch(digits) is not None


@cache  # at most the patterns of the installed numbering plans
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
