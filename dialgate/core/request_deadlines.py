"""Data-subject requests under GDPR 15 to 22, and their deadlines.

The state of a request is computed from its events. Events are stored for years under their tags: add new fields at the
end with a default, and never change the meaning of a tag.
"""

from collections.abc import Iterable
from typing import Literal, TypeAlias, get_args

from msgspec import Struct, structs

from dialgate.core.model import Instant
from dialgate.core.periods import add_months
from dialgate.core.text_formats import OptionalTimestamp

# `why` asks for the reasons of a call (GDPR 15(1)); the GDPR sets no deadline for the answer to a `complaint`, so it gets that of a request.
Kind: TypeAlias = Literal[
    "access", "portability", "rectification", "erasure", "restriction", "objection", "why", "complaint"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
# GDPR 12(3): one month, extended by two if necessary and if the person was informed within the first month. A deadline computed
# by `add_months` is never later than under Regulation 1182/71 art. 3, which does not count the day of the request.
MONTHS, EXTENDED = 1, 3
# Requests that something must be done for before the answer can say that it was done.
EXECUTED: frozenset[Kind] = frozenset({"rectification", "erasure", "restriction", "objection"})
Done: TypeAlias = Literal["erased", "restricted", "kept"]


class Erased(Struct, frozen=True, kw_only=True):
    """An item of data, and what the erasure did with the item.

    A restricted item is not used for calls, and is kept until the time in `until`. If a restricted or kept item has
    no `until`, the normal retention rules for its kind apply. Under a legal hold (see `why`), it is kept at least
    until the hold is lifted.
    """

    what: str
    name: str
    done: Done
    why: str
    law: str
    until: OptionalTimestamp = ""


class RequestReceived(Struct, frozen=True, kw_only=True, tag="asked"):
    kind: Kind
    received_at: Instant
    identified: str  # how the operator verified that the person holds the number (GDPR 12(6))
    actor: str
    channel: str
    proof: str = ""
    addressee: str = ""  # name and address for letters, sealed


class Extended(Struct, frozen=True, kw_only=True, tag="extended"):
    """A two-month extension. The data subject was informed of the extension and the reason (GDPR 12(3))."""

    reason: str
    actor: str


class Answered(Struct, frozen=True, kw_only=True, tag="answered"):
    """The answer to a request (GDPR 12(3))."""

    what: str  # the action taken
    actor: str
    entries: tuple[int, ...] = ()  # the ledger entries written
    lists: tuple[str, ...] = ()  # the call lists that keep the number until a legal hold is lifted
    items: tuple[Erased, ...] = ()  # the result of an erasure


class RequestRefused(Struct, frozen=True, kw_only=True, tag="refused"):
    """A refusal. The data subject was informed of the reason and the available remedies (GDPR art. 12(4))."""

    reason: str
    actor: str


class Executed(Struct, frozen=True, kw_only=True, tag="executed"):
    """What was requested was done. The request stays open until the answer to the data subject is recorded."""

    what: str
    actor: str
    entries: tuple[int, ...] = ()
    lists: tuple[str, ...] = ()  # as in `Answered`
    items: tuple[Erased, ...] = ()


class Remarked(Struct, frozen=True, kw_only=True, tag="remarked"):
    """A remark: a note (`noted`), the person who works on the request (`assigned`), a letter that was sent (`sent`), or an attached file."""

    kind: Literal["noted", "assigned", "sent", "attached"]
    text: str
    actor: str


class RequestWithdrawn(Struct, frozen=True, kw_only=True, tag="withdrawn"):
    """The data subject withdrew the request."""

    reason: str
    actor: str


Step: TypeAlias = (
    RequestReceived | Extended | Answered | RequestRefused | Executed | Remarked | RequestWithdrawn
)
CLOSING = (Answered, RequestRefused, RequestWithdrawn)


class Case(Struct, frozen=True, kw_only=True):
    """The current state of a request."""

    id: str
    controller: str
    kind: Kind
    received_at: Instant
    due_at: Instant  # when it must be answered
    identified: str
    actor: str
    channel: str
    proof: str
    extended_at: Instant = 0
    closed_at: Instant = 0  # 0 while it is open
    outcome: str = ""
    refused: bool = False
    closed_by: str = ""
    addressee: str = ""
    extension_reason: str = ""
    entries: tuple[int, ...] = ()
    items: tuple[Erased, ...] = ()
    lists: tuple[str, ...] = ()
    assignee: str = ""
    withdrawn: bool = False
    sealed: bytes = b""  # the number


def fold(name: str, controller: str, steps: Iterable[tuple[Instant, Step]]) -> Case | None:
    """Return the state of a request after its `steps`, oldest first, or None if no step is a `RequestReceived`."""
    case: Case | None = None
    for at, step in steps:
        if isinstance(step, RequestReceived):
            case = _open_case(name, controller, step)
        elif case is not None and not case.closed_at:
            case = _apply(case, at, step)
    return case


def _open_case(name: str, controller: str, asked: RequestReceived) -> Case:
    return Case(
        id=name,
        controller=controller,
        due_at=add_months(asked.received_at, MONTHS),
        **structs.asdict(asked),
    )


def _apply(case: Case, at: Instant, step: Step) -> Case:
    match step:
        case Extended():
            due_at = add_months(case.received_at, EXTENDED)
            return structs.replace(case, extended_at=at, due_at=due_at, extension_reason=step.reason)
        case Executed():
            return _with_result(case, step)
        case Answered(what=what, actor=actor):
            return structs.replace(_with_result(case, step), closed_at=at, outcome=what, closed_by=actor)
        case RequestRefused(reason=reason, actor=actor):
            return structs.replace(case, closed_at=at, outcome=reason, refused=True, closed_by=actor)
        case RequestWithdrawn(reason=reason, actor=actor):
            return structs.replace(case, closed_at=at, outcome=reason, withdrawn=True, closed_by=actor)
        case Remarked(kind="assigned", text=text):
            return structs.replace(case, assignee=text)
        case _:
            return case


def _with_result(case: Case, step: Executed | Answered) -> Case:
    """Return the case with the result of a step. What an earlier run of an erasure erased stays in the result of a later one."""
    erased = tuple(item for item in case.items if item.done == "erased") if step.items else case.items
    entries, items = step.entries or case.entries, (*erased, *step.items)
    return structs.replace(case, entries=entries, items=items, lists=step.lists)
