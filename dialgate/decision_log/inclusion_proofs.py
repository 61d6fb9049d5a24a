"""Proofs that a signed checkpoint covers entries (RFC 6962, 2.1.1), for readers without the log."""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path

from msgspec import Struct

from dialgate.core.model import DAY
from dialgate.core.refusal import Refused
from dialgate.decision_log import MerkleSpan, StoredCheckpoint, Tree, leaf_hash, signed_checkpoints
from dialgate.decision_log.archive import Segments


class NoEvidence(Refused):
    """Raised if the evidence for an entry cannot be produced. The message gives the reason."""

    def __init__(self, message: str) -> None:
        super().__init__("evidence.missing", message, status=409)


class Proved(Struct, frozen=True, kw_only=True):
    """An entry as stored, with its proof.

    `checkpoint` is an index into `Proofs.used`. `path` is the audit path, as hashes in hex.
    """

    seq: int
    body: str
    checkpoint: int
    path: list[str]


class Proofs(Struct, frozen=True):
    used: list[StoredCheckpoint]
    entries: list[Proved]

    def checkpoints(self) -> list[dict[str, str]]:
        """Return the checkpoints as they are written in an evidence bundle."""
        return [{"body": entry.body.decode(), "signature": entry.signature.hex()} for entry in self.used]


class Chain:
    """The log in one folder, with its checkpoints. Raises `LogDamaged`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stored = signed_checkpoints(folder)
        self._sizes = [entry.checkpoint.size for entry in self._stored]
        self.covered = self._sizes[-1] if self._sizes else 0

    @property
    def log(self) -> str:
        """The log name, or "" if the log has no checkpoint yet."""
        return self._stored[-1].checkpoint.log if self._stored else ""

    def prove(self, together: Iterable[tuple[int, ...]], stamped: Collection[str] = ()) -> Proofs:
        """Return inclusion proofs for groups of entries, with one checkpoint for each group. Raises `NoEvidence`.

        Each group in `together` is a tuple of sequence numbers in ascending order. Checkpoints with a time stamp are
        preferred; `stamped` holds the hashes of their lines.
        """
        covering = self._covering(together, stamped)
        return Proofs(
            [self._stored[place] for place in covering],
            [
                proof
                for index, (place, seqs) in enumerate(covering.items())
                for proof in self._paths(place, seqs, index)
            ],
        )

    def _covering(
        self, together: Iterable[tuple[int, ...]], stamped: Collection[str]
    ) -> Mapping[int, list[int]]:
        """Choose a checkpoint for each group of entries. Return the entries' sequence numbers by checkpoint index."""
        shared: dict[int, set[int]] = {}
        for seqs in together:
            if seqs[-1] > self.covered:
                raise NoEvidence(
                    f"record {seqs[-1]} is not covered by a signed checkpoint yet: wait for the gate's next checkpoint"
                    " (`checkpoint_seconds`), or stop the gate, which then signs one that covers all records"
                )
            place = self._best(stamped, bisect_left(self._sizes, seqs[-1]))
            shared.setdefault(place, set()).update(seqs)
        return {place: sorted(seqs) for place, seqs in sorted(shared.items())}

    def _best(self, stamped: Collection[str], first: int) -> int:
        """Return the index of the first checkpoint with a time stamp, starting the search at index `first`.

        The search ends a day after the checkpoint at `first`, because a proof requires reading all entries up to the
        checkpoint. Return `first` if the search finds no time stamp.
        """
        entries = self._stored
        until = entries[first].checkpoint.at + DAY
        near = takewhile(lambda place: entries[place].checkpoint.at <= until, range(first, len(entries)))
        return next((place for place in near if entries[place].line_hash in stamped), first)

    def _paths(self, place: int, seqs: Sequence[int], index: int) -> Iterator[Proved]:
        """Yield, for each entry in `seqs`, a proof that the checkpoint `self._stored[place]` covers the entry.

        Each proof contains `index`, the checkpoint's index in the evidence bundle. Reading starts after the last
        checkpoint before these entries, because that checkpoint's tree peaks represent all earlier entries.
        """
        checkpoint = self._stored[place].checkpoint
        before = bisect_left(self._sizes, seqs[0]) - 1
        tree = Tree(self._stored[before].checkpoint.span() if before >= 0 else MerkleSpan())
        numbers, bodies = frozenset(seqs), dict[int, bytes]()
        for line in Segments(self.folder).lines(tree.size + 1):
            tree.add(leaf_hash(line.body))
            if line.seq in numbers:
                bodies[line.seq] = line.body
            if line.seq == checkpoint.size:
                break
        if tree.root().hex() != checkpoint.root:
            raise NoEvidence(
                f"the log up to record {checkpoint.size} does not match its checkpoint: run `dialgate log verify`"
            )
        for seq in seqs:
            path = [digest.hex() for digest in tree.path(seq - 1)]
            yield Proved(seq=seq, body=bodies[seq].decode(), checkpoint=index, path=path)
