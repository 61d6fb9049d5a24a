"""The files that evidence encloses: those that prove the consents and are on this gate."""

from collections.abc import Iterable
from typing import Final

from dialgate.audit.evidence_sources import Sources
from dialgate.crypto.keys import KeysUnusable
from dialgate.store.proof_files import ProofFiles

# Of all files together: the bundle is one line of JSON, which is made and read in memory.
_MOST_BYTES: Final = 64 << 20


def enclose(
    sources: Sources, named: Iterable[tuple[str, str]], room: int = _MOST_BYTES
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return the files by SHA-256, and why files that are here are not enclosed. Blocks.

    `named` has the controller and the SHA-256 of each consent, and `room` is the bytes of all files together.
    """
    files = ProofFiles(sources.data, sources.keys)
    enclosed, left_out = dict[str, bytes](), dict[str, str]()
    for controller, digest in dict.fromkeys((controller, digest.lower()) for controller, digest in named):
        try:
            content = files.read(controller, digest)
        except (KeysUnusable, OSError):
            left_out[digest] = "damaged on the gate"
            continue
        if content is None or digest in enclosed:
            continue
        if len(content) > room:
            left_out[digest] = "left out, because the files are too large together; request fewer decisions"
            continue
        enclosed[digest] = content
        room -= len(content)
    return enclosed, {digest: why for digest, why in left_out.items() if digest not in enclosed}
