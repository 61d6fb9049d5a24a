"""The lines of a log, chained by SHA-256."""

from collections.abc import Sequence
from hashlib import sha256

_FRAME = 83  # {"hash":"<64 hex digits>","entry":<body>}\n


def chained(head: bytes, bodies: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return the log lines for `bodies`, and the new head.

    `head` is the SHA-256 of the line before the first body.
    """
    parts: list[bytes] = []
    for body in bodies:
        head = sha256(head + body).digest()
        parts += (b'{"hash":"', head.hex().encode(), b'","entry":', body, b"}\n")
    return b"".join(parts), head


def followed(head: bytes, data: bytes, most: int) -> tuple[bytes, list[bytes], int]:
    """Verify the hash chain of up to `most` complete log lines from the beginning of `data`.

    `head` is the hash of the line before `data`. Stop at the first invalid line. Return the new head,
    the leaf hashes of the verified lines (RFC 6962, 2.1), and the length of the verified lines in bytes.
    """
    leaves: list[bytes] = []
    taken = 0
    while len(leaves) < most and (end := data.find(b"\n", taken)) != -1:
        body = data[taken + _FRAME : end - 1]
        own = sha256(head + body).digest()
        frame = b'{"hash":"%b","entry":' % own.hex().encode()
        if data[taken : taken + _FRAME] != frame or data[end - 1 : end] != b"}":
            break
        head, taken = own, end + 1
        leaves.append(sha256(b"\0" + body).digest())
    return head, leaves, taken
