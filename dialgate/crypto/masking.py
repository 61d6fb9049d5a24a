"""The masking of called numbers in request fields, such as ids, file names and remarks.

The number is replaced before a field is stored, so that the number never reaches the disk unencrypted. There are two
replacements:

    [hidden:<16 hex digits>]   a keyed hash, equal for equal numbers, for ids and other fields that are compared
    [sealed:<base64url>]       the number encrypted with the ledger's key, for fields that must be shown unchanged

The meaning of both forms never changes. A new form needs a word other than `hidden` and `sealed`.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from msgspec import Struct, structs

from dialgate.crypto.keys import Keys, KeysUnusable
from dialgate.crypto.redaction import TAIL, digits_of, taken_out

S = TypeVar("S", bound=Struct)

_PHRASE = 256  # maximum length, see `model.Phrase`
_OTHER_BYTES = bytes(set(range(256)) - set(b"0123456789"))
_SEALED = re.compile(r"\[sealed:([A-Za-z0-9_-]+=*)\]")
# Names from the configuration, and a hash: they cannot contain the person's number.
_EXEMPT = frozenset(
    {"number", "controller", "campaign", "scope", "purposes", "call_types", "artefact_sha256"}
)
_COMPARED = frozenset({"id", "goods", "consent", "sector"})


class Masker:
    """The masker for one controller's texts. Different controllers get different masks for the same number."""

    def __init__(self, keys: Keys, controller: str) -> None:
        self._keys, self._controller = keys, controller

    def mask(self, value: S, number: str) -> S:
        """Return the struct with `number` (E.164) masked in its text fields."""
        changes = {
            name: self._field(name, getattr(value, name), number)
            for name in value.__struct_fields__
            if name not in _EXEMPT
        }
        return structs.replace(value, **changes)

    def unseal(self, value: Any) -> Any:
        """Return a text, mapping, sequence or struct with its sealed parts decrypted.

        The caller must record this access as a look-up.
        """
        return _replaced(value, self._unsealed)

    def text(self, text: str, number: str) -> str:
        return taken_out(text, number, self._seal)

    def many(self, text: str) -> Callable[[str], str]:
        """Return a function that takes a number and returns `text` with that number masked.

        With many numbers, the returned function is faster than `Masker.text`.
        """
        digits = digits_of(text)
        return lambda number: self.text(text, number) if number[-TAIL:] in digits else text

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
    return _replaced(value, lambda _: "•••")


def _replaced(value: Any, by: Callable[[re.Match[str]], str]) -> Any:
    if isinstance(value, str):
        return _SEALED.sub(by, value) if "[sealed:" in value else value
    if isinstance(value, Struct):
        return structs.replace(
            value, **{n: _replaced(getattr(value, n), by) for n in value.__struct_fields__}
        )
    if isinstance(value, dict):
        return {name: _replaced(item, by) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_replaced(item, by) for item in value)
    return value


def may_contain(texts: Iterable[str], number: str) -> bool:
    """Return False only if the texts certainly do not contain the number.

    This is faster than masking, and makes masking unnecessary for most rows of a file.
    """
    whole_text = "".join(texts)
    if not whole_text.isascii():
        return number[-TAIL:] in digits_of(whole_text)
    return number[-TAIL:].encode() in whole_text.encode().translate(None, _OTHER_BYTES)
