"""The keys between a called number and whoever reads the log: made when a month needs them, thrown away with it.

The key file is one JSON object, mode 0600, always replaced whole:

    {"format":1,"log":"9f2c01ab","subject":"<32 bytes, base64>",
     "months":{"2026-11":{"hash":"<32 bytes, base64>","cipher":"<32 bytes, base64>"}}}

`log` names the decision log that this file belongs to. `subject` keys the ledger's pseudonyms and is never rotated: a
suppression must outlive every month. A month (UTC) has one key for the pseudonyms in the log and one for the sealed
numbers. Taking a month out retires it: its records stay and still verify, but belong to nobody any more (crypto-shredding;
GDPR art. 5(1)(e) and 17). The format changes by a new `format` only: a program that does not know a field must not
rewrite the file without it, so it refuses the file. A node that shares its ledger with others starts from a copy of
their file without `log` and `months`. Of several gates on one file (workers) each has a log of its own, named after
`log` and the worker's number: see `log_name`.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Meta, Struct

from dialgate.core.decision_ids import DecisionIds
from dialgate.core.entry_ids import EntryIds
from dialgate.core.faults import Unavailable
from dialgate.core.model import SECOND, Instant
from dialgate.runtime.atomic_write import write_file

_NONCE_BYTES = 12
_KEY_BYTES = 32
_PSEUDONYM_BYTES = 16

_Key = Annotated[bytes, Meta(min_length=_KEY_BYTES, max_length=_KEY_BYTES)]
_Month = Annotated[str, Meta(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")]
_T = TypeVar("_T")
_LogName = Annotated[str, Meta(pattern=r"^([0-9a-f]{8})?$")]


class KeysUnusable(Unavailable):
    """The key file is missing a right, a field or its meaning; the message says what to do."""

    component = "keys"


class KeyRetired(KeysUnusable):
    """The month's keys are gone, on purpose: what they hid cannot be read or linked again."""


class _MonthFile(Struct, frozen=True, forbid_unknown_fields=True):
    hash: _Key
    cipher: _Key


class _KeyFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: Literal[1]
    subject: _Key
    log: _LogName = ""
    months: dict[_Month, _MonthFile] = {}


class Envelope:
    """For what goes from one holder of the key to another, and stays with them."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def close(self, content: bytes, nonce: bytes, about: bytes) -> bytes:
        """The 12-byte nonce, then AES-256-GCM with its 16-byte tag. It opens with the same `about` only."""
        return nonce + self._cipher.encrypt(nonce, content, about)

    def open(self, box: bytes, about: bytes) -> bytes:
        """Raises `KeysUnusable`."""
        try:
            return self._cipher.decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], about)
        except (InvalidTag, ValueError) as error:
            raise KeysUnusable(
                "closed with another key, or about something else, or changed on its way"
            ) from error


class Sealer:
    """Keeps a number for who may see it."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, number: str, nonce: bytes) -> bytes:
        """The 12-byte nonce, then AES-256-GCM of the number with its 16-byte tag."""
        return nonce + self._cipher.encrypt(nonce, number.encode(), None)

    def unseal(self, box: bytes) -> str:
        try:
            return self._cipher.decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], None).decode()
        except (InvalidTag, ValueError) as error:
            raise KeysUnusable(
                "a sealed number does not open with the key of its month: it was changed, or belongs to another log"
            ) from error


def nonces() -> Iterator[bytes]:
    """Nonces for `MonthKeys.seal`: one iterator for each process, made after any fork.

    A repeated nonce under AES-GCM gives the plaintexts away. A counter from a random 96-bit start repeats only if two
    starts fall within one run's length of each other: with 2^12 starts of 2^32 calls under one key, about 2^-40.
    Nothing has to be remembered across restarts, as a plain counter would, and it does not wear out after 2^32 calls,
    as independent random nonces do (NIST SP 800-38D, 8.3).
    """
    for value in count(secrets.randbits(8 * _NONCE_BYTES)):
        yield (value % (1 << 8 * _NONCE_BYTES)).to_bytes(_NONCE_BYTES, "big")


