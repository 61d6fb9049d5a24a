"""Closed segments of the decision log, packed: a third of the bytes, found by number, and still the same log.

Beside the segments of `dialgate.decision_log`, in the same folder and with the same stem, mode 0600, a packed segment is

    0000000000000001.parquet      the entries, one a row, in their order (Parquet, zstd, page checksums)
    0000000000000001.numbers.npy  where a number's decisions stand in it (NumPy, uint32 of shape (2, decisions))
    0000000000000001.sha256       the SHA-256 of both, as `sha256sum --check` reads it

The Parquet file's columns, readable by any program that reads Parquet:

    seq, at, type                               `at` is null for grounds: the decision says when
    number, nonce, sealed, question             the keyed hash; the sealed number in two parts; the question's hash
    grounds, allow, client, interface, call_id  as in `dialgate.model.Decided`
    controller, campaign, country, reason       of the grounds that a decision names; `reason` is the first code of a deny
    body                                        the entry as stored, where the columns alone do not give it back

and its metadata: `dialgate.format` (1), `dialgate.header` (the body of the segment's header) and `dialgate.hashes` (in hex:
the hash of the header, of every 1,024th entry and of the last). No other hash is stored, for they follow from these; the
chain is computed anew whenever it is read, and what was changed shows at the next stored hash.

The index: row 0 holds the first four bytes of each decision's `number` (big-endian), ascending; row 1 the row of the Parquet
file in which it stands. It says where to look; what is found there is compared whole. It can be made again from the file.

How it may change: columns are appended; anything else is a new `dialgate.format`, and a reader refuses one that it does not
know. The Parquet file appears last and whole, after every line was rebuilt from it and was, byte for byte, what the segment
holds. `….new` is a file that was not finished. `.archiving` is empty, and held by whoever packs.
"""

from dialgate.archive.background import Background
from dialgate.archive.reading import Segments, closed, due, open_segment, opening, segments, verify

__all__ = ["Background", "Segments", "closed", "due", "open_segment", "opening", "segments", "verify"]
