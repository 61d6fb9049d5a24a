"""Time stamps for checkpoints, from an external authority (RFC 3161).

A time stamp proves that a checkpoint existed at a certain time, even to readers who do not trust the operator.

`timestamps.ndjson` in the log folder, mode 0600, one line per time stamp:

    {"size":<entries>,"checkpoint":"<SHA-256 of the checkpoint's line>","at":<ms>,"response":"<TimeStampResp in DER, base64>"}

The stamped data is the checkpoint's line, including its line break. `openssl ts -verify` accepts a response. New fields
may be appended. An unfinished last line after a crash is removed. A copy of closed segments may hold
each line in its own file instead, `0000000000000042.timestamp`, where 42 is the checkpoint's size.
"""

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

from dialgate.core.model import DAY, Instant
from dialgate.decision_log import (
    LogDamaged,
    SegmentFault,
    StoredCheckpoint,
    last_checkpoint,
    lines_of,
    signed_checkpoints,
)
from dialgate.decision_log.segment import UNREADABLE, append_line, last_line
from dialgate.decision_log.verification import spans_more_than

FILE = "timestamps.ndjson"
PART = ".timestamp"
_TIMEOUT = 20  # seconds
# Three times the longest `timestamp_seconds`, and longer than a weekend without a gate.
_MAX_UNSTAMPED: Instant = 3 * DAY
_MAX_RESPONSE = 1 << 20  # bytes


class NoTimestamp(Exception):
    """The error for a missing or invalid time stamp. The message gives the reason."""


class Stamped(Struct, frozen=True, kw_only=True):
    size: int
    checkpoint: str
    at: Instant
    response: bytes


class Stamper:
    """A client that requests a time stamp for the newest checkpoint, at most once per `interval` ms.

    `roots` is a PEM file with the authority's root certificates. Time stamps from other authorities are discarded.
    Raises `OSError`, `ValueError`.
    """

    def __init__(self, folder: Path, url: str, roots: Path, interval: int) -> None:
        self._folder, self._url, self._interval = folder, url, interval
        self._roots = load_pem_x509_certificates(roots.read_bytes())
        self._last = _newest(folder / FILE)
        self._last_request = 0

    def stamp(self, now: Instant) -> bool:
        """Request and store a time stamp if one is due. Return whether one was stored. Blocks.

        After an error the next attempt is one interval later. Raises `NoTimestamp`, `LogDamaged`, `OSError`.
        """
        newest = last_checkpoint(self._folder)
        if newest is None or now - self._last_request < self._interval:
            return False
        if self._last and self._last.checkpoint == newest.line_hash:
            return False
        self._last_request = now
        response = _request_stamp(self._url, newest.line, self._roots)
        self._last = Stamped(
            size=newest.checkpoint.size, checkpoint=newest.line_hash, at=now, response=response
        )
        path = self._folder / FILE
        path.touch(mode=0o600)
        offset, whole, _ = last_line(path)
        append_line(path, offset + len(whole), msgspec.json.encode(self._last) + b"\n")
        return True


def stamp_lines(folder: Path, start: int = 0) -> Iterator[tuple[Path, int, bytes]]:
    """Yield the file, offset and bytes of each complete line.

    `start` is a byte offset in `timestamps.ndjson`. Yield nothing if the folder has no file with time stamps.
    """
    own = folder / FILE
    parts = [] if own.exists() else sorted(folder.glob(f"*{PART}"))
    for path in parts or [own]:
        with suppress(FileNotFoundError):
            for offset, line in lines_of(path, 0 if parts else start):
                if line.endswith(b"\n"):
                    yield path, offset, line


def stamp_of(path: Path, offset: int, line: bytes) -> Stamped:
    """Decode a time stamp that was read at byte `offset` of `path`. Raises `LogDamaged`."""
    try:
        return msgspec.json.decode(line, type=Stamped)
    except UNREADABLE as error:
        raise LogDamaged(path, offset, f"not a time stamp: {error}") from error


