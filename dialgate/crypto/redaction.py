"""Functions that find and remove telephone numbers in free text.

The digits of one number may be separated by spaces, dots, dashes, slashes, brackets, plus signs or zero-width
characters, and may be from other scripts. Only this module defines these rules.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator

from dialgate.native import digits

TAIL = 7  # the last digits of a number, which identify it with any prefix
_FEWEST = 6  # digits of a person's shortest possible number
_MOST = 17  # digits of the longest number in E.164, after 00
_RUN = re.compile(r"\+?[0-9](?:[\W_]*[0-9])*")
_LONG_RUN = re.compile(rf"\+?[0-9](?:[\W_]*+[0-9]){{{_FEWEST - 1},}}+")
# Older entries contain keyed hashes of fragments found by this pattern; the same text must give the same hash.
_FRAGMENT = re.compile(r"[0-9](?:[^0-9A-Za-z]{0,3}[0-9])*")


def digits_of(text: str) -> str:
    """Return the digits of a text, with digits from other scripts converted to 0 to 9."""
    return digits(text if text.isascii() else _fold_digits(text))


def blank_numbers(text: str, mark: str = "#", fewest: int = _FEWEST) -> str:
    """Replace each run of at least `fewest` digits with `mark`."""
    if fewest == _FEWEST and text.isascii():  # fast path: many call ids contain the called number
        return _LONG_RUN.sub(mark, text)
    return _replaced(text, _RUN, lambda _: mark, lambda run: len(run) >= fewest)


def without(text: str, number: str) -> str:
    """Replace every number in a text with `#` if the text contains `number`.

    Otherwise return the text unchanged, so that a call id without the number can still be found in the log.
    """
    tail = number[-TAIL:]
    if not tail or not _holds(text, tail):
        return text
    rest = text.replace(number.removeprefix("+"), "#")
    if len(rest) > _FEWEST:  # a shorter rest contains no other number
        rest = blank_numbers(text)
    return "#" if len(rest) >= TAIL and _holds(rest, tail) else rest


def without_raw(text: str, raw: str) -> str:
    """Do the same as `without`, for a called number `raw` that cannot be parsed.

    The text counts as containing the number if it contains any seven consecutive digits of `raw`.
    """
    own, digits = digits_of(raw), digits_of(text)
    if not any(own[at : at + TAIL] in digits for at in range(len(own) - TAIL + 1)):
        return text
    rest = blank_numbers(text)
    return "#" if len(digits_of(rest)) >= TAIL else rest


def taken_out(text: str, number: str, by: Callable[[str], str]) -> str:
    """Replace each occurrence of `number` in a text. `by` returns the replacement for a matching fragment."""
    tail = number[-TAIL:]
    if len(text) < TAIL or not tail or not _holds(text, tail):
        return text
    rest = _replaced(text, _FRAGMENT, by, lambda run: tail in run)
    return rest if rest is not text else _replaced(text, _RUN, by, lambda run: tail in run)


def readings(text: str) -> Iterator[str]:
    """Yield each possible number in a text, joined from neighbouring groups of digits."""
    for run in _RUN.finditer(text if text.isascii() else _fold_digits(text)):
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
    """Replace each match of the pattern `run` if `is_match` accepts its digits.

    `by` receives the matching part of the text and returns the replacement.
    """
    plain = text if text.isascii() else _fold_digits(text)
    parts: list[str] = []
    end = 0
    for match in run.finditer(plain):
        if is_match(digits(match[0])):
            parts += text[end : match.start()], by(text[match.start() : match.end()])
            end = match.end()
    return "".join((*parts, text[end:])) if parts else text


def _fold_digits(text: str) -> str:
    """Return the text with every Unicode digit replaced by the ASCII digit. The length stays the same."""
    return "".join(
        str(unicodedata.digit(character)) if character.isdigit() else character for character in text
    )


def _holds(text: str, tail: str) -> bool:
    return tail in text or (len(text) >= len(tail) and tail in digits_of(text))
