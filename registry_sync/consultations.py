"""A registry's answer to a query, verified against the query, with the record of the consultation."""

from hashlib import sha256
from typing import NamedTuple

import msgspec

from dialgate.core.model import Instant
from dialgate.lists.snapshot import Consultation
from registry_sync.answer_merge import AnsweredConsultation
from registry_sync.formats.number_files import NumberFile, match


class RegistryQuery(NamedTuple):
    """What is known of a query beside its files. `answered_at` and `asked_since` are 0 if unknown (see `Consultation`)."""

    registry: str
    controller: str
    receipt: str
    submitted_at: Instant
    answered_at: Instant
    asked_since: Instant


def read_consultation(
    query: RegistryQuery, request: NumberFile, answer: NumberFile, now: Instant
) -> AnsweredConsultation:
    """Match an answer with its request. Raises FaultyFile.

    The consultation's id is a hash of the query, the answer and the receipt.
    """
    answers = match(request, answer)
    proof = (
        query.registry,
        query.controller,
        query.submitted_at,
        query.receipt,
        request.sha256,
        answer.sha256,
    )
    listed = int(answers.listed.sum())
    consultation = Consultation(
        id=sha256(msgspec.json.encode(proof)).hexdigest()[:16],
        submitted_at=query.submitted_at,
        answered_at=query.answered_at,
        imported_at=now,
        receipt=query.receipt,
        request_sha256=request.sha256,
        answer_sha256=answer.sha256,
        lines=answers.lines,
        listed=listed,
        clear=len(answers.numbers) - listed,
        asked_since=query.asked_since,
    )
    return AnsweredConsultation(consultation, answers.numbers, answers.listed)
