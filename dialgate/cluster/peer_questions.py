"""The questions that gates on one store ask each other, each with the type of its answer.

Class tags and field names are the wire format (MessagePack). During an upgrade, gates of two versions exchange them: add fields only with
defaults, and never rename a field.
"""

from typing import Annotated, Any, Generic, TypeAlias, TypeVar, get_args

from msgspec import Meta, Struct

from dialgate.audit.number_history import FoundDecision, Position, Visibility
from dialgate.cluster.personal_data import Share
from dialgate.core.model import Instant, OutcomeRecord

T = TypeVar("T")


class Question(Struct, Generic[T], frozen=True):
    """A question to another gate. Its answer has the type `T`."""


class Decisions(Struct, frozen=True):
    """Decisions about a number, and the months (`YYYY-MM`) whose decisions are anonymous because the keys are destroyed."""

    found: list[FoundDecision]
    retired: list[str]


class FindDecisions(Question[Decisions], frozen=True, kw_only=True, tag="decisions"):
    """The decisions about a number (E.164), newest first; arguments as in `Inquiry.about`."""

    number: str
    sees: Visibility
    before: Position | None = None
    most: int | None = None


class FindDecision(Question[list[FoundDecision]], frozen=True, tag="decision"):
    """One decision, or an empty list."""

    id: str
    sees: Visibility


class FindOutcomes(Question[list[OutcomeRecord]], frozen=True, tag="outcomes"):
    """The outcomes reported to this gate for these decisions, even if a different gate made them."""

    decisions: list[str]


class FindCall(Question[list[tuple[str, str]]], frozen=True, tag="called"):
    """The controller and the called number (E.164) of a decision of this gate, or an empty list."""

    decision: str


class FindPersonalData(Question[Share], frozen=True, tag="person"):
    """The personal data that this gate alone holds about a controller's number (E.164)."""

    controller: str
    number: str


class PlaceHold(Question[bool], frozen=True, tag="hold"):
    """A legal hold to place. The answer is True unless the number (E.164) was already on hold."""

    number: str
    at: Instant
    by: str
    reason: str


class LiftHold(Question[bool], frozen=True, tag="lift"):
    """A legal hold to lift. The answer is whether the number (E.164) was on hold."""

    number: str
    at: Instant
    by: str
    reason: str


class ListHolds(Question[list[PlaceHold]], frozen=True, tag="holds"):
    """The legal holds in force, each as the question that places it."""


class ReadListFile(Question[bytes], frozen=True, tag="list"):
    """Up to `most` bytes of a call list's file; empty if the file is missing or ends before `offset`."""

    file: str
    offset: Annotated[int, Meta(ge=0)]
    most: Annotated[int, Meta(ge=0)]


class RemoveFromLists(Question[list[str]], frozen=True, tag="erase"):
    """A number (E.164) to remove from the call lists here, unless it is on hold. The answer names the lists it was on."""

    controller: str
    number: str


AnyQuestion: TypeAlias = (
    FindDecisions
    | FindDecision
    | FindOutcomes
    | FindCall
    | FindPersonalData
    | RemoveFromLists
    | PlaceHold
    | LiftHold
    | ListHolds
    | ReadListFile
)


def answer_type(question: Question[T]) -> type[T]:
    """Return the `T` of a `Question[T]`."""
    base: Any = vars(type(question))["__orig_bases__"][0]
    (answer,) = get_args(base)
    return answer  # type: ignore[no-any-return]
