"""Legal holds, which keep decisions linked to a number after the keys for the decisions' month are destroyed.

The holds are a JSON object in a file with mode 0600, which is always replaced as a whole:

    {"format":1,"holds":[{"id":1,"at":<ms>,"by":"…","reason":"…","number":"<sealed, base64>","records":["9f2c01ab-17"]},
                         {"id":2,"at":<ms>,"by":"…","reason":"…","lifted_at":<ms>,"lifted_by":"…","lifted_because":"…"}]}

`number` is encrypted with the key for holds (`Keys.holds`), which outlives a month's keys. `records` are the ids of the
number's decisions in months that were retired during the hold. Lifting a hold deletes `number` and `records` and keeps
the rest. Every change to the fields increments `format`, because programs reject files with unknown fields.
`holds.json.new` is an unfinished write. `holds.lock` is an empty file that a process locks to change the holds. The store
has the holds, too, so that all gates have them (`dialgate.cluster.shared_holds`).
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct, structs

from dialgate.core.model import Instant
from dialgate.core.refusal import Refused
from dialgate.crypto.keys import Keys
from dialgate.crypto.nonces import nonces
from dialgate.runtime.atomic_write import write_file
from dialgate.runtime.file_lock import hold_lock

_DIGITS_GIVEN_AWAY = 6


class HoldRefused(Refused):
    """Raised if a hold cannot be placed, lifted or read. The message says what to do."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__("hold.refused", message, field, status=409)


class LegalHold(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
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
    """The numbers (E.164) that are now under a legal hold. Data about them is evidence and must not be deleted."""

    def __init__(self, keys: Keys, numbers: Sequence[str]) -> None:
        self._keys, self.numbers = keys, numbers

    def concerns(self, controller: str, subject: bytes) -> bool:
        return any(self._keys.subject(controller, number) == subject for number in self.numbers)


class _File(Struct, kw_only=True, forbid_unknown_fields=True):
    format: Literal[1] = 1
    holds: tuple[LegalHold, ...] = ()


class Holds:
    """The legal holds in one data folder, which can change while a gate is running.

    Methods raise `OSError`, `HoldRefused`, `KeysUnusable`.
    """

    def __init__(self, folder: Path, keys: Keys) -> None:
        self._path, self._keys = folder / "holds.json", keys

    def all(self) -> tuple[LegalHold, ...]:
        """Return all holds, including lifted ones, oldest first."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_File).holds
        except FileNotFoundError:
            return ()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:  # msgspec raises this for invalid UTF-8
            raise HoldRefused(f"{self._path}: {error}. Restore the file from its backup.") from error

    def under(self) -> "UnderHold":
        return UnderHold(
            self._keys, [self._keys.holds.unseal(hold.number) for hold in self.all() if hold.number]
        )

    def find(self, number: str) -> LegalHold | None:
        """Return the hold on this number (E.164), if any."""
        return next((hold for hold in self.all() if hold.number and self._is(hold, number)), None)

    def add(self, number: str, *, at: Instant, by: str, reason: str) -> LegalHold:
        with self._lock():
            holds = self.all()
            _refuse_number_in(number, by, reason)
            if self.find(number):
                raise HoldRefused("this number is already under a legal hold. Lift that hold first.")
            sealed = self._keys.holds.seal(number, next(nonces()))
            hold = LegalHold(id=len(holds) + 1, at=at, by=by, reason=reason, number=sealed)
            self._replace((*holds, hold))
        return hold

    def lift(self, number: str, *, at: Instant, by: str, reason: str) -> LegalHold:
        with self._lock():
            hold = self.find(number)
            if hold is None:
                raise HoldRefused("this number is not under a legal hold.")
            _refuse_number_in(number, by, reason)
            lifted = structs.replace(
                hold, number=b"", records=(), lifted_at=at, lifted_by=by, lifted_because=reason
            )
            self._replace([lifted if other.id == hold.id else other for other in self.all()])
        return lifted

    def keep(self, records_of: Callable[[str], Sequence[str]], then: Callable[[], None]) -> int:
        """Store the ids that `records_of` returns for each number under hold, then call `then`.

        The ids are on disk before `then` is called. Returns the number of new ids.
        """
        with self._lock():
            before = self.all()
            after = [self._with_records(hold, records_of) for hold in before]
            added = sum(len(hold.records) for hold in after) - sum(len(hold.records) for hold in before)
            if added:
                self._replace(after)
            then()
        return added

    def _with_records(self, hold: LegalHold, records_of: Callable[[str], Sequence[str]]) -> LegalHold:
        if not hold.number:
            return hold
        records = records_of(self._keys.holds.unseal(hold.number))
        return structs.replace(hold, records=tuple(dict.fromkeys((*hold.records, *records))))

    def _is(self, hold: LegalHold, number: str) -> bool:
        return self._keys.holds.unseal(hold.number) == number

    def _replace(self, holds: Sequence[LegalHold]) -> None:
        write_file(self._path, msgspec.json.encode(_File(holds=tuple(holds))))

    def _lock(self) -> AbstractContextManager[int]:
        return hold_lock(self._path.with_suffix(".lock"))


def _refuse_number_in(number: str, *texts: str) -> None:
    """Raise `HoldRefused` if one of `texts` contains the last six digits of the number.

    The holds file stores `texts` unencrypted.
    """
    for text in texts:
        if number[-_DIGITS_GIVEN_AWAY:] in "".join(character for character in text if character.isdigit()):
            raise HoldRefused(
                "`--reason` or `--by` contains the last six digits of the number. Use a case ID instead of the number.",
                "reason",
            )
