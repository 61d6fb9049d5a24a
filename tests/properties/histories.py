"""Random histories of what a person tells a controller, for `test_last_word`.

Times are in units of eight hours, so that several words are often said at the same time or on the same day.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

from hypothesis import strategies as st
from msgspec import Struct

from dialgate.core.model import HOUR
from tests.properties.person import FIBRE, POLL, ROBOT

UNIT: Final = 8 * HOUR

COVERS: Final[dict[str, tuple[str, ...]]] = {
    "sale": (FIBRE,),
    "robot": (FIBRE, ROBOT),
    "poll": (POLL,),
    "other goods": (),
    "unproved": (FIBRE, ROBOT),
}
Covers: TypeAlias = Literal["sale", "robot", "poll", "other goods", "unproved"]
Key: TypeAlias = Literal["a", "b"]


class Consent(Struct, frozen=True):
    """A consent that the person gave `ago` units before now. It expires after `lasts` units, if not 0."""

    id: Key
    ago: int
    covers: Covers
    lasts: int


class Record(Struct, frozen=True):
    """Record consents: one by one, or `imported` times as the rows of a file."""

    consents: tuple[Consent, ...]
    imported: int


class Withdraw(Struct, frozen=True):
    id: Key
    ago: int


class Revoke(Struct, frozen=True):
    """Record a revocation. If `imported`, it is a row of a file, without its time if `ago` is 0."""

    scope: Literal["campaign", "controller", "everyone"]
    ago: int
    channel: Literal["letter", "call"]
    imported: bool


class Lift(Struct, frozen=True):
    """Lift one of the revocations in force: as an error, or because of the consent `ground`."""

    place: int
    ground: Literal["error", "a", "b"]


class OptOut(Struct, frozen=True):
    """Report that the person said stop in the last allowed call."""


class Sign(Struct, frozen=True):
    """Record a contract that starts `days` after today."""

    id: Key
    days: int


class End(Struct, frozen=True):
    """Record that a contract ended `days` before today."""

    id: Key
    days: int


class Request(Struct, frozen=True):
    id: Key
    ago: int
    lasts: int


class Answer(Struct, frozen=True):
    """Publish the registry's answer, and void the consents of an enrolled person."""

    enrolled: bool


class Remove(Struct, frozen=True):
    """Run the daily removal after a period of retention."""


class BackUp(Struct, frozen=True):
    """Stop the gate and copy its store."""


class Restore(Struct, frozen=True):
    """Replace the ledger by its last backup. Calls have been checked before, so that the log proves every stop."""


class Check(Struct, frozen=True):
    """Check a call of each campaign."""


class Pass(Struct, frozen=True):
    units: int


Step: TypeAlias = (
    Record | Withdraw | Revoke | Lift | OptOut | Sign | End | Request | Answer | Remove | BackUp | Restore
    | Check | Pass
)  # fmt: skip

keys: st.SearchStrategy[Any] = st.sampled_from(["a", "a", "b"])
agos = st.sampled_from([0, 0, 1, 2, 3, 6])
lasting = st.sampled_from([0, 0, 0, 2, 5])
consents = st.builds(Consent, keys, agos, st.sampled_from(["sale", "sale", "robot", *COVERS]), lasting)
records = st.builds(
    Record, st.lists(consents, min_size=1, max_size=3).map(tuple), st.sampled_from([0, 0, 1, 2])
)
single = st.builds(Record, st.tuples(consents), st.just(0))
scopes: st.SearchStrategy[Any] = st.sampled_from(["controller", "controller", "campaign", "everyone"])
channels: st.SearchStrategy[Any] = st.sampled_from(["letter", "call"])
lifts = st.builds(Lift, st.integers(0, 2), st.sampled_from(["error", "a", "a", "b"]))
steps: st.SearchStrategy[Any] = st.one_of(
    single,
    single,
    records,
    st.builds(Withdraw, keys, agos),
    st.builds(Withdraw, keys, agos),
    st.builds(Revoke, scopes, agos, channels, st.booleans()),
    lifts,
    lifts,
    st.builds(OptOut),
    st.builds(Sign, keys, st.sampled_from([-3, 0, 1, 2])),
    st.builds(End, keys, st.sampled_from([0, 5, 40])),
    st.builds(Request, keys, agos, st.sampled_from([2, 90])),
    st.builds(Answer, st.booleans()),
    st.builds(Remove),
    st.builds(Check),
    st.builds(Pass, st.sampled_from([1, 1, 3])),
    st.builds(Pass, st.sampled_from([1, 2])),
)
lifted = st.tuples(st.builds(Revoke, scopes, agos, channels, st.booleans()), single, lifts)
given_again = st.tuples(single, st.builds(Withdraw, keys, agos), single)
phrases = st.one_of(*[st.tuples(steps)] * 3, lifted, given_again)


def join(parts: Sequence[Sequence[Step]]) -> list[Step]:
    return [step for part in parts for step in part]


some = st.lists(phrases, max_size=3).map(join)
restoring = st.tuples(some, st.just([BackUp()]), some, st.just([Restore()]), some).map(join)
histories = st.tuples(
    st.booleans(), st.one_of(*[st.lists(phrases, min_size=1, max_size=7).map(join)] * 2, restoring)
)
