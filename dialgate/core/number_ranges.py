"""Ranges of telephone numbers that a numbering plan treats alike.

`phonenumbers` describes a plan by regular expressions, which examine only the first digits of most numbers. A range holds the
numbers with the same first digits and the same length, if each expression matches all or none of them. So one of them, parsed
slowly, gives the type, region and zones of all.

The expressions consist of digits, sets of digits, groups, alternatives and counts. `_Rest` is what one of them still has to
match: a sequence of sets of digits and of alternatives, which are sequences again.
"""

import re
from collections.abc import Iterable
from functools import cache
from typing import Final, TypeAlias

from dialgate.core import numbering_plan

_Rest: TypeAlias = tuple["str | tuple[_Rest, ...]", ...]
_State: TypeAlias = frozenset[_Rest]  # each begins with a set of digits, or is empty: a match

_DIGITS: Final = "0123456789"
_TOKEN: Final = re.compile(r"\\d|\[[\d-]+\]|\(\?:|\{[\d,]+\}|[\d()|?$]")
_DESCRIPTIONS: Final = (
    "general_desc", "premium_rate", "toll_free", "shared_cost", "voip", "personal_number", "pager", "uan", "voicemail",
    "fixed_line", "mobile",
)  # fmt: skip
_ANY: Final = r"\d{0,15}"


def range_of(digits: str, stems: frozenset[str], fewest: int) -> tuple[int, int] | None:
    """Return the first and the last number that all plans treat like `digits`, an E.164 number without its plus.

    None means that the number must be parsed by itself. The first digits of a range are at least `fewest`, and not in `stems`.
    """
    code = numbering_plan.calling_code(digits)
    if code is None:
        return None
    start, length = len(str(code)), len(digits)
    plans, trunk = _patterns(code, length - start)
    states, trunk_state = [_start(pattern) for pattern in plans], _start(trunk) - {()}
    for at, digit in enumerate(digits[start:], start + 1):
        states = [_after(state, digit) for state in states]
        trunk_state = _after(trunk_state, digit)
        left = length - at
        if () in trunk_state:  # `phonenumbers` may remove or replace these digits
            return None
        if at < fewest or trunk_state or digits[:at] in stems:
            continue
        if left and all(_matches(state, left) is not None for state in states):
            first = int(digits[:at]) * 10**left
            return first, first + 10**left - 1
    return None


@cache
def _patterns(code: int, length: int) -> tuple[tuple[str, ...], str]:
    """Return the expressions for national numbers of a length, and that of the trunk prefix."""
    plans = numbering_plan.plans(code)
    descs = [getattr(plan, name) for plan in plans for name in _DESCRIPTIONS]
    types = [
        desc.national_number_pattern
        for desc in descs
        if desc and desc.national_number_pattern and length in (desc.possible_length or (length,))
    ]
    leading = [f"(?:{plan.leading_digits}){_ANY}" for plan in plans if plan.leading_digits]
    return tuple(dict.fromkeys((*types, *leading))), plans[0].national_prefix_for_parsing or ""


@cache
def _start(pattern: str) -> _State:
    tokens = _TOKEN.findall(pattern)
    if "".join(tokens) != pattern:
        raise ValueError(f"{pattern}: not the grammar of a numbering plan")
    return _expanded((_alternatives(tokens[::-1]),))


def _alternatives(tokens: list[str]) -> tuple[_Rest, ...]:
    """Read the alternatives up to the closing bracket. `$` is ignored: without it, an expression matches more prefixes."""
    sequences: list[_Rest] = []
    items: list[str | tuple[_Rest, ...]] = []
    while tokens and (mark := tokens.pop()) != ")":
        if mark == "|":
            sequences.append(tuple(items))
            items = []
        elif mark == "?":
            items[-1] = ((items[-1],), ())
        elif mark[0] == "{":
            low, _, high = mark[1:-1].partition(",")
            item = items.pop()
            items += [item] * int(low) + [((item,), ())] * (int(high or low) - int(low))
        elif mark[0] == "(":
            items.append(_alternatives(tokens))
        elif mark != "$":
            items.append("".join(filter(re.compile(mark).match, _DIGITS)))
    return (*sequences, tuple(items))


@cache
def _expanded(rest: _Rest) -> _State:
    if not rest or isinstance(rest[0], str):
        return frozenset((rest,))
    return _union(_expanded((*sequence, *rest[1:])) for sequence in rest[0])


@cache
def _after(state: _State, digit: str) -> _State:
    return _union(_expanded(rest[1:]) for rest in state if rest and digit in rest[0])


def _union(states: Iterable[_State]) -> _State:
    return frozenset[_Rest]().union(*states)


@cache
def _matches(state: _State, left: int) -> bool | None:
    """Return whether all or none of the continuations with `left` digits match, or None if only some do."""
    if not state or not left:
        return () in state
    (answer, *others) = {_matches(_after(state, digit), left - 1) for digit in _DIGITS}
    return None if others else answer
