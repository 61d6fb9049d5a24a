"""Numbers in texts: everything that finds, blanks, masks or seals a telephone number.

The digits of one number may be separated by spaces, dots, dashes, slashes, brackets, plus signs or zero-width
characters, and may be from other scripts. Only this module defines these rules.

A called number in a request's fields, such as ids, file names and remarks, is replaced before the field is stored, so that
it never reaches the disk unencrypted. There are two replacements:

    [hidden:<16 hex digits>]   a keyed hash, equal for equal numbers, for ids and other fields that are compared
    [sealed:<base64url>]       the number encrypted with the ledger's key, for fields that must be shown unchanged

The meaning of both forms never changes. A new form needs a word other than `hidden` and `sealed`.
"""

import re
import unicodedata
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

from msgspec import Struct, structs

from dialgate.core import phone
from dialgate.crypto.keys import Keys, KeysUnusable

S = TypeVar("S", bound=Struct)

_PHRASE = 256  # maximum length, see `model.Phrase`
_OTHER_BYTES = bytes(set(range(256)) - set(b"0123456789\n"))
_SEALED = re.compile(r"\[sealed:([A-Za-z0-9_-]+=*)\]")
# Names from the configuration, and a hash: they cannot contain the person's number.
EXEMPT = frozenset({"number", "controller", "campaign", "scope", "purposes", "call_types", "artefact_sha256"})
_COMPARED = frozenset({"id", "goods", "consent", "sector"})

TAIL = 7  # the last digits of a number, which identify it with any prefix
_FEWEST = 6  # digits of a person's shortest possible number
_MOST = 17  # digits of the longest number in E.164, after 00
_NOT_DIGITS = bytes(set(range(256)) - set(b"0123456789"))
_RUN = re.compile(r"\+?[0-9](?:[\W_]*[0-9])*")
_LONG_RUN = re.compile(rf"\+?[0-9](?:[\W_]*+[0-9]){{{_FEWEST - 1},}}+")
_UNSEPARATED = re.compile(rf"\d{{{TAIL},}}")
_SHORTEST_SHOWN = 8  # a shorter number would be shown nearly whole
# Older entries contain keyed hashes of fragments found by this pattern; the same text must give the same hash.
_FRAGMENT = re.compile(r"[0-9](?:[^0-9A-Za-z]{0,3}[0-9])*")


def digits_of(text: str) -> str:
    """Return the digits of a text, with digits from other scripts converted to 0 to 9."""
    plain = text if text.isascii() else _fold_digits(text)
    return plain.encode("ascii", "ignore").translate(None, _NOT_DIGITS).decode()


def blank_numbers(text: str, mark: str = "#", fewest: int = _FEWEST) -> str:
    """Replace each run of at least `fewest` digits with `mark`."""
    if fewest == _FEWEST and text.isascii():  # fast path: many call ids contain the called number
        return _LONG_RUN.sub(mark, text)
    return _replaced(text, _RUN, lambda _: mark, lambda run: len(run) >= fewest)


def blank_logged(text: str) -> str:
    """Replace what may be a number in a line of the service log. Shorter runs may be ports, sizes or line numbers."""
    return blank_numbers(text, "<number>", TAIL)


def blank_unseparated(name: str) -> str:
    """Replace seven digits or more without a separator, which an address such as `10.0.0.12:5060` does not have."""
    return _UNSEPARATED.sub("…", name)


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
    if len(text) < TAIL or not (tail := number[-TAIL:]) or not _holds(text, tail):
        return text
    rest = _replaced(text, _FRAGMENT, by, lambda run: tail in run)
    return rest if rest is not text else _replaced(text, _RUN, by, lambda run: tail in run)


def mask_number(number: str) -> str:
    """Hide all digits of an E.164 number except the first two and the last two. Hide any other text completely.

    For users who may see that a call was made, but not to whom.
    """
    if len(number) < _SHORTEST_SHOWN or not number.startswith("+"):
        return "•••"
    return f"{number[:3]} {'•' * (len(number) - 5)}{number[-2:]}"


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


def contains(text: str, number: str) -> bool:
    """Return whether a text contains a number (E.164), with or without its country code."""
    national = phone.national(number)
    if not _holds(text, national[-TAIL:]):
        return False
    code = number.removeprefix("+").removesuffix(national).rstrip("0")
    found = (reading for reading in readings(text) if reading.endswith(national))
    return any(reading.removesuffix(national).strip("0") in {"", code.lstrip("0")} for reading in found)


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
        if is_match(digits_of(match[0])):
            parts += text[end : match.start()], by(text[match.start() : match.end()])
            end = match.end()
    return "".join((*parts, text[end:])) if parts else text


