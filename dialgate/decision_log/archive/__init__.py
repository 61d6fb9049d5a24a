"""Closed segments of the decision log, packed: a third of the bytes, found by number, and still the same log.

Beside the segments of `dialgate.decision_log`, in the same folder and with the same stem, mode 0600, a packed segment is

    0000000000000001.parquet  the entries, one a row, in their order (Parquet, zstd, page checksums)
    0000000000000001.sha256   the SHA-256 of that, as `sha256sum --check` reads it

and for many of them together, by the first and the last entry that it speaks of,

    0000000000000001-0000000000420000.index.npy  where decisions and reports stand in them (NumPy, uint32 of shape (2, n))

The Parquet file's columns, readable by any program that reads Parquet:

    seq, at, type                               `at` is null for grounds: the decision says when
    number, nonce, sealed, question             the keyed hash; the sealed number in two parts; the question's hash
    grounds, allow, client, interface, call_id  as in `dialgate.core.model.Decided`
    controller, campaign, country, reason       of the grounds that a decision names; `reason` is the first code of a deny
    body                                        the entry as stored, where the columns alone do not give it back

and its metadata: `dialgate.format` (1), `dialgate.header` (the body of the segment's header) and `dialgate.hashes` (in hex:
the hash of the header, of every 1,024th entry and of the last). No other hash is stored, for they follow from these; the
chain is computed anew whenever it is read, and what was changed shows at the next stored hash.

An index: row 0 holds four bytes of a key (big-endian), ascending; row 1 the sequence of an entry, less that of the index's
first. A decision's key is its `number`, and that of a report on a decision the SHA-256 of the decision's id. After the array
stands the CRC-32 of each 4,096 bytes of it (uint32, little-endian), held to whatever is read, and then, in 32 bytes, the
SHA-256 of the file's name and of all that is before. It says where to look; what is found there is
decoded and compared whole. An index is a help and no part of the log: it can be made again from the segments, and where it
is missing or cannot be read they are searched without. Indexes are merged as they become many; one that lies within
another is no longer needed. The segments of an earlier version have, each, `….numbers.npy`, which `….sha256` names.

How it may change: columns are appended; anything else is a new `dialgate.format`, and a reader refuses one that it does not
know. The Parquet file appears last and whole, after every line was rebuilt from it and was, byte for byte, what the segment
holds. `….new` is a file that was not finished. `.archiving` is empty, and held by whoever packs.
"""

from dialgate.decision_log.archive.background import Background
from dialgate.decision_log.archive.proving import verify
from dialgate.decision_log.archive.reading import Segments, closed, due, open_segment, opening, segments

__all__ = ["Background", "Segments", "closed", "due", "open_segment", "opening", "segments", "verify"]
