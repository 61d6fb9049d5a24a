"""Random histories of what two controllers record about a person, for `test_last_word`.

Times are in units of eight hours, so that several words are often said at the same time or on the same day.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

from hypothesis import strategies as st
from msgspec import Struct

from dialgate.core.model import HOUR

UNIT: Final = 8 * HOUR
UNITS_A_DAY: Final = 3

Owner: TypeAlias = Literal["acme", "bolt"]
Kind: TypeAlias = Literal["directory", "mobile", "unlisted"]
Covers: TypeAlias = Literal["sale", "robot", "poll", "other goods", "no goods", "unproved"]
Key: TypeAlias = Literal["a", "b"]
# `http`: a request. `csv`: a row of a file. `twice`: the file is imported twice. `xlsx`: a spreadsheet with the number as
# text. `excel`: a spreadsheet with the number as a numeric cell, in which Excel has dropped the plus or the leading zero.
# `bare`: a text file from such a spreadsheet.
Way: TypeAlias = Literal["http", "csv", "twice", "xlsx", "excel", "bare"]

# ---- steps of a controller -------------------------------------------------------------------------------------------


class Consent(Struct, frozen=True):
    """A consent that the person gave `ago` units before now. It expires after `lasts` units, if not 0."""

    id: Key
    ago: int
    covers: Covers
    lasts: int = 0
    opt_in: bool = False


class Record(Struct, frozen=True):
    """Record consents. `neighbour`: of the person whose number Excel turns into this number."""

    consents: tuple[Consent, ...]
    way: Way = "http"
    neighbour: bool = False


class Confirm(Struct, frozen=True):
    """Confirm a consent by double opt-in."""

    id: Key
    ago: int


class Withdraw(Struct, frozen=True):
    id: Key
    ago: int


class Revoke(Struct, frozen=True):
    """Record a revocation, dated ahead if `ago` is negative. In a file, its time is left out if `ago` is 0."""

    scope: Literal["campaign", "controller", "everyone"]
    ago: int
    channel: Literal["letter", "call"] = "letter"
    way: Literal["http", "csv"] = "http"


class Lift(Struct, frozen=True):
    """Lift one of the revocations in force: as an error, or because of the consent `ground`."""

    place: int
    ground: Literal["error", "a", "b"]


class Report(Struct, frozen=True):
    """Report that the person said stop, or was another person, in the last allowed call."""

    outcome: Literal["opt_out", "wrong_number"]


class LiftWrong(Struct, frozen=True):
    """Lift the last report of a wrong number."""

    ground: Literal["error", "confirmed"]


class Sign(Struct, frozen=True):
    """Record a contract that starts `days` after today. It ends `ends` days after today, if not None."""

    id: Key
    days: int
    ends: int | None = None
    way: Literal["http", "csv"] = "http"


class End(Struct, frozen=True):
    """Record that a contract ended `days` before today."""

    id: Key
    days: int


class Request(Struct, frozen=True):
    id: Key
    ago: int
    lasts: int


class Rectify(Struct, frozen=True):
    """Rectify the newest entry of a consent or contract: the goods, the day of its end, or when it was given."""

    kind: Literal["consent", "contract"]
    id: Key
    what: Literal["goods", "end", "earlier", "opt_in"]


class SendAgain(Struct, frozen=True):
    """Send every consent, contract and request once more, as a nightly export does."""

    way: Literal["http", "csv"] = "csv"


class Erase(Struct, frozen=True):
    """Erase the data about the person, at the person's request."""


class Load(Struct, frozen=True):
    """Load a call list from the directory with the number. `neighbour` as in `Record`."""

    way: Literal["http", "csv", "excel"] = "http"
    neighbour: bool = False


class Retire(Struct, frozen=True):
    """Retire the newest list that `Load` loaded."""


class Answer(Struct, frozen=True):
    """Publish the registry's answer, and void the consents of an enrolled person.

    `ahead`: the number of units by which the clock was wrong at the consultation and at the import.
    """

    enrolled: bool
    ahead: int = 0


class Check(Struct, frozen=True):
    """Check a call of each campaign, at every gate at once. If `asked`, an old answer of the registry is renewed before."""

    asked: bool = True


