"""What a person asked of the controller under GDPR 15 to 22, and the clock that runs on it.

Pure. A request is told by its events, which are stored for years under their tags; a new field goes last with a default,
a tag never changes its meaning.
"""

from calendar import monthrange
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, TypeAlias, get_args

from msgspec import Struct, structs

from dialgate.core.model import SECOND, Instant

Kind: TypeAlias = Literal["access", "portability", "rectification", "erasure"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# GDPR 12(3): one month, and two more where that is necessary and the person was told within the first.
MONTHS, EXTENDED = 1, 3


class Asked(Struct, frozen=True, kw_only=True, tag="asked"):
    """`identified`: how it was established that who asks holds the number (GDPR 12(6)); that is the operator's to do."""

    kind: Kind
    received_at: Instant
    identified: str
    actor: str
    channel: str
    proof: str = ""


class Extended(Struct, frozen=True, kw_only=True, tag="extended"):
    """GDPR 12(3): two further months; the person was told of it and of the reason."""

    reason: str
    actor: str


class Answered(Struct, frozen=True, kw_only=True, tag="answered"):
    """GDPR 12(3). `what` was done, in words; `entries`: the ledger's that were written for it."""

    what: str
    actor: str
    entries: tuple[int, ...] = ()


class Refused(Struct, frozen=True, kw_only=True, tag="refused"):
    """GDPR 12(4): the person was told the reason, and of the authority and the courts."""

    reason: str
    actor: str


Step: TypeAlias = Asked | Extended | Answered | Refused
CLOSING = (Answered, Refused)


class Case(Struct, frozen=True, kw_only=True):
    """A request as it stands. `due_at`: until then it must be answered; `closed_at` is 0 while it is open."""

    id: str
    controller: str
    kind: Kind
    received_at: Instant
    due_at: Instant
    identified: str
    actor: str
    channel: str
    proof: str
    extended_at: Instant = 0
    closed_at: Instant = 0
    outcome: str = ""
    refused: bool = False
    closed_by: str = ""


def due(received_at: Instant, months: int) -> Instant:
    """The same instant of the day of that number, so many months later, or of the month's last day. No later than
    Regulation 1182/71 art. 3 would have it, which does not count the day of the request.
    """
    begun = datetime.fromtimestamp(received_at // SECOND, UTC)
    year, month = divmod(begun.year * 12 + begun.month - 1 + months, 12)
    day = min(begun.day, monthrange(year, month + 1)[1])
    ended = begun.replace(year=year, month=month + 1, day=day)
    return int(ended.timestamp()) * SECOND + received_at % SECOND


def fold(name: str, controller: str, steps: Iterable[tuple[Instant, Step]]) -> Case | None:
    """Oldest first. None where nobody asked."""
    case: Case | None = None
    for at, step in steps:
        if isinstance(step, Asked):
            case = _begun(name, controller, step)
        elif case is not None and not case.closed_at:
            case = _moved(case, at, step)
    return case


def _begun(name: str, controller: str, asked: Asked) -> Case:
    return Case(
        id=name,
        controller=controller,
        due_at=due(asked.received_at, MONTHS),
        **structs.asdict(asked),
    )


def _moved(case: Case, at: Instant, step: Extended | Answered | Refused) -> Case:
    match step:
        case Extended():
            return structs.replace(case, extended_at=at, due_at=due(case.received_at, EXTENDED))
        case Answered(what=what, actor=actor):
            return structs.replace(case, closed_at=at, outcome=what, closed_by=actor)
        case Refused(reason=reason, actor=actor):
            return structs.replace(case, closed_at=at, outcome=reason, refused=True, closed_by=actor)
