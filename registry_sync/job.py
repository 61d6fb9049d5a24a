"""One import, from two files to a publication. The only reader of the clock in this package."""

import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from dialgate.model import Instant
from dialgate.snapshot import Consultation
from registry_sync import checks, publish
from registry_sync.formats import rpo

# Told what begins and its size in bytes; gives back what to tell of the bytes done.
Bar: TypeAlias = Callable[[str, int], Callable[[int], None]]
Outcome: TypeAlias = Literal["published", "already imported"]


class Order(Struct, frozen=True, kw_only=True):
    """What to import. `answered_at` 0: not known. `max_change` in per cent. `same_answer`: see checks."""

    registry: Literal["rpo"]
    controller: str
    request: Path
    answer: Path
    submitted_at: Instant
    answered_at: Instant
    receipt: str
    folder: Path
    max_change: float
    same_answer: bool


class Report(Struct, frozen=True, kw_only=True):
    """`known` numbers had an answer before; `newly_listed` and `newly_clear` count those whose answer turned.
    `valid_until` informs: what binds is the limit in the gate's configuration."""

    outcome: Outcome
    registry: str
    controller: str
    receipt: str
    consultation: str
    consulted_at: Instant
    valid_until: Instant
    lines: int
    listed: int
    clear: int
    known: int
    newly_listed: int
    newly_clear: int
    numbers: int
    version: str


def run(order: Order, bar: Bar) -> Report:
    """Raises checks.Refused, rpo.FaultyFile, numberset.DamagedFile, OSError; then nothing was published."""
    now = time.time_ns() // 1_000_000
    checks.refuse_impossible_times(order.submitted_at, order.answered_at, now)
    with publish.locked(order.folder):
        request = rpo.read_request(order.request, bar(order.request.name, rpo.text_size(order.request)))
        answer = rpo.read_answer(order.answer, bar(order.answer.name, rpo.text_size(order.answer)))
        answers = rpo.match(request, answer)
        consultation = _consultation(order, request, answer, answers, now)
        old = publish.current(order.folder, order.registry, order.controller)
        known = checks.already_imported(
            consultation, old.contents.consultations, same_answer=order.same_answer
        )
        if known:
            version = publish.published(order.folder).version
            return _report("already imported", order, known, publish.Merged(*old, 0, 0, 0), version)
        merged = publish.merge(old, consultation, answers.numbers, answers.listed)
        checks.refuse_upheaval(merged.newly_listed + merged.newly_clear, merged.known, order.max_change)
        version = publish.publish(order.folder, merged, now).version
        return _report("published", order, consultation, merged, version)


def _consultation(
    order: Order, request: rpo.Numbered, answer: rpo.Numbered, answers: rpo.Answers, now: Instant
) -> Consultation:
    proof = (
        order.registry,
        order.controller,
        order.submitted_at,
        order.receipt,
        request.sha256,
        answer.sha256,
    )
    listed = int(answers.listed.sum())
    return Consultation(
        id=sha256(msgspec.json.encode(proof)).hexdigest()[:16],
        submitted_at=order.submitted_at,
        answered_at=order.answered_at,
        imported_at=now,
        receipt=order.receipt,
        request_sha256=request.sha256,
        answer_sha256=answer.sha256,
        lines=answers.lines,
        listed=listed,
        clear=len(answers.numbers) - listed,
    )


def _report(
    outcome: Outcome, order: Order, consultation: Consultation, merged: publish.Merged, version: str
) -> Report:
    return Report(
        outcome=outcome,
        registry=order.registry,
        controller=order.controller,
        receipt=consultation.receipt,
        consultation=consultation.id,
        consulted_at=consultation.submitted_at,
        valid_until=consultation.submitted_at + rpo.VALIDITY,
        lines=consultation.lines,
        listed=consultation.listed,
        clear=consultation.clear,
        known=merged.known,
        newly_listed=merged.newly_listed,
        newly_clear=merged.newly_clear,
        numbers=len(merged.numbers),
        version=version,
    )
