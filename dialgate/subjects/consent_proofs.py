"""The files that prove consents, and the ledger entries that need them."""

import asyncio
from typing import Final

import structlog

from dialgate.cluster.peer_questions import FindProofsInUse
from dialgate.cluster.peers import Peers
from dialgate.core.model import Instant
from dialgate.core.refusal import Refused
from dialgate.crypto.keys import Keys, KeysUnusable
from dialgate.store import Ledger
from dialgate.store.proof_files import ProofFiles
from dialgate.store.subjects import SubjectStore

_BATCH: Final = 512  # restricted entries per read, which decrypts them on the event loop
_log = structlog.get_logger(__name__)


class ConsentProofs:
    """The files on this gate. A file is needed as long as an entry of its controller names it, also a restricted one."""

    def __init__(
        self, files: ProofFiles, keys: Keys, store: Ledger, restricted: SubjectStore, peers: Peers
    ) -> None:
        self.files = files
        self._keys, self._store, self._restricted, self._peers = keys, store, restricted, peers

    async def find(self, controller: str, number: str, digest: str) -> bytes:
        """Return the file with this SHA-256, which a consent of the number (E.164) names. Raises `Refused`.

        The caller must record the look-up first.
        """
        subject, content = self._keys.subject(controller, number), None
        restricted = await self._restricted.restricted(subject)
        entries = [
            *await self._store.history(subject),
            *(row.unseal(self._keys.ledger) for row in restricted),
        ]
        if self.files.name(controller, digest) in self.files.named_in(entries):
            try:
                content = await asyncio.to_thread(self.files.read, controller, digest)
            except (KeysUnusable, OSError) as error:
                _log.error("a file that proves a consent is damaged", sha256=digest, problem=str(error))
                text = (
                    "The file is damaged on this gate. Upload it again, or restore `proofs/` from a backup."
                )
                raise Refused("proof.damaged", text, "sha256", 500) from None
        if content is None:
            text = (
                "This gate has no file with this SHA-256 that a consent of the number names. Ask the gate that received it."
                " A file that no consent names within a day is removed: upload it again."
            )
            raise Refused("proof.unknown", text, "sha256", 404)
        return content

    async def restricted_names(self) -> set[str]:
        """Return the names of the files that restricted entries on this gate refer to."""
        names, seq = set[str](), 0
        while rows := await self._restricted.restricted_after(seq, _BATCH):
            seq = rows[-1].seq
            names |= self.files.named_in(row.unseal(self._keys.ledger) for row in rows)
        return names

    async def count_unused(self, unnamed: set[str], before: Instant, *, drop: bool) -> int:
        """Count the files that no restricted entry names either. With `drop`, remove those that were uploaded before a time.

        `unnamed` are files that no entry of the ledger names. While another gate does not answer, all of them are kept.
        """
        if not unnamed:
            return 0
        peers = await self._peers.ask(FindProofsInUse())
        if peers.missing:
            _log.warning("files that prove consents are kept until every gate answers", missing=peers.missing)
            return 0
        unused = unnamed - await self.restricted_names() - set().union(*peers.answers.values())
        if drop:
            await asyncio.to_thread(self.files.remove, unused, before)
        return len(unused)