def _fold_digits(text: str) -> str:
    """Return the text with every Unicode digit replaced by the ASCII digit. The length stays the same."""
    return "".join(
        str(unicodedata.digit(character)) if character.isdigit() else character for character in text
    )


@cache
def _masked_fields(kind: type[Struct]) -> list[str]:
    return [name for name in kind.__struct_fields__ if name not in EXEMPT]


def _holds(text: str, tail: str) -> bool:
    return tail in text or (len(text) >= len(tail) and tail in digits_of(text))


class Masker:
    """The masker for one controller's texts. Different controllers get different masks for the same number."""

    def __init__(self, keys: Keys, controller: str) -> None:
        self._keys, self._controller = keys, controller

    def mask(self, value: S, number: str) -> S:
        """Return the struct with `number` (E.164) masked in its text fields."""
        changes: dict[str, Any] = {}
        for name in _masked_fields(type(value)):
            field = getattr(value, name)
            if field and (masked := self._field(name, field, number)) != field:
                changes[name] = masked
        return structs.replace(value, **changes) if changes else value

    def unseal(self, value: Any) -> Any:
        """Return a text, mapping, sequence or struct with its sealed parts decrypted.

        The caller must record this access as a look-up.
        """
        return _with_sealed(value, self._unsealed)

    def text(self, text: str, number: str) -> str:
        return taken_out(text, number, self._seal)

    def seal(self, text: str) -> str:
        """Return a whole text in its sealed form, or "" if it is empty."""
        return self._seal(text) if text else ""

    def _field(self, name: str, value: Any, number: str) -> Any:
        if isinstance(value, str):
            return taken_out(value, number, self._hide if name in _COMPARED else self._seal)
        if isinstance(value, tuple) and name in _COMPARED:
            return tuple(taken_out(item, number, self._hide) for item in value)
        if isinstance(value, Struct):  # an origin: its phrases have a maximum length
            return self._phrases(value, number)
        return value

    def _phrases(self, value: S, number: str) -> S:
        changes: dict[str, Any] = {}
        for name in value.__struct_fields__:
            texts = getattr(value, name)
            if isinstance(texts, str):
                changes[name] = taken_out(texts, number, self._hide)[:_PHRASE]
            elif isinstance(texts, tuple):
                changes[name] = tuple(self._phrases(text, number) for text in texts)
        return structs.replace(value, **changes)

    def _hide(self, fragment: str) -> str:
        return f"[hidden:{self._keys.named(self._controller, b'word ' + fragment.encode())[:8].hex()}]"

    def _seal(self, fragment: str) -> str:
        # The nonce is derived from the text: a repeated entry is stored identically, and different texts have different nonces.
        nonce = self._keys.named(self._controller, b"text " + fragment.encode())[:12]
        box = self._keys.ledger.seal(f"{self._controller}\0{fragment}", nonce)
        return f"[sealed:{urlsafe_b64encode(box).decode()}]"

    def _unsealed(self, match: re.Match[str]) -> str:
        """Return the clear text of a sealed part, or the part itself if it is damaged or belongs to another controller."""
        try:
            owner, _, fragment = self._keys.ledger.unseal(urlsafe_b64decode(match[1])).partition("\0")
        except (KeysUnusable, ValueError):
            return match[0]
        return fragment if owner == self._controller else match[0]


def covered(value: Any) -> Any:
    """Return the value with a placeholder for each sealed part, so that no called number is shown."""
    return _with_sealed(value, lambda _: "•••")


def _with_sealed(value: Any, by: Callable[[re.Match[str]], str]) -> Any:
    if isinstance(value, str):
        return _SEALED.sub(by, value) if "[sealed:" in value else value
    if isinstance(value, Struct):
        return structs.replace(
            value, **{n: _with_sealed(getattr(value, n), by) for n in value.__struct_fields__}
        )
    if isinstance(value, dict):
        return {name: _with_sealed(item, by) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_with_sealed(item, by) for item in value)
    return value


def may_contain(texts: Sequence[str], numbers: Sequence[str]) -> list[int]:
    """Return the positions of all texts that may contain the number at the same position.

    This is faster than masking, and makes masking unnecessary for most rows of a file.
    """
    distinct = list(set(texts))
    joined = "\n".join(distinct)
    if joined.isascii() and joined.count("\n") == len(distinct) - 1:
        found = joined.encode().translate(None, _OTHER_BYTES).decode().split("\n")
    else:
        found = [digits_of(text) for text in distinct]
    if max(map(len, found), default=0) < TAIL <= min(map(len, numbers), default=0):
        return []
    digits = dict(zip(distinct, found, strict=True))
    return [at for at, text in enumerate(texts) if numbers[at][-TAIL:] in digits[text]]
