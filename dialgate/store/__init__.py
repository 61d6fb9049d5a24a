"""What changes while the gate runs: the ledger, the attempts, the call lists, the caller-ID proofs, remembered answers.

One Protocol, for engines that differ. Every promise here is kept by one contract suite that runs on each of them:
a write is acknowledged only when it is durable; a commit either reserves an attempt against the very state that was
read, or reports that it has changed; a store that cannot be reached raises `StoreUnavailable`, soon.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from dialgate.core.faults import Unavailable
from dialgate.core.ledger_events import Draft, Entry
from dialgate.core.model import Attempt, Basis, Instant, Known, Origin, Result


class StoreUnavailable(Unavailable):
    """The store cannot be read or written now. The text says why."""

    component = "store"


def cut_short(newest: int, known: int) -> StoreUnavailable:
    """For a ledger that ends before what is known of it: who reads on would find no stop where there is one."""
    return StoreUnavailable(
        f"the ledger ends at {newest}, and is known to have come to {known}: the store was emptied, is an older copy, or is"
        " another than before. Bring back what it held, or copy it with `dialgate store copy`; only if all that is lost is meant"
        " to be, delete `ledger.durable` in the data folder, and start again"
    )


def refuse_if_short(newest: int, known: int) -> None:
    """Raises `StoreUnavailable`."""
    if newest < known:
        raise cut_short(newest, known)


class Reservation(Struct, frozen=True, gc=False):
    """An attempt to be counted for `subject`, if what is known of `watch` is still what was read: every subject whose
    state the decision rests on (the controller's and the one for every controller)."""

    subject: bytes
    attempt: Attempt
    watch: tuple[bytes, ...]


class Remembered(Struct, frozen=True, gc=False):
    """An answer to be given again to the same question (`key`: a hash of client, call id and content) for a day.
    `answer` tells the decision but for its id and the number; `decision` is that id."""

    key: bytes
    at: Instant
    answer: bytes
    decision: str


class Reading(Struct, frozen=True, gc=False):
    """What a store held of `subjects` and under the keys asked for, in order. A commit names the reading it rests on."""

    subjects: Sequence[bytes]
    known: Sequence[Known]
    answers: Sequence[Remembered | None]


class Position(Struct, frozen=True):
    """How far a decision log has got once what is committed is in it; after a crash, log and store are settled from here. `first`: where
    that begins; if it is not told, after `seq`."""

    log: str
    seq: int
    first: int = 0


class CallList(Struct, frozen=True, kw_only=True):
    """A call list that was loaded. Its numbers lie in the number set `file`, whose tags are places in `bases`. `stated`: for
    each of these whether the rows themselves said `directory`; empty for a list of an earlier version."""

    id: str
    controller: str
    campaigns: tuple[str, ...]
    bases: tuple[Basis, ...]
    origin: Origin
    file: str
    sha256: str
    numbers: int
    loaded_at: Instant
    actor: str
    retired_at: Instant = 0
    stated: tuple[bool, ...] = ()


class CallerIdProof(Struct, frozen=True, kw_only=True):
    """That a call back to `caller_id` was answered, or attested to be, at `at`; `answered` false: it was not."""

    controller: str
    caller_id: str
    at: Instant
    kind: str
    answered: bool = True
    evidence: str = ""
    actor: str = ""


class Delivery(Struct, frozen=True, kw_only=True):
    """How far a webhook has been told: up to ledger entry `seq`. `failing_since`: the instant from which on it has not taken
    the next message, after `tries`; `dead`: messages given up, the last of them about entries after `dead_after`."""

    webhook: str
    seq: int
    tries: int = 0
    failing_since: Instant = 0
    dead: int = 0
    dead_after: int = 0


class Presence(Struct, frozen=True, kw_only=True):
    """A gate that shares the store, as it was at `at`. `config`: hash of what all should have alike. `log`: the name of what it
    writes, in the folder `place`."""

    node: str
    config: str
    version: str
    at: Instant
    laws: dict[str, str] = {}
    log: str = ""
    place: str = ""

    @property
    def gate(self) -> str:
        """Its node, without the worker's number."""
        return self.node.partition("/")[0]


class Muster(Struct, frozen=True):
    """Every process of a gate that was ever there and did not leave, by name; and when a configuration, a version or a gate
    (`config:HASH`, `version:V`, `node:NAME`) was first seen."""

    present: list[Presence]
    seen: dict[str, Instant]

    @property
    def gates(self) -> set[str]:
        """By their `node`, those that left too: each has a log that nobody else has."""
        left = {name.removeprefix("node:") for name in self.seen if name.startswith("node:")}
        return left | {each.gate for each in self.present}


@runtime_checkable
class Shared(Protocol):
    """What a store that several gates share does besides."""

    async def muster(self, presence: Presence | None = None) -> Muster:
        """After `presence` has been noted, if given."""

    async def dismiss(self, node: str) -> None:
        """It ended as it should, and comes again or not."""

    async def forget(self, gate: str) -> None:
        """It will not come again, and is missed by nobody."""

    async def claim(self, mark: str) -> bool:
        """Whether the store is, from now on at the latest, of those whose keys have this mark."""

    async def lead(self, task: str, node: str, span: Instant) -> bool:
        """Whether `task` is the node's now; then for `span` milliseconds more."""

    async def unasked(self) -> int:
        """How many replicas could take the master's place besides those that the settings ask for. From then on they are
        waited for as well."""


class Store(Protocol):
    async def read(
        self, subjects: Sequence[bytes], keys: Sequence[bytes] = (), since: Instant = 0
    ) -> Reading:
        """What is known of each subject, attempts (newest last) included, and the answers remembered under `keys` at or
        after `since`. Unknown subjects are `Known()`, but for the sequence."""

    async def commit(
        self,
        reading: Reading,
        reservations: Sequence[Reservation],
        remembered: Sequence[Remembered],
        position: Position,
    ) -> bool:
        """In one atomic step: count every attempt, if its watched subjects are as `reading`, which holds them, saw them;
        remember the answers; note the position. False where something was not as it was read: then *nothing* was written.

        The reservations of one commit do not make each other stale: who decides a batch reckons with what it has
        already allowed. An attempt counted again is counted once; where a decision's id comes again with another
        attempt, the later stands (the earlier was never recorded). Of two answers to one question the later `at`
        stands."""

    async def release(self, decisions: Sequence[str], position: Position) -> None:
        """Uncount attempts whose decision could not be recorded, forget the answers remembered for them, and go back to
        `position`, for the log will give its next sequences to others. Where this raises, `settle` must run before
        the log goes on: the answers would be given again."""

    async def append(self, drafts: Sequence[Draft]) -> list[int]:
        """Write to the ledger, durably, all or nothing. Returns the sequences, which grow without end.

        Of nothing it returns once everything that could be read until now is durable: what is read may not be yet, and who
        answers "that stands already" acknowledges it. Other writers wait while it writes: a bulk import sends some thousand drafts at a time, not all at once."""

    async def remove(self, seqs: Sequence[int], drafts: Sequence[Draft] = ()) -> list[int]:
        """Take these entries out of the ledger, for good, and append `drafts`, in one step. Their bytes are overwritten.
        What had been read of their subjects is stale from then on. Returns the new sequences."""

    async def entered(self, subjects: Sequence[bytes]) -> set[bytes]:
        """Those of them of which the ledger holds an entry: of most that a file brings it holds none, and to say so costs
        less than to read them."""

    async def history(self, subject: bytes) -> list[Entry]:
        """Every ledger entry of one subject, oldest first."""

    async def since(self, seq: int, limit: int) -> list[Entry]:
        """Ledger entries after `seq`, oldest first, for whoever follows the ledger."""

    async def attempt(self, decision: str) -> tuple[bytes, Attempt] | None:
        """The attempt that a decision counted, and for which subject."""

    async def drop_attempts(self, before: Instant, *, drop: bool) -> int:
        """How many attempts are older; with `drop`, they are gone on return. An abandoned call stays, however old, until a
        later call to its subject was answered or abandoned: a rule asks for an agent until then."""

    async def result(self, decision: str, result: Result, at: Instant) -> bool:
        """Note what became of an allowed call; of two results the later `at` stands. False where no such attempt is
        counted."""

    async def lists(self) -> list[CallList]: ...

    async def add_list(self, call_list: CallList) -> bool:
        """False where its controller has one of this id, retired or not; then nothing is written."""

    async def replace_list(self, call_list: CallList, sha256: str) -> bool:
        """Its file takes the place of that of the list of its controller and id, if that still has this sum. What else is known of
        the list stays as it is."""

    async def retire_list(self, controller: str, name: str, at: Instant) -> CallList | None:
        """The list as it stands then, with the instant of its first retirement; None where there is none."""

    async def proofs(self) -> list[CallerIdProof]:
        """The newest proof of each (controller, caller ID)."""

    async def put_proof(self, proof: CallerIdProof) -> None: ...

    async def deliveries(self) -> list[Delivery]: ...

    async def put_delivery(self, delivery: Delivery) -> None: ...

    async def positions(self) -> dict[str, int]:
        """How far each decision log had got at the newest commit."""

    async def settle(
        self, log: str, head: int, attempts: Sequence[tuple[bytes, Attempt]], answers: Sequence[Remembered]
    ) -> None:
        """After a crash: drop the attempts and answers of `log` beyond its `head` (a decision's id is LOG-SEQ), count
        and remember those the store had lost, and note `head` as the position. Idempotent; keeps what results say."""

    async def ping(self) -> int:
        """The newest sequence that the ledger ever gave. Raises `StoreUnavailable` unless a read and a write would work now, and
        the ledger reaches what it is held to."""

    def hold_to(self, seq: int) -> None:
        """The ledger is known to have come so far: where it does not, nothing is read any more, and nothing entered: it would
        soon be as long again."""

    async def maintain(self, before: Instant) -> None:
        """Drop remembered answers older than `before`, and keep the store small and quick. For a regular tick."""

    async def close(self) -> None: ...
