"""The called number where none belongs: in an id, a file's name, a remark that somebody enters beside it.

Such a text is stored with the number taken out, so that no clear number ever reaches the disk, and none is left in a free
page after an erasure. In its place stands one of

    [hidden:<16 hex digits>]   a keyed hash, in ids and other words that are compared: the same number, the same hash
    [sealed:<base64url>]       its ciphertext under the ledger's key, in texts that must be shown again as they were

How it may change: what stands in brackets keeps its meaning; another kind gets another word.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from msgspec import Struct, structs

from dialgate.crypto.keys import Keys, KeysUnusable
from dialgate.crypto.redaction import TAIL, digits_of, taken_out

S = TypeVar("S", bound=Struct)

_PHRASE = 256  # the end of a stored phrase, see `model.Phrase`
_OTHER_BYTES = bytes(set(range(256)) - set(b"0123456789"))
_SEALED = re.compile(r"\[sealed:([A-Za-z0-9_-]+=*)\]")
# Names of our own configuration, and a sum: none of them can be the person's number.
_EXEMPT = frozenset(
    {"number", "controller", "campaign", "scope", "sector", "purposes", "call_types", "artefact_sha256"}
)
_COMPARED = frozenset({"id", "goods", "consent"})


class Masker:
    """Of one controller, so that the same number does not look the same in another's entries."""

    def __init__(self, keys: Keys, controller: str) -> None:
        self._keys, self._controller = keys, controller

    def masked(self, value: S, number: str) -> S:
        """The same struct with `number` (E.164) taken out of its texts."""
        changes = {
            name: self._field(name, getattr(value, name), number)
            for name in value.__struct_fields__
            if name not in _EXEMPT
        }
        return structs.replace(value, **changes)

    def shown(self, value: Any) -> Any:
        """The same text, mapping, sequence or struct with what was sealed in the clear: for a reading that is recorded."""
        return _replaced(value, self._unsealed)

    def text(self, text: str, number: str) -> str:
        return taken_out(text, number, self._seal)

    def many(self, text: str) -> Callable[[str], str]:
        """`text` for one number after another."""
        digits = digits_of(text)
        return lambda number: self.text(text, number) if number[-TAIL:] in digits else text

    def _field(self, name: str, value: Any, number: str) -> Any:
        if isinstance(value, str):
            return taken_out(value, number, self._hide if name in _COMPARED else self._seal)
        if isinstance(value, tuple) and name in _COMPARED:
            return tuple(taken_out(item, number, self._hide) for item in value)
        if isinstance(value, Struct):  # an origin: its phrases have an end, also when they are read
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
        # The nonce comes from the text, so that a repeated entry is stored the same; no two texts share one.
        nonce = self._keys.named(self._controller, b"text " + fragment.encode())[:12]
        box = self._keys.ledger.seal(f"{self._controller}\0{fragment}", nonce)
        return f"[sealed:{urlsafe_b64encode(box).decode()}]"

    def _unsealed(self, match: re.Match[str]) -> str:
        """As it stands where it does not open, or is another controller's: somebody typed it."""
        try:
            owner, _, fragment = self._keys.ledger.unseal(urlsafe_b64decode(match[1])).partition("\0")
        except (KeysUnusable, ValueError):
            return match[0]
        return fragment if owner == self._controller else match[0]


def covered(value: Any) -> Any:
    """As `Masker.shown`, with a mark for what was sealed: for who may see the rest."""
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


def may_stand_in(texts: Iterable[str], number: str) -> bool:
    """False where none of these texts names it: most rows of a file are clean, and one look at all of a row says so."""
    whole_text = "".join(texts)
    if not whole_text.isascii():
        return number[-TAIL:] in digits_of(whole_text)
    return number[-TAIL:].encode() in whole_text.encode().translate(None, _OTHER_BYTES)
