"""Telephone numbers in free text: how they may be written, and how they are blanked.

People and programs part the digits of a number by blanks, dots, dashes, slashes, brackets, a plus or signs of no width, and
write digits of other scripts. All of this is one run here. Pure, and the only place that knows these rules.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator

from dialgate.native import digits

TAIL = 7  # digits at the end of a number that identify it, whatever is written before them
_FEWEST = 6  # digits of the shortest number that belongs to a person
_MOST = 17  # digits: the longest number of E.164, behind 00
_RUN = re.compile(r"\+?[0-9](?:[\W_]*[0-9])*")
_LONG_RUN = re.compile(rf"\+?[0-9](?:[\W_]*+[0-9]){{{_FEWEST - 1},}}+")
# Older entries hold keyed hashes of fragments that were cut like this; the same text must give the same hash.
_FRAGMENT = re.compile(r"[0-9](?:[^0-9A-Za-z]{0,3}[0-9])*")


def digits_of(text: str) -> str:
    """Return the digits of a text as 0 to 9, those of other scripts included."""
    return digits(text if text.isascii() else _folded(text))


def blanked(text: str, mark: str = "#", fewest: int = _FEWEST) -> str:
    """Replace each run of `fewest` digits or more by `mark`."""
    if (
        fewest == _FEWEST and text.isascii()
    ):  # a call id often holds the number, so this is in the path of the call
        return _LONG_RUN.sub(mark, text)
    return _replaced(text, _RUN, lambda _: mark, lambda run: len(run) >= fewest)


def without(text: str, number: str) -> str:
    """Blank the text's numbers if it gives `number` away. Return it unchanged if not, so that ids stay what they were."""
    tail = number[-TAIL:]
    if not tail or not _holds(text, tail):
        return text
    left = text.replace(number.removeprefix("+"), "#")
    if len(left) > _FEWEST:  # a shorter rest, as of an id made of the number, holds no other number
        left = blanked(text)
    return "#" if len(left) >= TAIL and _holds(left, tail) else left


def without_raw(text: str, raw: str) -> str:
    """The same for a number that cannot be read: any seven of its digits in a row give it away."""
    own, held = digits_of(raw), digits_of(text)
    if not any(own[at : at + TAIL] in held for at in range(len(own) - TAIL + 1)):
        return text
    left = blanked(text)
    return "#" if len(digits_of(left)) >= TAIL else left


def taken_out(text: str, number: str, by: Callable[[str], str]) -> str:
    """Replace what names `number`, and nothing else. `by` receives the text to replace."""
    tail = number[-TAIL:]
    if len(text) < TAIL or not tail or not _holds(text, tail):
        return text
    left = _replaced(text, _FRAGMENT, by, lambda run: tail in run)
    return left if left is not text else _replaced(text, _RUN, by, lambda run: tail in run)


def readings(text: str) -> Iterator[str]:
    """Yield what may be a number in a text: neighbouring groups of digits, joined."""
    for run in _RUN.finditer(text if text.isascii() else _folded(text)):
        groups = re.findall("[0-9]+", run[0])
        for first in range(len(groups)):
            joined = ""
            for group in groups[first:]:
                joined += group
                if len(joined) > _MOST:
                    break
                if len(joined) >= _FEWEST:
                    yield joined


def _replaced(
    text: str, run: re.Pattern[str], by: Callable[[str], str], wanted: Callable[[str], bool]
) -> str:
    """Replace each match of `run` whose digits are `wanted`."""
    plain = text if text.isascii() else _folded(text)
    parts: list[str] = []
    done = 0
    for found in run.finditer(plain):
        if wanted(digits(found[0])):
            parts += text[done : found.start()], by(text[found.start() : found.end()])
            done = found.end()
    return "".join((*parts, text[done:])) if parts else text


def _folded(text: str) -> str:
    """The same text, character by character, with every digit as one of 0 to 9."""
    return "".join(str(unicodedata.digit(each)) if each.isdigit() else each for each in text)


def _holds(text: str, tail: str) -> bool:
    return tail in text or (len(text) >= len(tail) and tail in digits_of(text))
