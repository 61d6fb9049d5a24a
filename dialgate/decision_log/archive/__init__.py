"""Packed segments: closed segments of the decision log, compressed to a fifth of their size.

A packed segment is stored in the same folder as the segments of `dialgate.decision_log`, with the same stem and mode 0600:

    0000000000000001.parquet   the entries in order, one per row (Parquet, zstd, page checksums)
    0000000000000001.sha256    the SHA-256 of that file, in the format that `sha256sum --check` reads
    0000000000000001.index.npy the rows of decisions and reports (NumPy, uint32 of shape (2, n))

DuckDB, polars and pyarrow read all columns:

    seq, at, type                               `at` is null for grounds, because the decision contains the time
    number, nonce, sealed, question             the keyed hash; the sealed number in two parts; the hash of the question
    grounds, allow, client, interface, call_id  as in `dialgate.core.model.Decided`
    controller, campaign, country, reason       from the grounds of the decision; `reason` is the first code of a deny
    body                                        the stored entry, if the other columns do not reproduce it
    rest                                        the other fields of the decision, as JSON (from format 2 on)
    reasons, basis, caller_id, law              from the grounds of the decision (see `dialgate.decision_log.records.searchable`)
    decision, result                            the id of the decision, or of that whose outcome this is; the reported result
    shadow                                      as in `dialgate.core.model.Decided`
    lists, agent                                the call lists, from the grounds; as in `dialgate.core.model.Decided`

Those from `reasons` on were appended to format 2, `agent` last. Files without them are read entry by entry where one of them is needed, and `nonce` has an
encoding in them that DuckDB and polars refuse.

The metadata contains `dialgate.format` (2), `dialgate.header` (the body of the segment header) and `dialgate.hashes`:
in hex, the hashes of the header, of every 1,024th entry and of the last entry. All other hashes are computed when the
segment is read, so a modification is detected at the next stored hash.

An index is an array. Row 0 holds the first four bytes of each key (big-endian), in ascending order. Row 1 holds the
row of each entry in the segment. The key of a decision is its `number`. The key of a report is the SHA-256 of the
decision id. Several keys can begin with the same four bytes, so readers decode the entries and compare whole keys.

The array is followed by a CRC-32 (uint32, little-endian) of each of its 4,096-byte pages. A search checks the CRC-32 of
every page it reads. `verify` compares the whole file with the entries.

An index only speeds up searches and is not part of the log. Without a readable index the segment is searched directly.
Each packing writes the missing ones.

A later version can append columns. Any other change needs a new `dialgate.format`, and readers reject an unknown
format. The Parquet file is published after the `….sha256` file, when every line has been rebuilt from it and compared
with the segment. `….new` is an unfinished file. `.archiving` is empty; the packing process holds a lock on it.
"""

from dialgate.decision_log.archive.background import Background
from dialgate.decision_log.archive.reading import (
    Segments,
    closed_segments,
    first_header,
    open_segment,
    segments,
    segments_to_pack,
)

__all__ = [
    "Background",
    "Segments",
    "closed_segments",
    "first_header",
    "open_segment",
    "segments",
    "segments_to_pack",
]