class KeyedHash:
    """BLAKE2b (RFC 7693) under a key of 1 to 64 bytes; `size`: of the hash, in bytes."""

    def __init__(self, key: bytes, size: int) -> None:
        if not key:
            raise ValueError("a keyed hash needs a key of 1 to 64 bytes")
        self._keyed = blake2b(key=key, digest_size=size)

    def digest(self, content: bytes) -> bytes:
        keyed = self._keyed.copy()  # the key is hashed once: a quarter of the time of a hash from the start
        keyed.update(content)
        return keyed.digest()

    def masked(self, value: bytes, content: bytes) -> bytes:
        """Return `value`, as long as the hash, XOR the hash of `content`. The same again returns the value."""
        mask = self.digest(content)
        if len(value) != len(mask):
            raise ValueError(f"a masked value is as long as the hash: {len(mask)} bytes")
        return (int.from_bytes(value) ^ int.from_bytes(mask)).to_bytes(len(mask))


class MonthKeys(Sealer):
    """One month's two keys: `pseudonym` finds a number without showing it, `seal` keeps it."""

    def __init__(self, file: _MonthFile) -> None:
        super().__init__(file.cipher)
        self._keyed = KeyedHash(file.hash, _PSEUDONYM_BYTES)

    def pseudonym(self, number: str) -> bytes:
        """16 bytes. Keyed, because a plain hash of a number is undone by trying all 10^10 of them."""
        return self._keyed.digest(number.encode())

    def masked(self, value: bytes, decision: str) -> bytes:
        """16 bytes under a mask of this decision's own, and its inverse. Once the month is retired nothing is left of
        what was under it: the name of a question can be tried out by whoever has the ledger's key.
        """
        return self._keyed.masked(value, b"mask of " + decision.encode())


class Keys:
    """Every key of one log. Several processes may hold the same file: each reads it anew, under a lock, for all but the
    newest month, so that a month retired by one is retired for all.
    """

    def __init__(self, path: Path, file: _KeyFile, worker: int) -> None:
        self.log = log_name(file.log, worker)
        self._path, self._worker = path, worker
        self._secret = file.subject
        # The ledger's numbers are sealed for as long as the suppression holds, so under no month's key.
        self.ledger = Sealer(blake2b(b"ledger cipher", key=file.subject, digest_size=_KEY_BYTES).digest())
        # And so are those of a legal hold, under a key of their own: whoever may read one need not read the other.
        self.holds = Sealer(blake2b(b"hold cipher", key=file.subject, digest_size=_KEY_BYTES).digest())
        self.peers = Envelope(blake2b(b"peer cipher", key=file.subject, digest_size=_KEY_BYTES).digest())
        self.ids = DecisionIds(blake2b(b"decision ids", key=file.subject, digest_size=_KEY_BYTES).digest())
        self.entries = EntryIds(blake2b(b"entry ids", key=file.subject, digest_size=_KEY_BYTES).digest())
        self.mark = blake2b(b"whose store", key=file.subject, digest_size=_PSEUDONYM_BYTES).hexdigest()
        self._controllers: dict[str, KeyedHash] = {}
        # One value, not three: a reader in a thread must never see the span of one month with the keys of another.
        # No instant lies in this first span.
        self._newest = (0, 0, MonthKeys(_new_month()))

    @classmethod
    def open(cls, path: Path, worker: int = 1) -> "Keys":
        with locked(path):
            return cls(path, _read_or_make(path), worker)

    def __reduce__(self) -> tuple[object, ...]:
        """Another process reads the file itself: no key is ever in a message between the two."""
        return Keys.open, (self._path, self._worker)

    def month(self, at: Instant) -> MonthKeys:
        """The keys of the month that `at` lies in, made if that month is new; an older one that is gone is retired.
        Hot for the newest month; any other is read from the file.
        """
        start, end, keys = self._newest
        return keys if start <= at < end else self._look_up(at)

    def subject(self, controller: str, number: str) -> bytes:
        """16 bytes: the ledger's name for a number, different for each controller so that tenants cannot be joined.
        Controller `*` is for what holds against every controller.
        """
        return self.named(controller, number.encode())

    def named(self, controller: str, content: bytes) -> bytes:
        """The same of anything that holds a called number; `?` stands for questions."""
        return (self._controllers.get(controller) or self._derive(controller)).digest(content)

    def hashes(self, number: str) -> dict[str, bytes]:
        """The number's pseudonym under every live month, for finding every decision about it (GDPR art. 15)."""
        with locked(self._path):
            file = _read(self._path)
        return {name: MonthKeys(month).pseudonym(number) for name, month in file.months.items()}

    def live(self) -> dict[str, MonthKeys]:
        """Of every month (`YYYY-MM`) whose keys are not retired; none is made."""
        with locked(self._path):
            file = _read(self._path)
        return {name: MonthKeys(month) for name, month in file.months.items()}

    def retire(self, month: str) -> None:
        """Throw the keys of `YYYY-MM` away. The newest month is in use and is refused. Copies and backups of the file
        are the operator's to destroy.
        """
        with locked(self._path):
            file = _read(self._path)
            if month not in file.months or month == max(file.months):
                raise KeysUnusable(
                    f"{self._path}: {month} is no past month with keys; see `months` in that file"
                )
            del file.months[month]
            write_file(self._path, msgspec.json.encode(file))

    def _derive(self, controller: str) -> KeyedHash:
        key = blake2b(controller.encode(), key=self._secret, digest_size=_KEY_BYTES).digest()
        return self._controllers.setdefault(controller, KeyedHash(key, _PSEUDONYM_BYTES))

    def _look_up(self, at: Instant) -> MonthKeys:
        name, start, end = _month_of(at)
        with locked(self._path):
            months = self._with_month(name)
        keys = MonthKeys(months[name])
        if name == max(months):
            self._newest = (start, end, keys)
        return keys

    def _with_month(self, name: str) -> dict[str, _MonthFile]:
        file = _read(self._path)
        newest = max(file.months, default="")
        if name > newest:
            file.months[name] = _new_month()
            write_file(self._path, msgspec.json.encode(file))
        elif name not in file.months:
            raise KeyRetired(
                f"{self._path}: the keys of {name} are retired, the newest are of {newest}; if a wrong clock made"
                f" those, take {newest} out of `months`"
            )
        return file.months


