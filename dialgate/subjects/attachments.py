"""The files attached to data-subject requests: the person's letter, a copy of an identity document, what was sent."""

import asyncio
from hashlib import sha256
from typing import Final

import structlog

from dialgate.cluster.personal_data import RequestFile
from dialgate.config.clients import Client
from dialgate.core.local_time import rfc3339
from dialgate.core.refusal import Refused
from dialgate.core.request_deadlines import Case, Remarked
from dialgate.crypto.keys import Keys, KeysUnusable
from dialgate.crypto.masking import Masker
from dialgate.crypto.nonces import nonces
from dialgate.store.subjects import AttachedFile, SubjectStore
from dialgate.subjects.deadlines import Deadlines, attachment_of
from dialgate.subjects.schemas import Attachment

_MOST: Final = 20  # files of a request, so that one request takes at most 160 MiB
_log = structlog.get_logger(__name__)


class Attachments:
    """The attachments of the requests on this gate. They are encrypted, and removed with their request."""

    def __init__(self, file: SubjectStore, keys: Keys, deadlines: Deadlines) -> None:
        self._file, self._keys, self._deadlines, self._nonces = file, keys, deadlines, nonces()

    async def attach(
        self, client: Client, request: str, name: str, content: bytes, actor: str = ""
    ) -> Attachment:
        """Attach a file to a request, which may be closed, and record the step. The same file again changes nothing.

        Raises `Refused` if the request is unknown or has the maximum number of files.
        """
        case, number = await self._deadlines.find(client, request)
        masker = Masker(self._keys, case.controller)
        remark = Remarked(kind="attached", text=masker.text(name, number), actor=client.actor(actor))
        step = await self._deadlines.next_step(request, remark)
        digest, box = await asyncio.to_thread(self._seal, request, content, next(self._nonces))
        file = AttachedFile(request, step.at, digest, remark.text, len(content), remark.actor, box)
        attached = {other.sha256: other for other in await self._file.attach(file, step, _MOST)}
        if digest not in attached:
            text = f"This request has {_MOST} attachments, which is the maximum. Put several pages into one file."
            raise Refused("attachment.too_many", text, "id", 409)
        result: Attachment = masker.unseal(attachment_of(attached[digest]))
        return result

    async def find(self, case: Case) -> list[Attachment]:
        """Return the attachments of a request. The caller must record the look-up first, because names may have the number."""
        masker = Masker(self._keys, case.controller)
        return [masker.unseal(attachment_of(file)) for file in await self._file.attachments(case.id)]

    async def find_of_subject(self, controller: str, subject: bytes) -> list[RequestFile]:
        """Return the attachments of all requests about a number. The caller must record the look-up first."""
        masker = Masker(self._keys, controller)
        names = dict.fromkeys(event.id for event in await self._file.cases(subject))
        files = [file for name in names for file in await self._file.attachments(name)]
        return [
            RequestFile(request=file.id, name=masker.unseal(file.name), at=rfc3339(file.at), bytes=file.size)
            for file in files
        ]

    async def read(self, case: Case, digest: str) -> tuple[Attachment, bytes]:
        """Return an attachment and its content. The caller must record the look-up first. Raises `Refused`."""
        found = {file.sha256: file for file in await self.find(case)}.get(digest.lower())
        box = await self._file.attached_content(case.id, found.sha256) if found else None
        if found is None or box is None:
            text = "This request has no attachment with this SHA-256. See `attachments` of the request."
            raise Refused("attachment.unknown", text, "sha256", 404)
        try:
            content = await asyncio.to_thread(self._keys.proofs.open, box, _about(case.id, found.sha256))
        except KeysUnusable as error:
            _log.error("an attachment is damaged", request=case.id, sha256=digest, problem=str(error))
            text = "The attachment is damaged on this gate. Restore the gate's data folder from a backup."
            raise Refused("attachment.damaged", text, "sha256", 500) from None
        return found, content

    def _seal(self, request: str, content: bytes, nonce: bytes) -> tuple[str, bytes]:
        digest = sha256(content).hexdigest()
        return digest, self._keys.proofs.close(content, nonce, _about(request, digest))


def _about(request: str, digest: str) -> bytes:
    return f"attachment {request} {digest}".encode()
