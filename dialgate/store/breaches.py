"""Personal data breaches, for the register that a controller must keep (GDPR art. 33(5))."""

from typing import Literal, TypeAlias

from msgspec import Struct

from dialgate.core.model import Instant

BreachStepKind: TypeAlias = Literal[
    "opened", "computed", "amended", "notified", "not_notified", "communicated", "not_communicated", "noted", "corrected"
]  # fmt: skip


class BreachFigures(Struct, frozen=True, kw_only=True):
    """What the log of one gate shows as exposed, as counted by `dialgate.subjects.breach`. It contains no number."""

    node: str
    decisions: int
    lookups: int
    persons: int
    unreadable: int
    could_look_up: int
    could_stream: int
    known: bool


class BreachStep(Struct, frozen=True, kw_only=True):
    """A step that was recorded at `at`, of what was done at `done_at`. `texts` has the texts that it changed.

    The `done_at` of `opened`, or of the last `corrected`, is when the controller became aware.
    """

    at: Instant
    by: str
    kind: BreachStepKind
    done_at: Instant
    text: str = ""
    texts: dict[str, str] = {}
    figures: BreachFigures | None = None


class StoredBreach(Struct, frozen=True, kw_only=True):
    """A breach with its steps, oldest first. Steps are only ever added."""

    id: str
    controller: str
    aware_at: Instant
    start: Instant
    end: Instant
    client: str
    node: str
    steps: tuple[BreachStep, ...]
