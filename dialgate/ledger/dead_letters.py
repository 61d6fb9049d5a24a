"""Messages of platforms and CRMs that are authentic, but could not be read or applied, in `dead-letters/` in the data folder.

They are acknowledged, so each is on the disk before: encrypted, in a file of its own. `dialgate webhook replay` applies them
once the cause is corrected. They can contain stops, so a full folder refuses further messages, which the platform then sends
again.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Final
from urllib.parse import unquote_plus

import msgspec
from msgspec import Struct, structs

from dialgate.core import phone
from dialgate.core.model import Instant
from dialgate.core.numbering_plan import country_code
from dialgate.core.refusal import Refused
from dialgate.crypto import masking
from dialgate.crypto.keys import Keys, KeysUnusable
from dialgate.crypto.nonces import nonces
from dialgate.runtime.atomic_write import sync_folder, write_file

_FOLDER: Final = "dead-letters"
_SUFFIX: Final = ".letter"
_PREFIX: Final = len("1764672972000-0a1b2c3d")  # of a name, before the webhook's
_MOST: Final = 10_000  # of each webhook
_PURPOSE: Final = b"dead letter"


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A message, and why it could not be applied (`code`, `message`, `field`, as in an error).

    `of_one` says that it is about one person. A message that cannot be decrypted has no controller.
    """

    webhook: str
    controller: str
    received_at: Instant
    code: str
    message: str
    field: str = ""
    body: bytes
    query: str
    headers: dict[str, str]
    of_one: bool = False

    @property
    def text(self) -> str:
        return unquote_plus(f"{self.query}\n{self.body.decode(errors='replace')}")

    def numbers(self, regions: str, besides: str = "") -> set[str]:
        """Return what can be read as a number (E.164), without other forms of `besides`. `regions` are those of `phone.parse`."""
        found = set()
        for match in _NUMBER.finditer(self.text):
            if not (besides and masking.contains(match[0], besides)):
                codes = (f"+{country_code(region)}" for region in regions.split() if match[0][0] != "+")
                for written in (match[0], *(code + match[0] for code in codes)):
                    with suppress(phone.NotANumber):
                        found.add(phone.parse(written, regions).e164)
        return found


_NUMBER: Final = re.compile(r"(?<!\w)\+?[0-9](?:[ ./()-]{0,2}[0-9]){5,14}(?!\w)")
_decode: Final = msgspec.msgpack.Decoder(DeadLetter).decode


class DeadLetters:
    """The messages that wait. Its methods block."""

    def __init__(self, data: Path, keys: Keys) -> None:
        self._folder, self._keys, self._nonces = data / _FOLDER, keys, nonces()

    def keep(self, letter: DeadLetter, name: str = "") -> None:
        """Write a message durably, or replace the one with this name. Raises `Refused` and `OSError`."""
        if not name:
            of_webhook = f"-{letter.webhook}"
            if sum(path.stem[_PREFIX:] == of_webhook for path in self._files()) >= _MOST:
                raise Refused(
                    "webhook.full",
                    f"{_MOST:,} messages of this webhook wait to be replayed. Correct config/webhooks, and run `dialgate webhook replay`.",
                    status=503,
                )
            self._folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(self._folder.parent)
            name = f"{letter.received_at:013}-{token_hex(4)}{of_webhook}"
        content = self._keys.letters.close(msgspec.msgpack.encode(letter), next(self._nonces), _PURPOSE)
        write_file(self._folder / f"{name}{_SUFFIX}", content)

    def read(self) -> Iterator[tuple[str, DeadLetter]]:
        """Yield the name of each message and the message, oldest first. Raises `OSError`."""
        for path in self._files():
            with suppress(FileNotFoundError):  # applied or erased meanwhile
                yield path.stem, self._read(path)

    def _read(self, path: Path) -> DeadLetter:
        try:
            return _decode(self._keys.letters.open(path.read_bytes(), _PURPOSE))
        except (KeysUnusable, msgspec.MsgspecError):
            return DeadLetter(
                webhook=path.stem[_PREFIX + 1 :],
                controller="",
                received_at=int(path.stem.partition("-")[0]),
                code="webhook.unreadable",
                message="The message cannot be decrypted. Ask the platform for it, and drop it here.",
                body=b"",
                query="",
                headers={},
            )

    def about(self, controller: str, number: str, regions: str) -> Iterator[tuple[str, DeadLetter]]:
        """Yield the controller's messages that contain a number (E.164). Raises `OSError`.

        Those with another number, too, are not `of_one`: there may be a stop of another person in them.
        """
        for name, letter in self.read():
            if letter.controller == controller and masking.contains(letter.text, number):
                is_alone = letter.of_one and not letter.numbers(regions, besides=number)
                yield name, structs.replace(letter, of_one=is_alone)

    def erase(self, controller: str, number: str, regions: str) -> None:
        """Remove the messages about this person only. Raises `OSError`."""
        for name, letter in self.about(controller, number, regions):
            if letter.of_one:
                self.remove(name)

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
