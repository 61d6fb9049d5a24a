"""Checks of the dates, receipt and controller that the operator gives for an import.

The main purpose of these checks is to detect an old answer that is imported as a new one. An answer is valid for
only 15 days from its consultation (DPR 26/2022 art. 8 c. 2). `formats` checks the contents of the files.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from dialgate.core.model import Instant
from dialgate.lists.snapshot import Consultation

# The percentage limits apply from this many known numbers. Among fewer, a few changes are already a high percentage.
FEW = 100


class ImportRefused(Exception):
    """Raised if an operation is refused. A refused operation publishes nothing.

    The message gives the reason and the remedy.
    """


def refuse_impossible_times(submitted_at: Instant, answered_at: Instant, now: Instant) -> None:
    for what, at in (("consulted", submitted_at), ("answered", answered_at)):
        if at > now:
            raise ImportRefused(
                f"{what} at {utc(at)} is in the future; the time is now {utc(now)}. Check the date and this machine's clock."
            )
    if 0 < answered_at < submitted_at:
        raise ImportRefused(
            f"the answer time {utc(answered_at)} is before the consultation time {utc(submitted_at)}. Check both times"
        )


def refuse_expired(valid_until: Instant, now: Instant) -> None:
    """Raise Refused if the answer has expired.

    The option `--expired` skips this check, because even an expired answer still blocks the numbers that it lists.
    """
    if valid_until <= now:
        raise ImportRefused(
            f"this answer expired on {utc(valid_until)}, so it permits no calls. Consult the registry again."
            " To import this answer only to block the numbers that it lists, add --expired"
        )


def already_imported(
    new: Consultation, earlier: Sequence[Consultation], *, same_answer: bool
) -> Consultation | None:
    """Return the earlier import of this consultation, or None.

    Raises Refused if the same receipt was imported with a different date, or the same answer with an earlier date.
    `same_answer` permits a repeated answer: the operator states that a new query, with a new receipt, got exactly the
    same answer.
    """
    for known in earlier:
        same_text = known.answer_sha256 == new.answer_sha256
        same_receipt = known.receipt == new.receipt
        if known.submitted_at == new.submitted_at:
            if same_text:
                return known
        elif same_receipt:
            hint = ". If that date was wrong, add --correct" if same_text else ""
            raise ImportRefused(
                f"receipt {new.receipt} belongs to the consultation from {utc(known.submitted_at)};"
                f" importing an answer again does not make it newer{hint}"
            )
        elif same_text and new.submitted_at > known.submitted_at and not same_answer:
            raise ImportRefused(
                f"this is the answer to the consultation from {utc(known.submitted_at)}, receipt {known.receipt};"
                " importing it again does not make it newer. If a new query got exactly the same answer, add --same-answer"
            )
    return None


def refuse_foreign(
    new: Consultation, others: Iterable[tuple[str, Consultation]], *, same_answer: bool
) -> None:
    """Raise Refused if the consultation was made for another controller.

    `others` pairs each consultation with its controller. Short answers can be identical by chance, so answers with
    fewer than `FEW` lines are not compared. With `same_answer`, no answers are compared. Receipts are always compared.
    """
    for controller, known in others:
        whose = f"the consultation from {utc(known.submitted_at)} for controller {controller}"
        if known.receipt == new.receipt:
            raise ImportRefused(
                f"receipt {new.receipt} belongs to {whose}, and an answer is valid only for the controller that asked."
                f" Consult the registry for this controller, or import with --controller {controller}"
            )
        if known.answer_sha256 == new.answer_sha256 and new.lines >= FEW and not same_answer:
            raise ImportRefused(
                f"this is the answer to {whose}, receipt {known.receipt}. An answer is valid only for the controller that"
                " asked. If a query for the controller of this import got exactly the same answer, add --same-answer"
            )


def find_misdated(new: Consultation, earlier: Sequence[Consultation]) -> int:
    """Return the index in `earlier` of the consultation that has the wrong date.

    `new` is the same consultation, with the same receipt and answer, and the corrected date.

    Raises Refused in three cases:

    - `earlier` does not contain this consultation;
    - its answer was imported before the new date, so the new date cannot be right and would extend the validity;
    - another consultation lies between the two dates, so the answers were merged in the wrong order.
    """
    same = [
        at
        for at, known in enumerate(earlier)
        if (known.receipt, known.answer_sha256) == (new.receipt, new.answer_sha256)
    ]
    if not same:
        raise ImportRefused(
            f"receipt {new.receipt} was not imported with this answer file, so there is no date to correct."
            " Check the receipt and the file"
        )
    misdated = earlier[same[0]]
    if new.submitted_at > misdated.imported_at:
        raise ImportRefused(
            f"the answer was imported on {utc(misdated.imported_at)}, before the new consultation date {utc(new.submitted_at)}."
            " Check the date. If you consulted the registry again, import the new answer with its own receipt"
        )
    first, last = sorted((misdated.submitted_at, new.submitted_at))
    others = (known for known in earlier if known is not misdated)
    between = [known.receipt for known in others if first <= known.submitted_at <= last]
    if between:
        raise ImportRefused(
            f"the consultation with receipt {between[0]} lies between the wrong and the corrected date, so the answers were"
            " merged in the wrong order. Roll back to a publication that contains neither consultation, then import both again with the correct dates"
        )
    return same[0]


def answer_change_problem(turned: int, known: int, max_change: float, few: int = FEW) -> str:
    """Return why two people must release the answers before publication, or "" if no release is needed.

    `turned` counts the answers that changed. `known` counts the numbers that had an answer before, and `max_change`
    is a percentage of `known`. If `known` is below `few`, no release is needed.
    """
    if known >= few and turned * 100 > max_change * known:
        return (
            f"the answers for {turned:,} of {known:,} numbers changed, more than {max_change:g} %. Check that"
            " the statuses are not inverted, and that the file does not belong to another controller"
        )
    return ""


def list_size_problem(added: int, removed: int, before: int, max_added: float, max_removed: float) -> str:
    """Return why two people must release an update of a full list, or "" if no release is needed.

    `max_added` and `max_removed` are percentages of `before`, the count of numbers before the update.
    """
    for what, count, limit in (("removed", removed, max_removed), ("added", added, max_added)):
        if before >= FEW and count * 100 > limit * before:
            return f"{count:,} of {before:,} numbers would be {what}, more than {limit:g} %. Check that the file is complete"
    return ""


def utc(at: Instant) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
