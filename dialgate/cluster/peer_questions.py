"""The questions that gates on one store ask each other, each with the type of its answer.

Class tags and field names are the wire format (MessagePack). During an upgrade, gates of two versions exchange
questions, so never rename a field, and give each new field a default.
"""

from typing import Annotated, Any, Generic, TypeAlias, TypeVar, get_args

from msgspec import Meta, Struct

from dialgate.audit.lookups import LookupFilter, LookupLine
from dialgate.cluster.personal_data import Share

T = TypeVar("T")


class PeerQuestion(Struct, Generic[T], frozen=True):
    """A question to another gate. Its answer has the type `T`."""


class FindCall(PeerQuestion[list[tuple[str, str]]], frozen=True, tag="called"):
    """A request for a decision's controller and called number (E.164).

    The answer is an empty list if the receiving gate did not make the decision.
    """

    decision: str


class FindPersonalData(PeerQuestion[Share], frozen=True, tag="person"):
    """A request for data that only the receiving gate holds about a number (E.164), for one controller."""

    controller: str
    number: str


class FindLookups(PeerQuestion[list[LookupLine]], frozen=True, tag="lookups"):
    """A request for the look-ups that the receiving gate recorded."""

    wanted: LookupFilter


class ReadListFile(PeerQuestion[bytes], frozen=True, tag="list"):
    """A request for up to `most` bytes of a call list's file.

    The answer is empty if the file is missing or ends before `offset`.
    """

    file: str
    offset: Annotated[int, Meta(ge=0)]
    most: Annotated[int, Meta(ge=0)]


class RemoveFromLists(PeerQuestion[list[str]], frozen=True, tag="erase", omit_defaults=True):
    """A request to remove a number (E.164) from the receiving gate's call lists, unless it is on hold.

    If `lists` names lists, the others keep the number. The answer names the lists that contained it.
    """

    controller: str
    number: str
    lists: tuple[str, ...] = ()


class FindProofsInUse(PeerQuestion[list[str]], frozen=True, tag="proofs"):
    """A request for the names of the files that restricted entries on the receiving gate refer to."""


AnyQuestion: TypeAlias = (
    FindCall | FindLookups | FindPersonalData | RemoveFromLists | ReadListFile | FindProofsInUse
)


def answer_type(question: PeerQuestion[T]) -> type[T]:
    """Return the `T` of a `Question[T]`."""
    base: Any = vars(type(question))["__orig_bases__"][0]
    (answer,) = get_args(base)
    return answer  # type: ignore[no-any-return]