class Look(Struct, frozen=True):
    """Read what the gate knows about the person."""

    what: Literal["revocations", "consents", "contracts", "call-requests", "wrong-numbers", "report", "portability",
                  "decisions", "simulate"]  # fmt: skip


class Pry(Struct, frozen=True):
    """Use an id that the other controller received for this number."""

    what: Literal["outcome", "lift", "rectify", "decision", "read"]


# ---- steps of the operator -------------------------------------------------------------------------------------------


class Rename(Struct, frozen=True):
    """Reload a configuration in which a campaign and its goods have another name and one campaign is missing, or the first."""


class Remove(Struct, frozen=True):
    """Run the daily removal after a period of retention."""


class Restart(Struct, frozen=True):
    pass


class BackUp(Struct, frozen=True):
    """Stop the gates, and copy the store and the logs."""


class Restore(Struct, frozen=True):
    """Replace the store by its last backup. Calls have been checked before, so that the log proves every stop."""


class RestoreLog(Struct, frozen=True):
    """Replace a gate's log by its last backup. If the gate refuses it, the newest log is put back."""


class Pass(Struct, frozen=True):
    units: int


OwnStep: TypeAlias = (
    Record | Confirm | Withdraw | Revoke | Lift | Report | LiftWrong | Sign | End | Request | Rectify | SendAgain
    | Erase | Load | Retire | Answer | Check | Look | Pry
)  # fmt: skip
HouseStep: TypeAlias = Rename | Remove | Restart | BackUp | Restore | RestoreLog | Pass
Step: TypeAlias = OwnStep | HouseStep


class Turn(Struct, frozen=True):
    """A step, recorded for the controller `by` at one of the gates.

    `agency`: the client that sends it works for both controllers. A revocation for everyone is always sent by that client.
    """

    step: Step
    by: Owner = "acme"
    agency: bool = False
    gate: int = 0


class History(Struct, frozen=True):
    """What happens to one number. `kind`: the kind of the number, and whether a call list names the directory as its origin."""

    kind: Kind
    turns: tuple[Turn, ...]


# ---- strategies ------------------------------------------------------------------------------------------------------


