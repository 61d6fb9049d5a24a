"""The keys that hide called numbers from readers of the log: one set per month, destroyed when the month is retired.

The key file contains one JSON object. It has mode 0600 and is always replaced as a whole:

    {"format":1,"log":"9f2c01ab","subject":"<32 bytes, base64>",
     "months":{"2026-11":{"hash":"<32 bytes, base64>","cipher":"<32 bytes, base64>"}}}

`log` is the name of the decision log. `subject` is the key for the ledger's pseudonyms. It is never rotated, because a
revocation must outlive every month. A month (UTC) has one key for pseudonyms in the log and one for encrypted numbers.
Removing a month from the file retires the month: records of that month remain and can still be verified, but are
anonymous (crypto-shredding; GDPR art. 5(1)(e) and 17).

A node that shares its ledger starts from a copy of another node's file without `log` and `months`. It keeps the files of
the other nodes, with their months, in `peers/` (`PeerKeys`), so that it can read the logs that they shipped. In these files,
`public` has the keys that signed those logs, so that nobody who can write to the copies can have another log proved. A node
may have further logs, each named after `log` and its number (`log_name`). Any change needs a new `format`, which
older programs reject. A program that ignored new fields would lose these fields when it rewrites the file.
"""

import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Meta, Struct, structs

from dialgate.core.decision_ids import DecisionIds
from dialgate.core.entry_ids import EntryIds
from dialgate.core.faults import Unavailable
from dialgate.core.model import SECOND, Instant
from dialgate.crypto.nonces import NONCE_BYTES
from dialgate.runtime.atomic_write import write_file

_KEY_BYTES = 32
_PSEUDONYM_BYTES = 16

