"""The newest instant that the gates of a data folder acted on, kept for their next start, and jumps of the clock.

Without it a clock set back while an idle gate is stopped would make an expired registry answer valid again, and one set forward
would let retention destroy what is not past its time. Two files in the data folder:

    clock.latest   the instant in milliseconds, 20 decimal digits; written once a second by upkeep, and durable
    clock.ndjson   one JSON object a line: `jump` (the clock went on by more than a day at once), `confirmed` (by whom and why)

Retention destroys nothing between a jump and its confirmation. A gate that was switched off for more than a day has jumped, too:
only a person can tell the two apart.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from dialgate.core.faults import Unavailable
from dialgate.core.model import DAY, Instant
from dialgate.core.responses import when
from dialgate.runtime.file_lock import hold_lock

_DIGITS: Final = 20
_encode: Final = msgspec.json.Encoder().encode


class ClockUnconfirmed(Unavailable):
    """The clock jumped, and retention waits for a person."""

    component = "clock"


class Jump(Struct, frozen=True, kw_only=True, tag="jump", tag_field="type"):
    """`since`: the last instant before it; `to`: the first after it."""

    since: Instant
    to: Instant


class Confirmed(Struct, frozen=True, kw_only=True, tag="confirmed", tag_field="type"):
    """A person said at `at` that the clock is right. `since`: the instant that was kept before."""

    at: Instant
    since: Instant
    by: str
    reason: str


_decode: Callable[[bytes], Jump | Confirmed] = msgspec.json.Decoder(Jump | Confirmed).decode


def _event(line: bytes) -> Jump | Confirmed | None:
    try:
        return _decode(line)
    except msgspec.DecodeError:
        return None


class KeptInstants:
    """Of one data folder, which several processes may share."""

    def __init__(self, data: Path) -> None:
        self._latest, self._journal = data / "clock.latest", data / "clock.ndjson"

    def latest(self) -> Instant:
        """0 if none is kept. Raises `OSError`."""
        try:
            return _instant(self._latest.read_bytes())
        except FileNotFoundError:
            return 0

    def jump(self) -> Jump | None:
        """The jump that is not confirmed. Raises `OSError`."""
        try:
            lines = self._journal.read_bytes().splitlines()
        except FileNotFoundError:
            return None
        last = next((event for line in reversed(lines) if (event := _event(line))), None)
        return last if isinstance(last, Jump) else None

    def advance(self, now: Instant) -> None:
        """Keep `now`, if it is newer. Durable on return. Raises `OSError`."""
        with self._held() as fd:
            latest = _instant(os.pread(fd, _DIGITS, 0))
            if now <= latest:
                return
            if latest and now - latest > DAY and self.jump() is None:
                self._note(Jump(since=latest, to=now))  # first: after a crash in between it is found again
            _write(fd, now)

    def confirm(self, now: Instant, by: str, reason: str) -> Confirmed:
        """Record that the clock is right at `now`, from where retention and the next start go on. Raises `OSError`."""
        with self._held() as fd:
            jump, latest = self.jump(), _instant(os.pread(fd, _DIGITS, 0))
            confirmed = Confirmed(at=now, since=jump.since if jump else latest, by=by, reason=reason)
            self._note(confirmed)
            _write(fd, now)
            return confirmed

    def refuse_jump(self, now: Instant) -> None:
        """Raise `ClockUnconfirmed` if an unconfirmed jump lies between what was kept and `now`. Raises `OSError`."""
        jump, latest = self.jump(), self.latest()
        if jump is None and latest and now - latest > DAY:
            jump = Jump(since=latest, to=now)
        if jump is not None:
            raise ClockUnconfirmed(
                f"the clock went from {when(jump.since)} to {when(jump.to)} at once, so nothing past its time is destroyed. If"
                ' the clock is right, run `dialgate clock confirm --by NAME --reason "the gate was off"`'
            )

    def elapsed(self, now: Instant, span: Instant) -> Instant:
        """The newest instant that `span` has certainly passed since, whether a jump was real or not. Raises `OSError`."""
        jump = self.jump()
        if jump is None or now - jump.to >= span:
            return now - span
        return min(jump.since + (now - jump.to), now) - span

    @contextmanager
    def _held(self) -> Iterator[int]:
        with hold_lock(self._latest) as fd:
            yield fd

    def _note(self, event: Jump | Confirmed) -> None:
        fd = os.open(self._journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(fd, b"\n" + _encode(event) + b"\n")  # a crash may have left half a line before it
            os.fsync(fd)
        finally:
            os.close(fd)


def _instant(digits: bytes) -> Instant:
    """0 for a file that a crash left empty."""
    return int(digits) if digits.isdigit() else 0


def _write(fd: int, at: Instant) -> None:
    os.pwrite(fd, b"%0*d" % (_DIGITS, at), 0)
    os.fdatasync(fd)