def among(*strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Choose one of the strategies. One that is given twice is chosen twice as often, unlike with `one_of`."""
    return st.sampled_from(strategies).flatmap(lambda chosen: chosen)


keys: st.SearchStrategy[Any] = st.sampled_from(["a", "a", "b"])
agos = st.sampled_from([0, 0, 1, 2, 3, 6])
covers: st.SearchStrategy[Any] = st.sampled_from(
    ["sale", "sale", "robot", "no goods", "poll", "other goods", "unproved"]
)
consents = st.builds(
    Consent, keys, agos, covers, st.sampled_from([0, 0, 0, 2, 5]), st.sampled_from([False] * 5 + [True])
)
several = st.lists(consents, min_size=1, max_size=3).map(tuple)
one = st.tuples(consents)
# A spreadsheet is read by another process, which takes as long as ten other steps.
files: st.SearchStrategy[Any] = st.sampled_from(["csv"] * 8 + ["twice"] * 4 + ["bare", "xlsx", "excel"])
single = st.builds(Record, one)
neighbours: st.SearchStrategy[Any] = st.builds(
    Record, one, st.sampled_from(["excel", "bare", "csv"]), st.just(True)
)
scopes: st.SearchStrategy[Any] = st.sampled_from(["controller", "controller", "campaign", "everyone"])
channels: st.SearchStrategy[Any] = st.sampled_from(["letter", "call"])
by_file: st.SearchStrategy[Any] = st.sampled_from(["http", "csv"])
revokes = st.builds(Revoke, scopes, st.one_of(agos, st.just(-1)), channels, by_file)
lifts = st.builds(Lift, st.integers(0, 2), st.sampled_from(["error", "a", "a", "b"]))
withdraws = st.builds(Withdraw, keys, agos)
signs = st.builds(
    Sign, keys, st.sampled_from([-3, 0, 1, 2]), st.sampled_from([None, None, -1, 0, 1, 3]), by_file
)
ends = st.builds(End, keys, st.sampled_from([0, 5, 40]))
rectifications: st.SearchStrategy[Any] = st.builds(
    Rectify,
    st.sampled_from(["consent", "consent", "contract"]),
    keys,
    st.sampled_from(["goods", "end", "earlier", "opt_in"]),
)
again = st.builds(SendAgain, by_file)
reports = st.builds(Report, st.sampled_from(["opt_out", "opt_out", "wrong_number"]))
answers = st.builds(Answer, st.booleans(), st.sampled_from([0] * 7 + [30]))
loads: st.SearchStrategy[Any] = st.builds(
    Load, st.sampled_from(["http", "csv"] * 5 + ["excel"]), st.just(False)
)
looks: st.SearchStrategy[Any] = st.builds(
    Look,
    st.sampled_from(
        [
            "revocations",
            "consents",
            "contracts",
            "call-requests",
            "wrong-numbers",
            "report",
            "portability",
            "decisions",
            "simulate",
        ]
    ),
)
pries: st.SearchStrategy[Any] = st.builds(
    Pry, st.sampled_from(["outcome", "lift", "rectify", "decision", "read"])
)
checks = st.builds(Check, st.sampled_from([True, True, False]))

words: st.SearchStrategy[Any] = among(
    single,
    single,
    st.builds(Record, several, files),
    withdraws,
    withdraws,
    revokes,
    lifts,
    lifts,
    reports,
    signs,
    ends,
    st.builds(Request, keys, agos, st.sampled_from([2, 90])),
    answers,
    checks,
    st.builds(Confirm, keys, agos),
    rectifications,
    again,
    st.builds(LiftWrong, st.sampled_from(["error", "confirmed"])),
    loads,
    st.just(Retire()),
)
seldom: st.SearchStrategy[Any] = among(
    neighbours, st.builds(Load, st.just("excel"), st.just(True)), st.just(Erase())
)
operator: st.SearchStrategy[Any] = among(
    st.builds(Pass, st.sampled_from([1, 1, 3])),
    st.builds(Pass, st.sampled_from([1, 2, 33])),
    st.builds(Remove),
    st.builds(Rename),
)


def turns(steps: st.SearchStrategy[Any], by: Owner) -> st.SearchStrategy[Turn]:
    return st.builds(Turn, steps, st.just(by), st.sampled_from([False, False, True]), st.integers(0, 1))


def in_turn(by: Owner, *steps: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Turn, ...]]:
    return st.tuples(*(turns(step, by) for step in steps))


def phrases(by: Owner) -> st.SearchStrategy[tuple[Turn, ...]]:
    """Return the steps of a controller: most of them alone, some in the order in which they depend on each other."""
    return among(
        *[in_turn(by, words)] * 10,
        *[in_turn(by, operator)] * 4,
        in_turn(by, seldom),
        in_turn(by, revokes, single, lifts),
        in_turn(by, single, withdraws, single),
        in_turn(by, single, rectifications, again),
        in_turn(by, signs, operator, signs),
        in_turn(by, checks, checks, reports),
    )


def join(parts: Sequence[Sequence[Turn]]) -> tuple[Turn, ...]:
    return tuple(turn for part in parts for turn in part)


def stretch(*by: Owner, most: int = 7) -> st.SearchStrategy[tuple[Turn, ...]]:
    return st.lists(among(*[phrases(owner) for owner in by]), min_size=1, max_size=most).map(join)


def restored(step: Step) -> st.SearchStrategy[tuple[Turn, ...]]:
    some, calls = stretch("acme", most=3), st.lists(turns(checks, "acme"), max_size=2).map(tuple)
    parts = some, st.just((Turn(BackUp()),)), calls, some, st.just((Turn(step),)), calls, some
    return st.tuples(*parts).map(join)


bolt: st.SearchStrategy[Any] = among(phrases("bolt"), in_turn("bolt", looks), in_turn("bolt", pries))
both = st.lists(among(phrases("acme"), bolt), min_size=2, max_size=7).map(join)
alone = stretch("acme")
restarted = st.tuples(alone, st.just((Turn(Restart()),)), stretch("acme", most=3)).map(join)
stories = among(*[alone] * 10, *[both] * 8, restarted, restored(Restore()), restored(RestoreLog()))
kinds: st.SearchStrategy[Any] = st.sampled_from(["directory", "directory", "mobile", "mobile", "unlisted"])
histories = st.builds(History, kinds, stories)
