"""The decision log: append-only, hash-chained, fsynced. No log, no call: an answer leaves after `sync`, or is a deny.

A folder of segments, each named by the sequence number of its first entry, `0000000000000001.ndjson`, mode 0600. Every
line, of every segment, is one JSON object, byte for byte

    {"hash":"<64 hex digits>","entry":<body>}\\n      hash = SHA-256(raw hash of the line before, then body as stored)

The first line of a segment is its header, part of the chain like any other but without a sequence number:

    {"type":"segment","format":1,"log":"9f2c01ab","first":1,"previous":"<hash of the line before; 64 zeros for the first>",
     "opened_at":<ms>,"gate":{"<name>":"<version>"}}

All other bodies belong to the service (`dialgate.core.model`: grounds, decision, outcome). This module reads of them `type`,
`seq` (1, 2, 3, … across all segments) and, of a decision, `allow`. A decision's id is `<log>-<seq>`. A body holds no line break: JSON encoders write none.
How it may change: fields are appended, to the header and to bodies; anything else is a new `format`, and a reader refuses
a format that it does not know. Nothing stored is ever rewritten. `<segment>.torn-1`, … keep what a repair cut off;
`.lock` is empty and held by the one writer; `….new` is a segment that was not finished; `.durable` says how far it is on the
disk (`durable`).

What the chain cannot show is that its end is missing, or that all of it was written anew: signed checkpoints do, which
stand beside it in a file of their own (`checkpoints`), for as long as their last is kept elsewhere too.
"""

from dialgate.decision_log.checkpoints import FILE as CHECKPOINTS
from dialgate.decision_log.checkpoints import (
    Checkpoint,
    Checkpointer,
    Stored,
    cover,
    last_checkpoint,
    signed_checkpoints,
)
from dialgate.decision_log.durable import durable
from dialgate.decision_log.merkle import Span, Tree, leaf_hash
from dialgate.decision_log.reader import Line, entries, find
from dialgate.decision_log.segment import LogDamaged, LogUnavailable, lines_of, segments
from dialgate.decision_log.segment_scan import Fault, OpenSegment
from dialgate.decision_log.syncing import syncing
from dialgate.decision_log.verify import Progress, Report, verify
from dialgate.decision_log.writer import DecisionLog, LogPosition

__all__ = [
    "CHECKPOINTS", "Checkpoint", "Checkpointer", "DecisionLog", "Fault", "Line", "LogDamaged", "LogPosition", "LogUnavailable",
    "OpenSegment", "Progress", "Report", "Span", "Stored", "Tree", "cover", "durable", "entries", "find", "last_checkpoint",
    "leaf_hash", "lines_of", "segments", "signed_checkpoints", "syncing", "verify",
]  # fmt: skip
