"""The processor time to parse a called number, with numbers of all countries in turn and of one country."""

import random
import time
from collections.abc import Collection, Iterator, Sequence

import phonenumbers
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from dialgate.core import phone
from tests.bench import Figure

_ONE_COUNTRY = ("GB",)


def run(rounds: int = 20) -> Iterator[Figure]:
    one = _milliseconds(_examples(_ONE_COUNTRY), rounds * 100)
    every = _milliseconds(_examples(phonenumbers.SUPPORTED_REGIONS), rounds)
    yield Figure("numbers.all_countries", every, "ms", baseline=one, ratio=round(every / one, 2))


def _examples(regions: Collection[str]) -> list[str]:
    found = {
        phonenumbers.format_number(example, PhoneNumberFormat.E164)
        for region in regions
        for kind in (PhoneNumberType.FIXED_LINE, PhoneNumberType.MOBILE)
        if (example := phonenumbers.example_number_for_type(region, kind)) is not None
    }
    numbers = sorted(found)
    random.Random(1).shuffle(numbers)
    return numbers


def _milliseconds(numbers: Sequence[str], rounds: int) -> float:
    _parse(numbers)  # compile the patterns
    begun = time.process_time()
    for _ in range(rounds):
        _parse(numbers)
    return round((time.process_time() - begun) * 1e3 / rounds / len(numbers), 4)


def _parse(numbers: Sequence[str]) -> None:
    for number in numbers:
        phone.parse(number)
