"""Comparison of the ranges of `dialgate.core.phone` with `phonenumbers`, including refusals.

Half of the numbers cover every five-digit prefix of Italy at every length from 4 to 15 digits. The numbering plan of
Italy does not depend on later digits, so 2,400,000 numbers cover the whole plan in the installed metadata. The other
half are one small change away from a valid number of any country.
"""

import random
from collections.abc import Callable, Iterator

import phonenumbers

from dialgate.core import phone
from dialgate.core.phone import NotANumber, Parsed, _exactly, _fast

_BEGINNINGS = 100_000
_LENGTHS = range(4, 16)
_STRIDE = 61_803  # coprime to the number of beginnings, so that a short run samples all of them


def disagreements(count: int, seed: int) -> list[str]:
    """Compare the paths on `count` numbers. Return a line for each difference, with the last digits masked."""
    found = []
    for raw in _made_numbers(count, random.Random(seed)):
        fast, slow = _try_parse(_fast, raw), _try_parse(_exactly, raw)
        if fast != slow:
            found.append(f"{raw[:8]:•<{len(raw)}}: fast {_render_parsed(fast)}, slow {_render_parsed(slow)}")
    return found


def _try_parse(parse: Callable[[str], Parsed | None], raw: str) -> Parsed | str | None:
    try:
        return parse(raw)
    except NotANumber as problem:
        return str(problem)


def _render_parsed(parsed: Parsed | str | None) -> str:
    if isinstance(parsed, str):
        return parsed
    return f"{parsed.kind} {parsed.region} {'+'.join(parsed.zones)}" if parsed else "refused"


def _made_numbers(count: int, rng: random.Random) -> Iterator[str]:
    start = rng.randrange(_BEGINNINGS * len(_LENGTHS))
    valid = _examples()
    for step in range(start, start + count // 2):
        yield _swept(step, rng)
        place = rng.randrange(len(valid))
        changed = _change_digit(valid[place], rng)
        yield changed
        if isinstance(_try_parse(_fast, changed), Parsed):
            valid[place] = changed


def _swept(step: int, rng: random.Random) -> str:
    turn, length = divmod(step, len(_LENGTHS))
    beginning = f"{turn * _STRIDE % _BEGINNINGS:05d}"
    return "+39" + (beginning + f"{rng.randrange(10**10):010d}")[: _LENGTHS[length]]


def _examples() -> list[str]:
    """Return example numbers of each type in each country, and of prefixes with special rules."""
    examples = (
        phonenumbers.example_number_for_type(region, number_type)
        for region in sorted(phone.COUNTRIES)
        for number_type in phonenumbers.PhoneNumberType.values()
    )
    written = [
        phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        for number in examples
        if number
    ]
    special = ["+390549886377", "+3906698123", "+390878123", "+390844123456", "+390843123456"]
    return [*written, *special * 50]


def _change_digit(e164: str, rng: random.Random) -> str:
    """Return the number with one digit, mostly an early one, removed, inserted, or changed by one."""
    digits = e164[3:]
    place = min(rng.randrange(len(digits)), rng.randrange(len(digits)))
    match rng.randrange(4):
        case 0:
            digits = digits[:place] + digits[place + 1 :]
        case 1:
            digits = digits[:place] + rng.choice("0123456789") + digits[place:]
        case _:
            near = (int(digits[place]) + rng.choice((-1, 1))) % 10
            digits = f"{digits[:place]}{near}{digits[place + 1 :]}"
    return (e164[:3] + digits)[:16]
