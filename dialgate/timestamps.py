"""Time stamps of checkpoints by an authority outside (RFC 3161): proof of when, which nobody here can make later.

`timestamps.ndjson` in the log's folder, mode 0600, a line for each:

    {"size":<entries>,"checkpoint":"<SHA-256 of the checkpoint's line>","at":<ms>,"response":"<TimeStampResp in DER, base64>"}

What was stamped is the checkpoint's line, its line break included. How it may change: fields are appended. A last line that
a crash left unfinished is cut off. `openssl ts -verify` checks a response too.
"""

import os
from collections.abc import Iterator
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

from dialgate.decision_log import Stored, last_checkpoint, lines_of, signed_checkpoints
from dialgate.model import Instant

FILE = "timestamps.ndjson"
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
        kept = list(timestamps(folder))
        self._last = kept[-1] if kept else None
        self._asked = 0

    def stamp(self, now: Instant) -> bool:
        """Whether one was due and is kept. Blocks. Raises `NoTimestamp`, `LogDamaged`, `OSError`; then the next attempt
        is an interval away."""
        newest = last_checkpoint(self._folder)
        if newest is None or now - self._asked < self._interval:
            return False
        if self._last and self._last.checkpoint == newest.line_hash:
            return False
        self._asked = now
        response = _asked(self._url, _line(newest), self._roots)
        self._last = Stamped(
            size=newest.checkpoint.size, checkpoint=newest.line_hash, at=now, response=response
        )
        _append(self._folder / FILE, msgspec.json.encode(self._last) + b"\n")
        return True


def timestamps(folder: Path) -> Iterator[Stamped]:
    """Whole lines; none where there is no file. Raises `msgspec.DecodeError`."""
    with suppress(FileNotFoundError):
        for _, line in lines_of(folder / FILE):
            if line.endswith(b"\n"):
                yield msgspec.json.decode(line, type=Stamped)


def unproved(folder: Path, roots: Path) -> list[int]:
    """The sizes of the checkpoints whose stamp does not hold, or that are no longer there as they were stamped."""
    trusted = load_pem_x509_certificates(roots.read_bytes())
    held = {each.line_hash: each for each in signed_checkpoints(folder)}
    return [
        each.size
        for each in timestamps(folder)
        if each.checkpoint not in held or not _holds(each.response, _line(held[each.checkpoint]), trusted)
    ]


def _line(stored: Stored) -> bytes:
    return b'{"signature":"%b","checkpoint":%b}\n' % (stored.signature.hex().encode(), stored.body)


def _asked(url: str, message: bytes, roots: list[Certificate]) -> bytes:
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
        whole = file.read().rpartition(b"\n")
        file.seek(len(whole[0]) + len(whole[1]))
        file.truncate()
        file.write(line)
        file.flush()
        os.fsync(fd)
