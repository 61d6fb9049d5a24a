"""The arguments of the script `commit.lua`."""

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

from dialgate.core.model import Instant
from dialgate.store.redis.sequence_index import CHUNK_BYTES

# A watched key with a value: its place, beginning with 1, and whether a subject that gets a line may expire.
KnownValue: TypeAlias = tuple[int, bool]


class Commit(Struct, frozen=True, kw_only=True):
    """The first argument: what one commit checks and writes. Sequences begin with 1.

    The script's keys, in this order: the hashes of positions, of durable sequences and of terms, the watched keys (first the
    subjects that get attempts), the keys of the answers, and for each run of attempts, then of answers, its index chunk.
    Answers that replace what was read are watched too: their keys are the last watched keys and the first of the answers.

    The script's other arguments are the hashes of each run, the values of the answers, the known values, the new attempts of
    each subject, and the terms. They are bytes, for which Redis's cmsgpack has no type.
    """

    log: str
    position: int  # recovery starts after this sequence
    lowest: int = 0  # of the counted attempts; 0 without attempts
    highest: int  # of everything in the commit
    fence: int  # the fence that this gate has set; 0 if it has set none
    durable: int = 0  # the last sequence on the log's disk
    committed: (
        int  # the highest sequence that this gate has committed; an older copy of the store has a lower one
    )
    attempts_kept: Instant
    answers_kept: Instant
    watched: int = 0  # number of watched keys
    known: Sequence[KnownValue] = ()
    subjects: int = 0  # number of subjects that get attempts
    answers: int = 0  # number of answers
    attempt_runs: Sequence[int] = ()  # `Run.begins` of each run
    answer_runs: Sequence[int] = ()
    chunk_bytes: int = CHUNK_BYTES


pack: Final = msgspec.msgpack.Encoder().encode
