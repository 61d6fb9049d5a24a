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
    rest = text.replace(number.removeprefix("+"), "#")
    if len(rest) > _FEWEST:  # a shorter rest, as of an id made of the number, holds no other number
        rest = blanked(text)
    return "#" if len(rest) >= TAIL and _holds(rest, tail) else rest


def without_raw(text: str, raw: str) -> str:
    """The same for a number that cannot be read: any seven of its digits in a row give it away."""
    own, digits = digits_of(raw), digits_of(text)
    if not any(own[at : at + TAIL] in digits for at in range(len(own) - TAIL + 1)):
        return text
    rest = blanked(text)
    return "#" if len(digits_of(rest)) >= TAIL else rest


def taken_out(text: str, number: str, by: Callable[[str], str]) -> str:
    """Replace what names `number`, and nothing else. `by` receives the text to replace."""
    tail = number[-TAIL:]
    if len(text) < TAIL or not tail or not _holds(text, tail):
        return text
    rest = _replaced(text, _FRAGMENT, by, lambda run: tail in run)
    return rest if rest is not text else _replaced(text, _RUN, by, lambda run: tail in run)


def readings(text: str) -> Iterator[str]:
    """Yield what may be a number in a text: neighbouring groups of digits, joined."""
    for run in _RUN.finditer(text if text.isascii() else _folded(text)):
        groups = re.findall("[0-9]+", run[0])
        for first in range(len(groups)):
            reading = ""
            for group in groups[first:]:
                reading += group
                if len(reading) > _MOST:
                    break
                if len(reading) >= _FEWEST:
                    yield reading


def _replaced(
    text: str, run: re.Pattern[str], by: Callable[[str], str], is_match: Callable[[str], bool]
) -> str:
    """Replace each match of `run` for whose digits `is_match` holds."""
    plain = text if text.isascii() else _folded(text)
    parts: list[str] = []
    end = 0
    for match in run.finditer(plain):
        if is_match(digits(match[0])):
            parts += text[end : match.start()], by(text[match.start() : match.end()])
            end = match.end()
    return "".join((*parts, text[end:])) if parts else text


def _folded(text: str) -> str:
    """The same text, character by character, with every digit as one of 0 to 9."""
    return "".join(
        str(unicodedata.digit(character)) if character.isdigit() else character for character in text
    )


def _holds(text: str, tail: str) -> bool:
    return tail in text or (len(text) >= len(tail) and tail in digits_of(text))
