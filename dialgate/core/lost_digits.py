"""Telephone numbers that lost a zero or a plus in a spreadsheet.

Excel stores `0331 234567` as the number 331234567, which is also a mobile number. In Italy and a few other countries the
leading zero belongs to the number, so both are different subscribers.
"""

from collections.abc import Iterator
from contextlib import suppress

from dialgate.core import phone
from dialgate.core.numbering_plan import country_code, example_number


def has_zero_numbers(home: str) -> bool:
    """Return whether a leading zero belongs to the numbers of one of the regions in `home`."""
    return any(
        example_number(region, mobile=mobile).startswith("0")
        for region in home.split()
        for mobile in (False, True)
    )


def is_international(digits: str, home: str) -> bool:
    """Return whether digits without a plus are a complete international number and have no other reading."""
    return _as_written(digits, home) == f"+{digits}" and not with_zero(digits, home)


def with_zero(digits: str, home: str) -> frozenset[str]:
    """Return the E.164 numbers that the digits mean if a leading zero, which belongs to the number, is missing."""
    return frozenset(_valid(f"+{country_code(region)}0{digits}" for region in home.split()))


def surely_lost_zero(digits: str, home: str) -> bool:
    """Return whether the digits are a number only with a zero, or a mobile number of an unusual length without it.

    Ten digits such as 3311234567 are an Italian mobile, although 0331 and seven digits are a possible landline.
    """
    if not with_zero(digits, home):
        return False
    written = _as_written(digits, home)
    usual = {len(example_number(region, mobile=True)) for region in home.split()}
    return not written or (written != f"+{digits}" and len(digits) not in usual)


def readings(digits: str, home: str) -> frozenset[str]:
    """Return every E.164 number that the digits mean if a zero, a plus or nothing is missing."""
    written = (_as_written(digits, region) for region in home.split())
    national = (f"+{country_code(region)}{digits}" for region in home.split())
    return frozenset(filter(None, written)) | set(_valid((f"+{digits}", *national))) | with_zero(digits, home)


def other_zeros(digits: str, home: str) -> frozenset[str]:
    """Return the E.164 numbers that digits with a country code of `home` mean with one zero more or less after it."""
    return frozenset(
        _valid(
            f"+{code}{national}"
            for code in {str(country_code(region)) for region in home.split()}
            if digits.startswith(code)
            for rest in (digits.removeprefix(code),)
            for national in (f"0{rest}", rest.removeprefix("0"))
        )
    )


def _as_written(digits: str, home: str) -> str:
    with suppress(phone.NotANumber):
        return phone.parse(digits, home).e164
    return ""


def _valid(candidates: "Iterator[str] | tuple[str, ...]") -> Iterator[str]:
    for e164 in candidates:
        with suppress(phone.NotANumber):
            if phone.find(e164):
                yield e164
