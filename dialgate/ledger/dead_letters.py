"""Messages of platforms and CRMs that are authentic, but could not be read or applied, in `dead-letters/` in the data folder.

They are acknowledged, so each is on the disk before: encrypted, in a file of its own. `dialgate webhook replay` applies them
once the cause is corrected. They can contain stops, so a full folder refuses further messages, which the platform then sends
again.
"""

from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Final

import msgspec
from msgspec import Struct

from dialgate.core.model import Instant
from dialgate.core.refusal import Refused
from dialgate.crypto.keys import Keys
from dialgate.crypto.nonces import nonces
from dialgate.runtime.atomic_write import sync_folder, write_file

_FOLDER: Final = "dead-letters"
_SUFFIX: Final = ".letter"
_MOST: Final = 10_000
_PURPOSE: Final = b"dead letter"


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A message, and why it could not be applied (`code`, `message`, `field`, as in an error)."""

    webhook: str
    controller: str
    received_at: Instant
    code: str
    message: str
    field: str = ""
    body: bytes
    query: str
    headers: dict[str, str]


_decode: Final = msgspec.msgpack.Decoder(DeadLetter).decode


class DeadLetters:
    """The messages that wait. Its methods block."""

    def __init__(self, data: Path, keys: Keys) -> None:
        self._folder, self._keys, self._nonces = data / _FOLDER, keys, nonces()

    def keep(self, letter: DeadLetter, name: str = "") -> None:
        """Write a message durably, or replace the one with this name. Raises `Refused` and `OSError`."""
        if not name:
            if self.count() >= _MOST:
                raise Refused(
                    "webhook.full",
                    f"{_MOST:,} messages wait to be replayed. Correct config/webhooks, and run `dialgate webhook replay`.",
                    status=503,
                )
            self._folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(self._folder.parent)
            name = f"{letter.received_at:013}-{token_hex(4)}"
        content = self._keys.letters.close(msgspec.msgpack.encode(letter), next(self._nonces), _PURPOSE)
        write_file(self._folder / f"{name}{_SUFFIX}", content)

    def read(self) -> Iterator[tuple[str, DeadLetter]]:
        """Yield the name of each message and the message, oldest first. Raises `KeysUnusable` and `OSError`."""
        for path in self._files():
            yield path.stem, _decode(self._keys.letters.open(path.read_bytes(), _PURPOSE))

    def remove(self, name: str) -> None:
        (self._folder / f"{name}{_SUFFIX}").unlink(missing_ok=True)

    def count(self) -> int:
        return len(self._files())

    def expire(self, before: Instant, *, drop: bool) -> int:
        """Return the number of messages received before an instant. With `drop`, remove them."""
        old = [path for path in self._files() if path.name < f"{before:013}"]
        for path in old if drop else ():
            path.unlink(missing_ok=True)
        return len(old)

    def _files(self) -> list[Path]:
        try:
            return sorted(path for path in self._folder.iterdir() if path.suffix == _SUFFIX)
        except FileNotFoundError:
            return []
