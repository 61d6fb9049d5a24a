"""What an import is refused for, apart from faults of the files themselves.

The dates and the receipt are the operator's word; these checks catch the word that cannot be true, above all an old
answer that would pass for a new one (DPR 26/2022 art. 8 c. 2: an answer is good for 15 days from its consultation).
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from dialgate.model import Instant
from dialgate.snapshot import Consultation

# Below so many numbers known from before, a few changes are many per cent and prove nothing.
FEW = 100


class Refused(Exception):
    """The import is refused and nothing was published. The message says why and what to do."""


def refuse_impossible_times(submitted_at: Instant, answered_at: Instant, now: Instant) -> None:
    for what, at in (("consulted", submitted_at), ("answered", answered_at)):
        if at > now:
            raise Refused(
                f"{what} at {_utc(at)} is in the future: it is {_utc(now)} here; check the date and this clock"
            )
    if 0 < answered_at < submitted_at:
        raise Refused(f"answered at {_utc(answered_at)} is before it was consulted, at {_utc(submitted_at)}")


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
            raise Refused(
                f"receipt {new.receipt} belongs to the consultation of {_utc(known.submitted_at)}:"
                " importing an answer again does not make it newer"
            )
        elif same_text and new.submitted_at > known.submitted_at and not same_answer:
            raise Refused(
                f"this is the answer to the consultation of {_utc(known.submitted_at)}, receipt {known.receipt}:"
                " importing it again does not make it newer; if the registry was asked again and gave the very same"
                " answer, say so with --same-answer"
            )
    return None


def refuse_upheaval(changed: int, known: int, max_change: float) -> None:
    """`max_change` in per cent of the numbers that had an answer before."""
    if known >= FEW and changed * 100 > max_change * known:
        raise Refused(
            f"{changed:,} of {known:,} numbers changed their answer, more than {max_change:g} %: are the statuses turned"
            " round, or is it another controller's file? If it is right, raise --max-change"
        )


def _utc(at: Instant) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
