"""The state of data subjects, derived from their ledger entries and counted attempts."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from msgspec import Struct

from dialgate.core.model import Instant, Known


class Remembered(Struct, frozen=True, gc=False):
    """A response that is repeated if the same request arrives again within a day.

    `key` is a hash of client, call id and content. `answer` is the decision without its id and number, and
    `decision` is the id.
    """

    key: bytes
    at: Instant
    answer: bytes
    decision: str


class Reading(Struct, frozen=True, gc=False):
    """The states of `subjects` and the remembered answers for the requested keys, each in the order requested.

    A commit names the reading on which its decisions are based. An `assumed` reading was not read from the store:
    it assumes that no subject is known and no answer is remembered, and the commit checks this.
    """

    subjects: Sequence[bytes]
    known: Sequence[Known]
    answers: Sequence[Remembered | None]
    assumed: bool = False


class SubjectStates(Protocol):
    """Subject states, read for decisions and for ledger writes."""

    async def read(
        self, subjects: Sequence[bytes], keys: Sequence[bytes] = (), since: Instant = 0
    ) -> Reading:
        """Return the state of each subject with its attempts (newest last), and the answers under `keys`.

        Answers before `since` are not returned. The state of an unknown subject is `Known()` with the ledger's
        highest sequence number.

        An answer from another process is returned only if that process has written the decision to its log on disk.
        Until then, the write can still fail. The read waits briefly for a write that has not finished.
        """


class KnownSubjects(Protocol):
    """The subjects of a store, for work on many numbers."""

    def subjects(self) -> AsyncIterator[tuple[bool, Sequence[bytes]]]:
        """Yield the subjects with an entry or an attempt in parts, in any order. One may occur twice.

        Each part says whether its subjects may have entries that bind every controller.
        """
