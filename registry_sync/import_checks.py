"""What an import is refused for, apart from faults of the files themselves.

The dates and the receipt are the operator's word; these checks catch the word that cannot be true, above all an old
answer that would pass for a new one (DPR 26/2022 art. 8 c. 2: an answer is good for 15 days from its consultation).
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from dialgate.core.model import Instant
from dialgate.lists.snapshot import Consultation

# Below so many numbers known from before, a few changes are many per cent and prove nothing.
FEW = 100


class Refused(Exception):
    """The import is refused and nothing was published. The message says why and what to do."""


def refuse_impossible_times(submitted_at: Instant, answered_at: Instant, now: Instant) -> None:
    for what, at in (("consulted", submitted_at), ("answered", answered_at)):
        if at > now:
            raise Refused(
                f"{what} at {utc(at)} is in the future: it is {utc(now)} here; check the date and this clock"
            )
    if 0 < answered_at < submitted_at:
        raise Refused(f"answered at {utc(answered_at)} is before it was consulted, at {utc(submitted_at)}")


def refuse_expired(valid_until: Instant, now: Instant) -> None:
    """An answer that opens no call any more may still be wanted for those whom it lists."""
    if valid_until <= now:
        raise Refused(
            f"this consultation held until {utc(valid_until)}: no call may rest on it; consult the registry again."
            " To take it in for those whom it lists, say --expired"
        )


def already_imported(
    new: Consultation, earlier: Sequence[Consultation], *, same_answer: bool
) -> Consultation | None:
    """The earlier import of the very same; Refused if `new` is an old one under another date. `same_answer`: the
    operator states that the registry was asked again, under a receipt of its own, and answered byte for byte the same."""
    for known in earlier:
        same_text = known.answer_sha256 == new.answer_sha256
        same_receipt = known.receipt == new.receipt
        if known.submitted_at == new.submitted_at:
            if same_text:
                return known
        elif same_receipt:
            hint = "; if that date was wrong, say --correct" if same_text else ""
            raise Refused(
                f"receipt {new.receipt} belongs to the consultation of {utc(known.submitted_at)}:"
                f" importing an answer again does not make it newer{hint}"
            )
        elif same_text and new.submitted_at > known.submitted_at and not same_answer:
            raise Refused(
                f"this is the answer to the consultation of {utc(known.submitted_at)}, receipt {known.receipt}:"
                " importing it again does not make it newer; if the registry was asked again and gave the very same"
                " answer, say so with --same-answer"
            )
    return None


def refuse_foreign(
    new: Consultation, others: Iterable[tuple[str, Consultation]], *, same_answer: bool
) -> None:
    """Refuse what another controller's consultation brought: one controller's answers never serve another. `others`: with the
    controller of each. A short answer is easily the same by chance, so there only the receipt counts."""
    for controller, known in others:
        whose = f"the consultation of {utc(known.submitted_at)} for controller {controller}"
        if known.receipt == new.receipt:
            raise Refused(
                f"receipt {new.receipt} belongs to {whose}, and answers serve only the controller that asked: consult the"
                f" registry for this one, or import it with --controller {controller}"
            )
        if known.answer_sha256 == new.answer_sha256 and new.lines >= FEW and not same_answer:
            raise Refused(
                f"this is the answer to {whose}, receipt {known.receipt}, and answers serve only the controller that asked; if"
                " the registry was asked for this one as well and gave the very same answer, say so with --same-answer"
            )


def misdated(new: Consultation, earlier: Sequence[Consultation]) -> int:
    """The place among `earlier` of the same consultation under another date, which is to be corrected. Refused where
    there is none, or where another consultation lies between the dates: what it said was then judged wrongly."""
    same = [
        at
        for at, known in enumerate(earlier)
        if (known.receipt, known.answer_sha256) == (new.receipt, new.answer_sha256)
    ]
    if not same:
        raise Refused(
            f"no answer of these contents was imported under receipt {new.receipt}: nothing to correct"
        )
    known = earlier[same[0]]
    first, last = sorted((known.submitted_at, new.submitted_at))
    between = [each.receipt for each in earlier if each is not known and first <= each.submitted_at <= last]
    if between:
        raise Refused(
            f"between the two dates lies the consultation of receipt {between[0]}, so that answers of one stand where"
            " the other's belong: roll back to before both and import them under the right dates"
        )
    return same[0]


def upheaval(turned: int, known: int, max_change: float, few: int = FEW) -> str:
    """Why a person must look at it first, or nothing. `max_change`: per cent of the numbers that had an answer before."""
    if known >= few and turned * 100 > max_change * known:
        return (
            f"{turned:,} of {known:,} numbers changed their answer, more than {max_change:g} %: are the statuses turned"
            " round, or is it another controller's file?"
        )
    return ""


def size_change(added: int, removed: int, before: int, max_added: float, max_removed: float) -> str:
    """Why a person must look at a full list first, or nothing. Limits in per cent of what was there `before`."""
    for what, count, limit in (("removed", removed, max_removed), ("added", added, max_added)):
        if before >= FEW and count * 100 > limit * before:
            return (
                f"{count:,} of {before:,} numbers would be {what}, more than {limit:g} %: is the file whole?"
            )
    return ""


def utc(at: Instant) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
