"""Detection of clock jumps, based on the stored time at which a gate last used the data folder.

Without the stored time, a clock set back while a gate is stopped would make an expired registry answer valid
again. A clock set forward would let retention destroy data too early. The data folder contains two files:

    clock.latest   the instant in milliseconds, 20 decimal digits; written durably by upkeep, once a second
    clock.ndjson   one JSON object per line: `jump` (the clock advanced by more than a day at once), `confirmed` (by whom and why)

Retention destroys nothing between a jump and its confirmation. If a gate was off for more than a day,
its next start records a jump too. Only a person can tell whether the gate was off or the clock was wrong.
"""

import os
from collections.abc import Callable
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
    """Raised if expired data must not be destroyed because a clock jump is unconfirmed."""

    component = "clock"


class Jump(Struct, frozen=True, kw_only=True, tag="jump", tag_field="type"):
    since: Instant
    to: Instant


class Confirmed(Struct, frozen=True, kw_only=True, tag="confirmed", tag_field="type"):
    """A person's confirmation that the clock showed the right time at the instant `at`.

    `since` is the last instant that was stored before the clock jump or, if no jump was recorded, before the
    confirmation.
    """

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
    """The clock records in a data folder, which several processes may share."""

    def __init__(self, data: Path) -> None:
        self._latest, self._journal = data / "clock.latest", data / "clock.ndjson"

    def latest(self) -> Instant:
        """Return the stored instant, or 0 if none is stored. Raises `OSError`."""
        try:
            return _instant(self._latest.read_bytes())
        except FileNotFoundError:
            return 0

    def jump(self) -> Jump | None:
        """Return the unconfirmed jump, or None. Raises `OSError`."""
        try:
            lines = self._journal.read_bytes().splitlines()
        except FileNotFoundError:
            return None
        last = next((event for line in reversed(lines) if (event := _event(line))), None)
        return last if isinstance(last, Jump) else None

    def advance(self, now: Instant) -> None:
        """Store `now` durably if it is later than the stored instant. Raises `OSError`.

        If the clock jumped, record the jump too.
        """
        with hold_lock(self._latest) as fd:
            latest = _instant(os.pread(fd, _DIGITS, 0))
            if now <= latest:
                return
            if latest and now - latest > DAY and self.jump() is None:
                self._note(
                    Jump(since=latest, to=now)
                )  # before the write, so that a crash in between does not lose the jump
            _write(fd, now)

    def confirm(self, now: Instant, by: str, reason: str) -> Confirmed:
        """Record that the clock is right at `now`. Raises `OSError`.

        The next jump is measured from `now`.
        """
        with hold_lock(self._latest) as fd:
            jump, latest = self.jump(), _instant(os.pread(fd, _DIGITS, 0))
            confirmed = Confirmed(at=now, since=jump.since if jump else latest, by=by, reason=reason)
            self._note(confirmed)
            _write(fd, now)
            return confirmed

    def refuse_jump(self, now: Instant) -> None:
        """Raise `ClockUnconfirmed` if there was an unconfirmed clock jump before `now`. Raises `OSError`."""
        jump, latest = self.jump(), self.latest()
        if jump is None and latest and now - latest > DAY:
            jump = Jump(since=latest, to=now)
        if jump is not None:
            raise ClockUnconfirmed(
                f"the clock jumped from {when(jump.since)} to {when(jump.to)}, so expired data is not destroyed. If the clock"
                ' is right, run `dialgate clock confirm --by NAME --reason "the gate was off"`'
            )

    def cutoff(self, now: Instant, span: Instant) -> Instant:
        """Return the cutoff for data older than `span`: normally `now - span`. Raises `OSError`.

        Time that an unconfirmed clock jump skipped does not count towards `span`. The cutoff is therefore earlier
        than normal until `span` has passed since the jump.
        """
        jump = self.jump()
        if jump is None or now - jump.to >= span:
            return now - span
        return min(jump.since + (now - jump.to), now) - span

    def _note(self, event: Jump | Confirmed) -> None:
        fd = os.open(self._journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(fd, b"\n" + _encode(event) + b"\n")  # a crash may have left an incomplete line
            os.fsync(fd)
        finally:
            os.close(fd)


def _instant(digits: bytes) -> Instant:
    """Return the instant, or 0 for a file that a crash left empty."""
    return int(digits) if digits.isdigit() else 0


def _write(fd: int, at: Instant) -> None:
    os.pwrite(fd, b"%0*d" % (_DIGITS, at), 0)
    os.fdatasync(fd)
