"""The decision log: append-only, hash-chained, fsynced. No log, no call: an answer leaves after `sync`, or is a deny.

A folder of segments, each named by the sequence number of its first entry, `0000000000000001.ndjson`, mode 0600. Every
line, of every segment, is one JSON object, byte for byte

    {"hash":"<64 hex digits>","entry":<body>}\\n      hash = SHA-256(raw hash of the line before, then body as stored)

The first line of a segment is its header, part of the chain like any other but without a sequence number:

    {"type":"segment","format":1,"log":"9f2c01ab","first":1,"previous":"<hash of the line before; 64 zeros for the first>",
     "opened_at":<ms>,"gate":{"<name>":"<version>"}}

All other bodies belong to the service (`dialgate.model`: grounds, decision, outcome). This module reads of them `type`,
`seq` (1, 2, 3, … across all segments) and, of a decision, `allow`. A decision's id is `<log>-<seq>`. A body holds no line break: JSON encoders write none.
How it may change: fields are appended, to the header and to bodies; anything else is a new `format`, and a reader refuses
a format that it does not know. Nothing stored is ever rewritten. `<segment>.torn-1`, … keep what a repair cut off;
`.lock` is empty and held by the one writer; `….new` is a segment that was not finished.

What the chain cannot show is that its end is missing, or that all of it was written anew: keep `Report.head` elsewhere.
"""

from dialgate.decision_log.reader import Fault, Line, Report, entries, find, verify
from dialgate.decision_log.segment import LogDamaged, LogUnavailable
from dialgate.decision_log.syncing import syncing
from dialgate.decision_log.writer import DecisionLog, Written

__all__ = [
    "DecisionLog", "Fault", "Line", "LogDamaged", "LogUnavailable", "Report", "Written", "entries", "find", "syncing",
    "verify",
]  # fmt: skip
