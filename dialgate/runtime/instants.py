"""Detection of clock jumps, based on the stored time at which a gate last used the data folder.

Without the stored time, a clock set back while a gate is stopped would make an expired registry answer valid
again. A clock set forward would let retention destroy data too early. The data folder contains two files:

    clock.latest   the instant in milliseconds, 20 decimal digits; written durably by upkeep, once a second
    clock.ndjson   one JSON object per line: `jump` (the clock advanced by more than a day at once)

Retention destroys nothing for two days after a jump, or for as long as the jump skipped if that is longer. If a gate was off for more than a day, its next start is a jump too,
because a gate cannot distinguish that from a wrong clock. A clock that is ahead by more than the validity of registry answers
denies every call, so somebody corrects it within these days. One that is ahead by less hardly shortens a retention period.
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
_SETTLED: Final = 2 * DAY
_encode: Final = msgspec.json.Encoder().encode


class ClockJumped(Unavailable):
    """Raised if expired data must not be destroyed yet, because the clock jumped."""

    component = "clock"


class Jump(Struct, frozen=True, kw_only=True, tag="jump", tag_field="type"):
    since: Instant
    to: Instant

    def settled_at(self) -> Instant:
        """Return when the clock counts as right again: after two days, or after as long as the jump skipped."""
        return self.to + max(_SETTLED, self.to - self.since)


_decode: Callable[[bytes], Jump] = msgspec.json.Decoder(Jump).decode


def _jump(line: bytes) -> Jump | None:
    try:
        return _decode(line)
    except msgspec.DecodeError:  # cut off by a crash, or from an earlier version
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

    def last_jump(self) -> Jump | None:
        """Return the last jump, or None if there was none. Raises `OSError`."""
        jumps = self._jumps()
        return jumps[-1] if jumps else None

    def _jumps(self) -> list[Jump]:
        try:
            lines = self._journal.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        return [jump for line in lines if (jump := _jump(line))]

    def recent_jump(self, now: Instant) -> Jump | None:
        """Return a jump because of which retention still waits, the one that ends last. Raises `OSError`."""
        latest = self.latest()
        if latest and now - latest > DAY:
            return Jump(since=latest, to=now)
        # A jump to a later time than now was a wrong clock, which has been corrected.
        past = [jump for jump in self._jumps() if jump.to <= now < jump.settled_at()]
        return max(past, key=Jump.settled_at, default=None)

    def advance(self, now: Instant) -> None:
        """Store `now` durably if it is later than the stored instant. Raises `OSError`.

        If the clock jumped, record the jump too.
        """
        with hold_lock(self._latest) as fd:
            latest = _instant(os.pread(fd, _DIGITS, 0))
            if now <= latest:
                return
            if latest and now - latest > DAY:
                self._note(
                    Jump(since=latest, to=now)
                )  # before the write, so that a crash in between does not lose the jump
            _write(fd, now)

    def refuse_jump(self, now: Instant) -> None:
        """Raise `ClockJumped` if retention still waits because the clock jumped. Raises `OSError`."""
        if (jump := self.recent_jump(now)) is not None:
            raise ClockJumped(
                f"the clock jumped from {when(jump.since)} to {when(jump.to)}, so no expired data is destroyed until"
                f" {when(jump.settled_at())}. If the clock is wrong, correct it"
            )

    def cutoff(self, now: Instant, span: Instant) -> Instant:
        """Return the cutoff for data older than `span`: normally `now - span`. Raises `OSError`.

        Time that the last clock jump skipped does not count towards `span`. The cutoff is therefore earlier
        than normal until `span` has passed since the jump.
        """
        jump = self.last_jump()
        if jump is None or now - jump.to >= span:
            return now - span
        return min(jump.since + (now - jump.to), now) - span

    def _note(self, event: Jump) -> None:
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
