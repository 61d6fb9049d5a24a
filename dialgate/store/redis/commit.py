"""The arguments of the script `commit.lua`."""

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

from dialgate.core.model import Instant

# A watched key with a value: its place, beginning with 1; the value that was read; and whether the value may expire.
KnownValue: TypeAlias = tuple[int, str, bool]


class Commit(Struct, frozen=True, kw_only=True):
    """The first argument: what one commit checks and writes.

    The script's keys, in this order: the hash of positions, the hash of durable sequences, the watched keys (first the
    subjects that get `lines`), the keys of the answers, and the index chunks of the attempts and of the answers. With
    an assumed reading, `watched` includes the answers.

    The script's other arguments are the hashes for each index chunk, and the values of the answers. They are bytes, and
    Redis unpacks only text.
    """

    log: str
    position: int  # recovery starts after this sequence
    lowest: int = 0  # of the counted attempts; 0 without attempts
    highest: int  # of everything in the commit
    fence: int  # 0 if the log has none
    durable: int = 0  # the last sequence on the log's disk
    committed: int  # the highest sequence that this gate has committed
    attempts_kept: Instant
    answers_kept: Instant
    watched: int = 0
    known: Sequence[KnownValue] = ()
    lines: Sequence[str] = ()
    answers: int = 0
    attempt_runs: Sequence[int] = ()  # byte offsets in the index chunks
    answer_runs: Sequence[int] = ()


pack: Final = msgspec.msgpack.Encoder().encode
