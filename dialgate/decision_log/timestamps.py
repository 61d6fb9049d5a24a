"""Time stamps of checkpoints by an authority outside (RFC 3161): proof of when, which nobody here can make later.

`timestamps.ndjson` in the log's folder, mode 0600, a line for each:

    {"size":<entries>,"checkpoint":"<SHA-256 of the checkpoint's line>","at":<ms>,"response":"<TimeStampResp in DER, base64>"}

What was stamped is the checkpoint's line, its line break included. How it may change: fields are appended. A last line that
a crash left unfinished is cut off. `openssl ts -verify` checks a response too. A copy of closed segments may have, instead of
this file, each line in one of its own, `0000000000000042.timestamp`, where 42 is the checkpoint's size.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from urllib.request import Request, urlopen

import msgspec
from cryptography.x509 import Certificate, load_pem_x509_certificates
from msgspec import Struct
from rfc3161_client import (
    PKIStatus,
    TimestampRequestBuilder,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from dialgate.core.model import Instant
from dialgate.decision_log import Fault, LogDamaged, Stored, last_checkpoint, lines_of, signed_checkpoints
from dialgate.decision_log.segment import UNREADABLE, last_line

FILE = "timestamps.ndjson"
PART = ".timestamp"
_PATIENCE = 20  # seconds for the authority to answer
_MOST = 1 << 20  # bytes of an answer


class NoTimestamp(Exception):
    """The authority gave none that holds, and why."""


class Stamped(Struct, frozen=True, kw_only=True):
    size: int
    checkpoint: str
    at: Instant
    response: bytes


class Stamper:
    """Asks `url` for a stamp of the newest checkpoint at most once in `interval` ms. `roots`: a PEM file of the
    authority's root certificates; an answer that does not lead to one is not kept. Raises `OSError`, `ValueError`."""

    def __init__(self, folder: Path, url: str, roots: Path, interval: int) -> None:
        self._folder, self._url, self._interval = folder, url, interval
        self._roots = load_pem_x509_certificates(roots.read_bytes())
        self._last = _newest(folder / FILE)
        self._last_request = 0

    def stamp(self, now: Instant) -> bool:
        """Whether one was due and is kept. Blocks. Raises `NoTimestamp`, `LogDamaged`, `OSError`; then the next attempt
        is an interval away."""
        newest = last_checkpoint(self._folder)
        if newest is None or now - self._last_request < self._interval:
            return False
        if self._last and self._last.checkpoint == newest.line_hash:
            return False
        self._last_request = now
        response = _request_stamp(self._url, _line(newest), self._roots)
        self._last = Stamped(
            size=newest.checkpoint.size, checkpoint=newest.line_hash, at=now, response=response
        )
        _append(self._folder / FILE, msgspec.json.encode(self._last) + b"\n")
        return True


def stamp_lines(folder: Path, start: int = 0) -> Iterator[tuple[Path, int, bytes]]:
    """File, offset and bytes of each whole line, of the log's own file from `start` on; nothing where there is no file."""
    own = folder / FILE
    parts = [] if own.exists() else sorted(folder.glob(f"*{PART}"))
    for path in parts or [own]:
        with suppress(FileNotFoundError):
            for offset, line in lines_of(path, 0 if parts else start):
                if line.endswith(b"\n"):
                    yield path, offset, line


def stamp_of(path: Path, offset: int, line: bytes) -> Stamped:
    """Raises `LogDamaged`."""
    try:
        return msgspec.json.decode(line, type=Stamped)
    except UNREADABLE as error:
        raise LogDamaged(path, offset, f"not a time stamp: {error}") from error


def timestamps(folder: Path) -> Iterator[Stamped]:
    """Raises `LogDamaged`."""
    return (stamp_of(*line) for line in stamp_lines(folder))


def checked(folder: Path, roots: Path) -> tuple[int, list[Fault]]:
    """How many hold, and those that do not, or whose checkpoint is no longer there as it was stamped. Raises `LogDamaged`
    where a checkpoint is none, `OSError`, `ValueError` where `roots` are no certificates."""
    trusted = load_pem_x509_certificates(roots.read_bytes())
    checkpoints = {checkpoint.line_hash: checkpoint for checkpoint in signed_checkpoints(folder)}
    results = [_checked(line, checkpoints, trusted) for line in stamp_lines(folder)]
    return results.count(None), [fault for fault in results if fault]


def _checked(
    at: tuple[Path, int, bytes], checkpoints: Mapping[str, Stored], trusted: list[Certificate]
) -> Fault | None:
    path, offset, line = at
    size, what = 0, "it is no time stamp: it was changed"
    with suppress(LogDamaged):
        stamp = stamp_of(path, offset, line)
        size, checkpoint = stamp.size, checkpoints.get(stamp.checkpoint)
        if (
            checkpoint
            and size == checkpoint.checkpoint.size
            and _holds(stamp.response, _line(checkpoint), trusted)
        ):
            return None
        what = "the time stamp does not hold, or its checkpoint is not here as it was stamped"
    return Fault(str(path), offset, size, what, "broken_timestamp", offset)


def _newest(path: Path) -> Stamped | None:
    """Nothing where it cannot be read: then the next checkpoint is stamped all the same."""
    try:
        offset, line, _ = last_line(path)
        return stamp_of(path, offset, line)
    except (FileNotFoundError, LogDamaged):
        return None


def _line(checkpoint: Stored) -> bytes:
    return b'{"signature":"%b","checkpoint":%b}\n' % (checkpoint.signature.hex().encode(), checkpoint.body)


def _request_stamp(url: str, message: bytes, roots: list[Certificate]) -> bytes:
    query = TimestampRequestBuilder().data(message).nonce(nonce=True).cert_request(cert_request=True).build()
    headers = {"Content-Type": "application/timestamp-query"}
    try:
        with urlopen(Request(url, query.as_bytes(), headers), timeout=_PATIENCE) as answer:  # noqa: S310 - the operator's
            response: bytes = answer.read(_MOST)
    except (OSError, HTTPException, ValueError) as error:
        raise NoTimestamp(f"{url}: {error}") from error
    try:
        decoded = decode_timestamp_response(response)
    except ValueError as error:
        raise NoTimestamp(f"{url}: what came is no time stamp: {error}") from error
    if PKIStatus(decoded.status) != PKIStatus.GRANTED:
        raise NoTimestamp(f"{url} refused: {PKIStatus(decoded.status).name}")
    if decoded.tst_info.nonce != query.nonce or not _holds(response, message, roots):
        raise NoTimestamp(
            f"{url}: the time stamp is not of this checkpoint, or leads to none of the root certificates"
        )
    return response


def _holds(response: bytes, message: bytes, roots: list[Certificate]) -> bool:
    """The certificates that the authority sent are tried: it may stand behind one in between."""
    try:
        return (
            VerifierBuilder(roots=list(roots))
            .build()
            .verify_message(decode_timestamp_response(response), message)
        )
    except (VerificationError, ValueError):
        return False


def _append(path: Path, line: bytes) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(fd, "r+b") as file:
        offset, whole, _ = last_line(path)
        file.seek(offset + len(whole))
        file.truncate()
        file.write(line)
        file.flush()
        os.fsync(fd)