def log_name(first: str, worker: int) -> str:
    """Of a worker's log: `first` for worker 1. 8 hexadecimal digits."""
    return first if worker == 1 else blake2b(f"{first}/{worker}".encode(), digest_size=4).hexdigest()


def _new_month() -> _MonthFile:
    return _MonthFile(hash=os.urandom(_KEY_BYTES), cipher=os.urandom(_KEY_BYTES))


def _month_of(at: Instant) -> tuple[str, Instant, Instant]:
    """`YYYY-MM` in UTC, its first instant and the first one after it."""
    day = datetime.fromtimestamp(at // SECOND, UTC)
    first = datetime(day.year, day.month, 1, tzinfo=UTC)
    after = datetime(day.year + day.month // 12, day.month % 12 + 1, 1, tzinfo=UTC)
    return f"{day:%Y-%m}", int(first.timestamp()) * SECOND, int(after.timestamp()) * SECOND


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on the file's folder, because the file itself is replaced."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)
    except OSError as error:
        raise KeysUnusable(f"{path}: {error.strerror}; the gate must be able to read and write it") from error


def _read_or_make(path: Path) -> _KeyFile:
    if path.exists():
        file = _read(path)
        if file.log:
            return file
    else:
        file = _KeyFile(format=1, subject=os.urandom(_KEY_BYTES))
    file = msgspec.structs.replace(file, log=secrets.token_hex(4))
    write_file(path, msgspec.json.encode(file))
    return file


def _read(path: Path) -> _KeyFile:
    return read_file(path, _KeyFile)


def read_file(path: Path, kind: type[_T]) -> _T:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise KeysUnusable(f"{path} can be read by others than its owner: chmod 600 {path}")
        try:
            return msgspec.json.decode(file.read(), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:  # msgspec lets the second one through
            raise KeysUnusable(f"{path}: {error}; restore the file from its backup") from error
