"""Legal holds: numbers whose decisions must stay linked to them although their month is retired.

One JSON object, mode 0600, always replaced whole:

    {"format":1,"holds":[{"id":1,"at":<ms>,"by":"…","reason":"…","number":"<sealed, base64>","records":["9f2c01ab-17"]},
                         {"id":2,"at":<ms>,"by":"…","reason":"…","lifted_at":<ms>,"lifted_by":"…","lifted_because":"…"}]}

`number` is sealed under the key of holds (`Keys.holds`), which no month takes with it. `records` are the ids of its decisions
in the months retired since: the log is never edited, so here stands what a month's keys said. A lifted hold loses both, and
keeps that it was. The format changes by a new `format` only: a program that does not know a field refuses the file. `….new` is
one that was not finished; `holds.lock` is empty, and held by whoever changes the file.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct, structs

from dialgate.core import phone
from dialgate.core.model import Instant
from dialgate.crypto.keys import Keys, nonces
from dialgate.runtime.atomic_write import write_file
from dialgate.runtime.file_lock import hold_lock

_DIGITS_GIVEN_AWAY = 6


class HoldRefused(Exception):
    """A hold cannot be placed, lifted or read; the message says what to do."""


def read_number(raw: str, home: str) -> str:
    """In E.164. `home`: the country in which bare digits are read, or none."""
    try:
        return phone.parse(raw, home).e164
    except phone.NotANumber as problem:
        raise HoldRefused(f"the number {problem}; give it in E.164") from problem


class Hold(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    id: int
    at: Instant
    by: str
    reason: str
    number: bytes = b""
    records: tuple[str, ...] = ()
    lifted_at: Instant = 0
    lifted_by: str = ""
    lifted_because: str = ""


class UnderHold:
    """The numbers held at one moment, in E.164: what is known of them is evidence, and stays."""

    def __init__(self, keys: Keys, numbers: Sequence[str]) -> None:
        self._keys, self.numbers = keys, numbers

    def concerns(self, controller: str, subject: bytes) -> bool:
        return any(self._keys.subject(controller, number) == subject for number in self.numbers)


class _File(Struct, kw_only=True, forbid_unknown_fields=True):
    format: Literal[1] = 1
    holds: tuple[Hold, ...] = ()


class Holds:
    """Of one data folder. Safe beside a running gate, which does not read it. Raises `OSError`, `HoldRefused`,
    `KeysUnusable`."""

    def __init__(self, folder: Path, keys: Keys) -> None:
        self._path, self._keys = folder / "holds.json", keys

    def all(self) -> tuple[Hold, ...]:
        """Lifted ones too, oldest first."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_File).holds
        except FileNotFoundError:
            return ()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:  # msgspec lets the second one through
            raise HoldRefused(f"{self._path}: {error}; restore the file from its backup") from error

    def under(self) -> "UnderHold":
        return UnderHold(
            self._keys, [self._keys.holds.unseal(each.number) for each in self.all() if each.number]
        )

    def find(self, number: str) -> Hold | None:
        """The hold on a number in E.164, if it is held."""
        return next((hold for hold in self.all() if hold.number and self._is(hold, number)), None)

    def add(self, number: str, *, at: Instant, by: str, reason: str) -> Hold:
        with self._alone():
            held = self.all()
            _refuse_to_tell(number, by, reason)
            if self.find(number):
                raise HoldRefused("this number is held already; lift that hold first")
            sealed = self._keys.holds.seal(number, next(nonces()))
            hold = Hold(id=len(held) + 1, at=at, by=by, reason=reason, number=sealed)
            self._replace((*held, hold))
        return hold

    def lift(self, number: str, *, at: Instant, by: str, reason: str) -> Hold:
        with self._alone():
            hold = self.find(number)
            if hold is None:
                raise HoldRefused("this number is not held")
            _refuse_to_tell(number, by, reason)
            lifted = structs.replace(
                hold, number=b"", records=(), lifted_at=at, lifted_by=by, lifted_because=reason
            )
            self._replace([lifted if each.id == hold.id else each for each in self.all()])
        return lifted

    def keep(self, records_of: Callable[[str], Sequence[str]], then: Callable[[], None]) -> int:
        """Take up the decisions that `records_of` a held number gives, and when they are on the disk do `then`. Returns
        how many there were."""
        with self._alone():
            held = [self._with_records(hold, records_of) for hold in self.all()]
            kept = sum(len(hold.records) for hold in held) - sum(len(hold.records) for hold in self.all())
            if kept:
                self._replace(held)
            then()
        return kept

    def _with_records(self, hold: Hold, records_of: Callable[[str], Sequence[str]]) -> Hold:
        if not hold.number:
            return hold
        found = records_of(self._keys.holds.unseal(hold.number))
        return structs.replace(hold, records=tuple(dict.fromkeys((*hold.records, *found))))

    def _is(self, hold: Hold, number: str) -> bool:
        return self._keys.holds.unseal(hold.number) == number

    def _replace(self, holds: Sequence[Hold]) -> None:
        write_file(self._path, msgspec.json.encode(_File(holds=tuple(holds))))

    def _alone(self) -> AbstractContextManager[int]:
        return hold_lock(self._path.with_suffix(".lock"))


def _refuse_to_tell(number: str, *texts: str) -> None:
    """A reason is stored in clear, so it must not hold what the hold hides."""
    for text in texts:
        if number[-_DIGITS_GIVEN_AWAY:] in "".join(character for character in text if character.isdigit()):
            raise HoldRefused("the reason, or the name, holds the number; name the case file instead")