def timestamps(folder: Path) -> Iterator[Stamped]:
    """Yield all time stamps of a log. Raises `LogDamaged`."""
    return (stamp_of(*line) for line in stamp_lines(folder))


def verify_timestamps(folder: Path, roots: Path, *, required: bool = False) -> tuple[int, list[SegmentFault]]:
    """Return the number of valid time stamps, and a fault for each invalid one.

    A time stamp is also invalid if its checkpoint is missing or was modified. If `required`, records of more than three
    days without a time stamp are a fault. Raises `OSError`, `LogDamaged` if a line is not a checkpoint, and `ValueError`
    if `roots` holds no certificates.
    """
    trusted = load_pem_x509_certificates(roots.read_bytes())
    checkpoints = {checkpoint.line_hash: checkpoint for checkpoint in signed_checkpoints(folder)}
    lines = list(stamp_lines(folder))
    faults = [fault for line in lines if (fault := _fault_of(line, checkpoints, trusted))]
    if required and not faults:
        begin = max((stamp_of(*line).size for line in lines), default=0) + 1
        if spans_more_than(_MAX_UNSTAMPED, folder, begin):
            what = (
                f"no time stamp covers record {begin} or later records, which are of more than three days: time stamps"
                " were removed, or the gate receives none (`time stamp failed` in its service log)"
            )
            return len(lines), [SegmentFault(str(folder / FILE), 0, begin, what, "missing_timestamp")]
    return len(lines) - len(faults), faults


def _fault_of(
    at: tuple[Path, int, bytes], checkpoints: Mapping[str, StoredCheckpoint], trusted: list[Certificate]
) -> SegmentFault | None:
    path, offset, line = at
    size, what = 0, "not a time stamp: the line was modified"
    with suppress(LogDamaged):
        stamp = stamp_of(path, offset, line)
        size, checkpoint = stamp.size, checkpoints.get(stamp.checkpoint)
        if (
            checkpoint
            and size == checkpoint.checkpoint.size
            and _is_valid(stamp.response, checkpoint.line, trusted)
        ):
            return None
        what = "the time stamp is invalid, or its checkpoint was modified or removed"
    return SegmentFault(str(path), offset, size, what, "broken_timestamp")


def _newest(path: Path) -> Stamped | None:
    """Return the newest time stamp, or None if there is none or it is unreadable."""
    try:
        offset, line, _ = last_line(path)
        return stamp_of(path, offset, line)
    except (FileNotFoundError, LogDamaged):
        return None


def _request_stamp(url: str, message: bytes, roots: list[Certificate]) -> bytes:
    query = TimestampRequestBuilder().data(message).nonce(nonce=True).cert_request(cert_request=True).build()
    headers = {"Content-Type": "application/timestamp-query"}
    try:
        with urlopen(Request(url, query.as_bytes(), headers), timeout=_TIMEOUT) as reply:  # noqa: S310 - URL from the configuration
            response: bytes = reply.read(_MAX_RESPONSE)
    except (OSError, HTTPException, ValueError) as error:
        raise NoTimestamp(f"{url}: {error}") from error
    try:
        decoded = decode_timestamp_response(response)
    except ValueError as error:
        raise NoTimestamp(f"{url}: the response is not a time stamp: {error}") from error
    if PKIStatus(decoded.status) != PKIStatus.GRANTED:
        raise NoTimestamp(f"{url} refused the request: {PKIStatus(decoded.status).name}")
    if decoded.tst_info.nonce != query.nonce or not _is_valid(response, message, roots):
        raise NoTimestamp(
            f"{url}: the time stamp is for other data, or its signer has no root in `timestamp_roots`"
        )
    return response


def _is_valid(response: bytes, message: bytes, roots: list[Certificate]) -> bool:
    """Return whether the response is a valid time stamp for `message`.

    The verifier also uses the certificates in the response, because the signer may have an intermediate certificate.
    """
    try:
        return (
            VerifierBuilder(roots=list(roots))
            .build()
            .verify_message(decode_timestamp_response(response), message)
        )
    except (VerificationError, ValueError):
        return False
