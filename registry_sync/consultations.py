"""The record of a consultation, built from the query to a registry and the registry's answer."""

from hashlib import sha256

import msgspec

from dialgate.core.model import Instant
from dialgate.lists.snapshot import Consultation
from registry_sync.formats.number_files import AnswerFile, NumberFile


def build_consultation(
    registry: str,
    controller: str,
    submitted_at: Instant,
    receipt: str,
    files: tuple[NumberFile, NumberFile, AnswerFile],
) -> Consultation:
    """Build the record of a consultation. Its id is a hash of the query, the answer and the receipt."""
    request, answer, answers = files
    proof = (registry, controller, submitted_at, receipt, request.sha256, answer.sha256)
    listed = int(answers.listed.sum())
    return Consultation(
        id=sha256(msgspec.json.encode(proof)).hexdigest()[:16],
        submitted_at=submitted_at,
        answered_at=0,
        imported_at=0,
        receipt=receipt,
        request_sha256=request.sha256,
        answer_sha256=answer.sha256,
        lines=answers.lines,
        listed=listed,
        clear=len(answers.numbers) - listed,
    )
