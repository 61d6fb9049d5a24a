"""The manual import of one answer, which reads the request and answer files and publishes the result."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from dialgate.core.model import Instant
from dialgate.lists import release_holds
from dialgate.lists.snapshot import Consultation
from registry_sync import answer_merge, import_checks, publication
from registry_sync.answer_merge import AnsweredConsultation, ChangeCounts, PublishedAnswers
from registry_sync.consultations import RegistryQuery, read_consultation
from registry_sync.formats.table import TableFormat
from registry_sync.formats.text import Progress
from registry_sync.publication import PublishTarget

Outcome: TypeAlias = Literal["published", "already imported", "would be published"]
# What an import did: the fields of the consultation, the counts of changes, and the current publication. `valid_until` is for
# information only, because the gate calculates the expiry from its country file.
ImportReport: TypeAlias = dict[str, Any]


class AnswerImport(Struct, frozen=True, kw_only=True):
    """The files to import, the operator's statements about them, and the import options.

    - `answered_at` is 0 if unknown.
    - `validity` is how long an answer is valid, in milliseconds.
    - `since` is the start of the period in which the answer reports disconnections. It is 0 if the registry was not
      asked about disconnections.
    - `max_change` is a percentage. If more of the answers change, two people must release the import.
    - `same_answer` is described in `import_checks.already_imported`.
    - With `expired`, an expired answer is accepted.
    - With `correct`, the import corrects the date of an earlier import.
    - With `dry`, nothing is published.
    """

    registry: str
    controller: str
    request: Path
    answer: Path
    submitted_at: Instant
    answered_at: Instant
    receipt: str
    target: PublishTarget
    max_change: float
    format: TableFormat
    validity: Instant
    since: Instant = 0
    same_answer: bool = False
    expired: bool = False
    correct: bool = False
    dry: bool = False


def run(order: AnswerImport, progress: Progress, now: Instant) -> ImportReport:
    """Import and publish one answer.

    Raises Refused, FaultyFile, DamagedFile and OSError. After Refused or FaultyFile, nothing has been published.
    """
    import_checks.refuse_impossible_times(order.submitted_at, order.answered_at, now)
    if not order.expired:
        import_checks.refuse_expired(order.submitted_at + order.validity, now)
    with publication.lock_folder(order.target.folder):
        new = _read(order, progress, now)
        new_numbers = None if order.correct else new.numbers
        old = publication.read_current(
            order.target.folder, order.registry, order.controller, above=new_numbers
        )
        known = _find_earlier(order, new.consultation, old.contents.consultations)
        if known:
            version = publication.current_manifest(order.target.folder).version
            return _report("already imported", order, known, old, ChangeCounts(), version)
        if order.correct:
            return _correct(order, old, new.consultation, now)
        others = publication.other_consultations(order.target.folder, order.registry, order.controller)
        import_checks.refuse_foreign(new.consultation, others, same_answer=order.same_answer)
        _require_release(order, old, new, now)
        merged, counts = answer_merge.merge(old, [new])
        return _publish(order, new.consultation, merged, counts, now)


def _read(order: AnswerImport, progress: Progress, now: Instant) -> AnsweredConsultation:
    query = RegistryQuery(
        order.registry, order.controller, order.receipt, order.submitted_at, order.answered_at, order.since
    )
    request = order.format.read_request(order.request, progress)
    return read_consultation(query, request, order.format.read_answer(order.answer, progress), now)


def _find_earlier(
    order: AnswerImport, new: Consultation, earlier: Sequence[Consultation]
) -> Consultation | None:
    if order.correct:
        return next((consultation for consultation in earlier if consultation.id == new.id), None)
    return import_checks.already_imported(new, earlier, same_answer=order.same_answer)


def _require_release(
    order: AnswerImport, old: PublishedAnswers, new: AnsweredConsultation, now: Instant
) -> None:
    changes = answer_merge.count_changes(old, new)
    turned = changes.newly_listed + changes.newly_clear
    why = import_checks.answer_change_problem(turned, changes.known, order.max_change)
    if why and not order.dry:
        release_holds.require_release(order.target.folder, _subject(order, new.consultation), why, now)


def _correct(order: AnswerImport, old: PublishedAnswers, new: Consultation, now: Instant) -> ImportReport:
    at = import_checks.find_misdated(new, old.contents.consultations)
    contents = answer_merge.correct_date(old.contents, at, new)
    return _publish(order, new, old._replace(contents=contents), ChangeCounts(), now)


def _publish(
    order: AnswerImport,
    consultation: Consultation,
    answers: PublishedAnswers,
    counts: ChangeCounts,
    now: Instant,
) -> ImportReport:
    if order.dry:
        version = publication.current_manifest(order.target.folder).version
        return _report("would be published", order, consultation, answers, counts, version)
    version = publication.publish_answers(order.target, answers, now).version
    release_holds.remove_hold(order.target.folder, _subject(order, consultation))
    return _report("published", order, consultation, answers, counts, version)


def _subject(order: AnswerImport, consultation: Consultation) -> tuple[str, ...]:
    return order.registry, order.controller, consultation.id


def _report(
    outcome: Outcome,
    order: AnswerImport,
    consultation: Consultation,
    answers: PublishedAnswers,
    counts: ChangeCounts,
    version: str,
) -> ImportReport:
    return {
        "outcome": outcome,
        "registry": order.registry,
        "controller": order.controller,
        "receipt": consultation.receipt,
        "consultation": consultation.id,
        "consulted_at": consultation.submitted_at,
        "valid_until": consultation.submitted_at + order.validity,
        "lines": consultation.lines,
        "listed": consultation.listed,
        "clear": consultation.clear,
        **counts._asdict(),
        "numbers": answers.total(),
        "version": version,
    }
