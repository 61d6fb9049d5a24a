"""One answer taken in by hand, from two files to a publication."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from dialgate.core.model import Instant
from dialgate.lists.snapshot import Consultation
from registry_sync import answer_merge, import_checks, publication, release_holds
from registry_sync.answer_merge import Answered, Current, Merged
from registry_sync.consultations import consultation_of
from registry_sync.formats import rpo, text
from registry_sync.publication import Press
from registry_sync.query_cycle import Bar

Outcome: TypeAlias = Literal["published", "already imported", "would be published"]


class Order(Struct, frozen=True, kw_only=True):
    """What to import. `answered_at` 0: not known. `max_change` in per cent; more is held until it is released.
    `same_answer`: see checks. `expired`: take it also when no call may rest on it any more. `correct`: it was imported
    under a wrong date. `dry`: publish nothing."""

    registry: Literal["rpo"]
    controller: str
    request: Path
    answer: Path
    submitted_at: Instant
    answered_at: Instant
    receipt: str
    press: Press
    max_change: float
    same_answer: bool = False
    expired: bool = False
    correct: bool = False
    dry: bool = False


class Report(Struct, frozen=True, kw_only=True):
    """`known` numbers had an answer before; `newly_listed` and `newly_clear` count those whose answer turned.
    `valid_until` informs: what binds is the limit in the gate's configuration. `version`: what is published."""

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


def run(order: Order, bar: Bar, now: Instant) -> Report:
    """Raises import_checks.Refused, FaultyFile, DamagedFile, OSError; then nothing was published."""
    import_checks.refuse_impossible_times(order.submitted_at, order.answered_at, now)
    if not order.expired:
        import_checks.refuse_expired(order.submitted_at + rpo.VALIDITY, now)
    with publication.locked(order.press.folder):
        new = _read(order, bar, now)
        old = publication.current(order.press.folder, order.registry, order.controller)
        known = _known(order, new.consultation, old.contents.consultations)
        if known:
            version = publication.published(order.press.folder).version
            return _report("already imported", order, known, Merged(*old, 0, 0, 0), version)
        if order.correct:
            return _correct(order, old, new.consultation, now)
        others = publication.consultations_of_others(order.press.folder, order.registry, order.controller)
        import_checks.refuse_foreign(new.consultation, others, same_answer=order.same_answer)
        _guard(order, old, new, now)
        merged = answer_merge.merge(old, [new])
        return _publish(order, new.consultation, merged, now)


def _read(order: Order, bar: Bar, now: Instant) -> Answered:
    request = rpo.read_request(order.request, bar(order.request.name, text.size(order.request)))
    answer = rpo.read_answer(order.answer, bar(order.answer.name, text.size(order.answer)))
    answers = rpo.match(request, answer)
    consultation = consultation_of(
        order.registry, order.controller, order.submitted_at, order.receipt, (request, answer, answers)
    )
    dated = msgspec.structs.replace(consultation, answered_at=order.answered_at, imported_at=now)
    return Answered(dated, answers.numbers, answers.listed)


def _known(order: Order, new: Consultation, earlier: Sequence[Consultation]) -> Consultation | None:
    if order.correct:
        return next((each for each in earlier if each.id == new.id), None)
    return import_checks.already_imported(new, earlier, same_answer=order.same_answer)


def _guard(order: Order, old: Current, new: Answered, now: Instant) -> None:
    changes = answer_merge.changes(old, new)
    turned = changes.newly_listed + changes.newly_clear
    why = import_checks.upheaval(turned, changes.known, order.max_change)
    if why and not order.dry:
        release_holds.demand(order.press.folder, _subject(order, new.consultation), why, now)


def _correct(order: Order, old: Current, new: Consultation, now: Instant) -> Report:
    at = import_checks.misdated(new, old.contents.consultations)
    contents = answer_merge.redated(old.contents, at, new)
    return _publish(order, new, Merged(contents, old.numbers, old.tags, 0, 0, 0), now)


def _publish(order: Order, consultation: Consultation, merged: Merged, now: Instant) -> Report:
    if order.dry:
        version = publication.published(order.press.folder).version
        return _report("would be published", order, consultation, merged, version)
    version = publication.publish_answers(order.press, merged, now).version
    release_holds.forget(order.press.folder, _subject(order, consultation))
    return _report("published", order, consultation, merged, version)


def _subject(order: Order, consultation: Consultation) -> tuple[str, ...]:
    return order.registry, order.controller, consultation.id


def _report(
    outcome: Outcome, order: Order, consultation: Consultation, merged: Merged, version: str
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