_Key = Annotated[bytes, Meta(min_length=_KEY_BYTES, max_length=_KEY_BYTES)]
_Month = Annotated[str, Meta(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")]
_T = TypeVar("_T")
_LogName = Annotated[str, Meta(pattern=r"^([0-9a-f]{8})?$")]


class KeysUnusable(Unavailable):
    """Raised if a key file cannot be used. The message says what to do."""

    component = "keys"


class KeyRetired(KeysUnusable):
    """Raised if the keys for a month were destroyed. Numbers recorded in that month can no longer be read or linked."""


class _MonthFile(Struct, frozen=True, forbid_unknown_fields=True):
    hash: _Key
    cipher: _Key


class _Published(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The keys that the other nodes on a store need to read and prove a node's logs."""

    months: dict[_Month, _MonthFile] = {}
    public: dict[str, _Key] = {}  # that sign its checkpoints, by name (`log_signing`)


class _KeyFile(_Published, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: Literal[1]
    subject: _Key
    log: _LogName = ""


class Envelope:
    """A cipher for messages between nodes that have the same key, and for messages that wait to be read."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def close(self, content: bytes, nonce: bytes, about: bytes) -> bytes:
        """Encrypt a message. `open` needs the same `about`.

        The result consists of the 12-byte nonce, the AES-256-GCM ciphertext and its 16-byte tag.
        """
        return nonce + self._cipher.encrypt(nonce, content, about)

    def open(self, box: bytes, about: bytes) -> bytes:
        """Decrypt a message that `close` encrypted. Raises `KeysUnusable`."""
        try:
            return self._cipher.decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], about)
        except (InvalidTag, ValueError) as error:
            raise KeysUnusable(
                "a message was encrypted with another key or for another purpose, or was modified"
            ) from error


class Sealer:
    """A cipher for called numbers."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, number: str, nonce: bytes) -> bytes:
        """Encrypt a number.

        The result consists of the 12-byte nonce, the AES-256-GCM ciphertext and its 16-byte tag.
        """
        return nonce + self._cipher.encrypt(nonce, number.encode(), None)

    def unseal(self, box: bytes) -> str:
        try:
            return self._cipher.decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], None).decode()
        except (InvalidTag, ValueError) as error:
            raise KeysUnusable(
                "cannot decrypt a number with the key for its month: the number was modified, or is from another log"
            ) from error


class KeyedHash:
    """BLAKE2b (RFC 7693) with a key of 1 to 64 bytes. `size` is the length of the hash in bytes."""

    def __init__(self, key: bytes, size: int) -> None:
        if not key:
            raise ValueError("a keyed hash needs a key of 1 to 64 bytes")
        self._keyed = blake2b(key=key, digest_size=size)

    def digest(self, content: bytes) -> bytes:
        keyed = self._keyed.copy()  # takes a quarter of the time of a new keyed hash
        keyed.update(content)
        return keyed.digest()

    def digests(self, contents: Iterable[bytes]) -> bytes:
        """Return the concatenated hashes of many contents."""
        copy, hashes = self._keyed.copy, list[bytes]()
        for content in contents:
            keyed = copy()
            keyed.update(content)
            hashes.append(keyed.digest())
        return b"".join(hashes)


class MonthKeys(Sealer):
    """The two keys for a month. `pseudonym` identifies a number without revealing it, and `seal` encrypts a number."""

    def __init__(self, file: _MonthFile) -> None:
        super().__init__(file.cipher)
        self._keyed = KeyedHash(file.hash, _PSEUDONYM_BYTES)

    def pseudonym(self, number: str) -> bytes:
        """Return a 16-byte keyed hash. A plain hash could be reversed by trying all 10^10 numbers."""
        return self._keyed.digest(number.encode())

    def called_number(self, sealed: bytes) -> str:
        """Return the called number in a record's `sealed` field, in E.164 format. Raises `KeysUnusable`."""
        return self.unseal(sealed).split(" ", 1)[0]

    def mask(self, value: bytes, decision: str) -> bytes:
        """Mask `value` (16 bytes) for this decision, by XOR. Masking the result again returns `value`.

        Without the mask, anyone with the ledger's key could test guesses against the recorded requests, even after the
        month is retired.
        """
        if len(value) != _PSEUDONYM_BYTES:
            raise ValueError(f"the value must be {_PSEUDONYM_BYTES} bytes long")
        mask = self._keyed.digest(b"mask of " + decision.encode())
        return (int.from_bytes(value) ^ int.from_bytes(mask)).to_bytes(_PSEUDONYM_BYTES)


class Keys:
    """The keys of one log.

    Several processes may use the same file. Only the newest month is cached. The keys of other months are always read
    from the file, under a lock, so that a month retired by one process is retired for all.
    """

    def __init__(self, path: Path, file: _KeyFile, log: int) -> None:
        self.first_log, self.log = file.log, log_name(file.log, log)
        self._path, self._number, self._controllers = path, log, dict[str, KeyedHash]()
        self._secret, self.public = file.subject, file.public
        # The ledger's numbers are needed as long as their revocations, so no month's key encrypts them.
        self.ledger = Sealer(blake2b(b"ledger cipher", key=file.subject, digest_size=_KEY_BYTES).digest())
        # Numbers in legal holds have a separate key, so that access to one does not give access to the other.
        self.holds = Sealer(blake2b(b"hold cipher", key=file.subject, digest_size=_KEY_BYTES).digest())
        self.peers = Envelope(blake2b(b"peer cipher", key=file.subject, digest_size=_KEY_BYTES).digest())
        self.letters = Envelope(blake2b(b"dead letters", key=file.subject, digest_size=_KEY_BYTES).digest())
        self.accounts = Envelope(blake2b(b"accounts", key=file.subject, digest_size=_KEY_BYTES).digest())
        self.proofs = Envelope(blake2b(b"consent proofs", key=file.subject, digest_size=_KEY_BYTES).digest())
        self.ids = DecisionIds(blake2b(b"decision ids", key=file.subject, digest_size=_KEY_BYTES).digest())
        self.entries = EntryIds(blake2b(b"entry ids", key=file.subject, digest_size=_KEY_BYTES).digest())
        self.mark = blake2b(b"whose store", key=file.subject, digest_size=_PSEUDONYM_BYTES).hexdigest()
        # One tuple, so that other threads never see the span of one month with the keys of another. The first span is empty.
        self._newest = (0, 0, MonthKeys(_new_month()))

    @classmethod
    def open(cls, path: Path, log: int = 1) -> "Keys":
        with locked(path):
            return cls(path, _read_or_make(path), log)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle only the path. The other process reads the file itself, so keys are never sent."""
        return type(self).open, (self._path, self._number)

    def month(self, at: Instant) -> MonthKeys:
        """Return the keys for the month that contains `at`. Create them if the month is new.

        Raises `KeyRetired` and `KeysUnusable`.
        """
        start, end, keys = self._newest
        return keys if start <= at < end else self._look_up(at)

    def subject(self, controller: str, number: str) -> bytes:
        """Return the number's key in the ledger, a 16-byte hash.

        The hash differs by controller, so that data that belongs to different controllers cannot be joined. The
        controller `*` is for entries that bind every controller.
        """
        return self.named(controller, number.encode())

    def named(self, controller: str, content: bytes) -> bytes:
        """Return a hash like the one from `subject`, for any content that includes a called number.

        Use the controller `?` for the hash of a dialer's request (`Decided.question`).
        """
        return self.keyed(controller).digest(content)

    def keyed(self, controller: str) -> KeyedHash:
        """Return the hash function that `named` uses for a controller."""
        return self._controllers.get(controller) or self._derive(controller)

    def hashes(self, number: str) -> dict[str, bytes]:
        """Return the number's pseudonym in each month that is not retired, to find its decisions (GDPR art. 15)."""
        return {name: keys.pseudonym(number) for name, keys in self.live().items()}

    def live(self) -> dict[str, MonthKeys]:
        """Return the keys for every month (`YYYY-MM`) that is not retired."""
        return {name: MonthKeys(month) for name, month in self._file().months.items()}

    def retire(self, month: str) -> None:
        """Destroy the keys for a past month (`YYYY-MM`). The operator must destroy copies and backups of the file.

        Raises `KeysUnusable` if the file is unusable, or if `month` is the newest month, whose keys are in use.
        """
        with locked(self._path):
            file = _read(self._path)
            if month not in file.months or month == max(file.months):
                raise KeysUnusable(
                    f"{self._path}: {month} is not a past month with keys; see `months` in that file"
                )
            del file.months[month]
            write_file(self._path, msgspec.json.encode(file))

    def publish(self, public: Mapping[str, bytes], nonce: bytes) -> bytes:
        """Return the keys of all months and `public`, encrypted for the nodes that share the ledger. Raises `KeysUnusable`."""
        published = _Published(months=self._file().months, public=dict(public))
        return self.peers.close(msgspec.json.encode(published), nonce, _months_of(self.first_log))

    def has_published(self, public: Mapping[str, bytes], sealed: bytes) -> bool:
        """Return whether the result of an earlier `publish` contains the present keys. Raises `KeysUnusable`."""
        return self._open(self.first_log, sealed) == _Published(
            months=self._file().months, public=dict(public)
        )

    def _open(self, log: str, sealed: bytes) -> _Published:
        return msgspec.json.decode(self.peers.open(sealed, _months_of(log)), type=_Published)

    def _file(self) -> _KeyFile:
        with locked(self._path):
            return _read(self._path)

    def keep(self, path: Path, log: str, sealed: bytes) -> None:
        """Write what another node published to the key file for its log. Raises `KeysUnusable`."""
        published = self._open(log, sealed)
        file = _KeyFile(format=1, subject=self._secret, log=log, **structs.asdict(published))
        body = msgspec.json.encode(file)
        with locked(path):
            if not path.exists() or path.read_bytes() != body:
                write_file(path, body)

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
                f"{self._path}: the keys for {name} are retired, and the newest keys are for {newest}. If the newest"
                f" keys were created while the clock was wrong, remove {newest} from `months`"
            )
        return file.months


class PeerKeys(Keys):
    """The keys of another node's log. The file is a copy, so it gets no new month here, and loses months with the original."""

    @classmethod
    def open(cls, path: Path, log: int = 1) -> "PeerKeys":
        with locked(path):
            return cls(path, _read(path), log)

    def retire(self, month: str) -> None:
        """Destroy the keys of a month in this copy, if it has them. No gate uses them for new decisions."""
        with locked(self._path):
            file = _read(self._path)
            if file.months.pop(month, None):
                write_file(self._path, msgspec.json.encode(file))

    def _with_month(self, name: str) -> dict[str, _MonthFile]:
        months = _read(self._path).months
        if name not in months:
            raise KeyRetired(
                f"{self._path}: the keys for {name} are retired, or were not received from their node"
            )
        return months


def first_log(path: Path) -> str:
    """Return the name of the first log in a key file, or "" if there is no file. Raises `KeysUnusable`."""
    return _read(path).log if path.exists() else ""


def _months_of(log: str) -> bytes:
    return b"months of " + log.encode()


def log_name(first: str, number: int) -> str:
    """Return the name of a node's log, 8 hexadecimal digits. For log 1 it is `first`."""
    return first if number == 1 else blake2b(f"{first}/{number}".encode(), digest_size=4).hexdigest()


def _new_month() -> _MonthFile:
    return _MonthFile(hash=os.urandom(_KEY_BYTES), cipher=os.urandom(_KEY_BYTES))


def _month_of(at: Instant) -> tuple[str, Instant, Instant]:
    """Return the UTC month that contains `at` as `YYYY-MM`, its first instant, and that of the next month."""
    day = datetime.fromtimestamp(at // SECOND, UTC)
    first = datetime(day.year, day.month, 1, tzinfo=UTC)
    after = datetime(day.year + day.month // 12, day.month % 12 + 1, 1, tzinfo=UTC)
    return f"{day:%Y-%m}", int(first.timestamp()) * SECOND, int(after.timestamp()) * SECOND


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock the folder that contains a file. The file itself cannot be locked, because it is replaced."""
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
    file = structs.replace(file, log=secrets.token_hex(4))
    write_file(path, msgspec.json.encode(file))
    return file


def _read(path: Path) -> _KeyFile:
    return read_file(path, _KeyFile)


def read_file(path: Path, kind: type[_T]) -> _T:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise KeysUnusable(f"{path} is not private to its owner: run chmod 600 {path}")
        try:
            return msgspec.json.decode(file.read(), type=kind)
        # msgspec does not convert UnicodeDecodeError
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise KeysUnusable(f"{path}: {error}; restore the file from its backup") from error
