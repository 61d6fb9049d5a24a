r"""The append-only decision log, hash-chained and synced to disk before a response is sent.

If the log cannot be written, every call is denied.

A log is a folder of segments. Each segment is named by the sequence number of its first entry, for example
`0000000000000001.ndjson`, and has mode 0600. Every line of a segment is one JSON object in exactly this form:

    {"hash":"<64 hex digits>","entry":<body>}\n      hash = SHA-256(raw hash of the previous line, then body as stored)

The first line of a segment is its header. It is part of the chain but has no sequence number:

    {"type":"segment","format":1,"log":"9f2c01ab","first":1,"previous":"<hash of the previous line; 64 zeros for the first>",
     "opened_at":<ms>,"gate":{"<name>":"<version>"}}

An entry is a decision, the grounds of decisions (the facts and law that they share), or the outcome of a call. The
bodies are defined in `dialgate.core.model`. `verify` reads three of their fields: `type`, `seq` (1, 2, 3, … across
all segments) and the `allow` of a decision. A decision id is `<log>-<seq>`. A body is compact JSON, so it
contains no line break.

A later version can append fields to the header and to bodies. Any other change needs a new `format` number, and readers
reject an unknown format. Stored lines are never rewritten. Other files in the folder:

    <segment>.torn-1, …    unfinished lines removed by crash recovery
    .lock                  empty; the writer holds a lock on it
    ….new                  an unfinished segment
    .durable               the last entry known to be on disk (module `durable`)

The hash chain alone does not reveal that the log was truncated or completely replaced. Signed checkpoints in a separate
file (module `checkpoints`) reveal both changes if a copy of the last checkpoint is also kept elsewhere.
"""

from dialgate.decision_log.checkpoints import FILE as CHECKPOINTS
from dialgate.decision_log.checkpoints import (
    Checkpointer,
    StoredCheckpoint,
    last_checkpoint,
    make_checkpoint,
    signed_checkpoints,
)
from dialgate.decision_log.durable import durable
from dialgate.decision_log.merkle import MerkleSpan, Tree, leaf_hash
from dialgate.decision_log.segment import LogDamaged, LogLine, LogUnavailable, lines_of, segments
from dialgate.decision_log.segment_scan import SegmentFault
from dialgate.decision_log.verification import Progress, VerificationReport, verify
from dialgate.decision_log.writer import DecisionLog

__all__ = [
    "CHECKPOINTS",
    "Checkpointer",
    "DecisionLog",
    "LogDamaged",
    "LogLine",
    "LogUnavailable",
    "MerkleSpan",
    "Progress",
    "SegmentFault",
    "StoredCheckpoint",
    "Tree",
    "VerificationReport",
    "durable",
    "last_checkpoint",
    "leaf_hash",
    "lines_of",
    "make_checkpoint",
    "segments",
    "signed_checkpoints",
    "verify",
]  # fmt: skip
