"""The state of data subjects: what their ledger entries and counted attempts amount to."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from dialgate.core.model import Instant, Known


class Remembered(Struct, frozen=True, gc=False):
    """A response to repeat for a day when the same request arrives again. `key`: hash of client, call id and content.
    `answer`: the decision without its id and number. `decision`: that id."""

    key: bytes
    at: Instant
    answer: bytes
    decision: str


class Reading(Struct, frozen=True, gc=False):
    """What a store held of `subjects` and under the requested keys, in order. A commit names the reading it rests on."""

    subjects: Sequence[bytes]
    known: Sequence[Known]
    answers: Sequence[Remembered | None]


class SubjectStates(Protocol):
    """The read that both a decision and a ledger write start from."""

    async def read(
        self, subjects: Sequence[bytes], keys: Sequence[bytes] = (), since: Instant = 0
    ) -> Reading:
        """Return the state of each subject with its attempts (newest last), and the answers remembered under `keys` at or
        after `since`. An unknown subject is `Known()` with the current sequence. An answer in the log of another process is
        returned only if it is known to be on that log's disk: until then its gate may fail to record it. The read waits a moment
        for that."""
