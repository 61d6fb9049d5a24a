"""The state of data subjects, derived from their ledger entries and counted attempts."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from dialgate.core.model import Instant, Known


class Remembered(Struct, frozen=True, gc=False):
    """A response to repeat for a day if the same request arrives again.

    `key`: hash of client, call id and content. `answer`: the decision without its id and number. `decision`:
    its id.
    """

    key: bytes
    at: Instant
    answer: bytes
    decision: str


class Reading(Struct, frozen=True, gc=False):
    """The state of `subjects` and the answers under the requested keys, in order.

    A commit refers to the reading that its decisions are based on.
    """

    subjects: Sequence[bytes]
    known: Sequence[Known]
    answers: Sequence[Remembered | None]


class SubjectStates(Protocol):
    """Subject states, read for decisions and for ledger writes."""

    async def read(
        self, subjects: Sequence[bytes], keys: Sequence[bytes] = (), since: Instant = 0
    ) -> Reading:
        """Return the state of each subject with its attempts (newest last), and the answers under `keys`.

        Answers before `since` are not returned. An unknown subject is `Known()` with the current sequence. An
        answer in another process's log is returned only if it is known to be on disk there: before that, its
        gate may still fail to record the answer. The read waits briefly for such an answer.
        """
