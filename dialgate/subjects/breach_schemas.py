"""Request and response bodies about personal data breaches (GDPR art. 33 and 34). They contain no number."""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from dialgate.core.model import Phrase
from dialgate.core.text_formats import OptionalTimestamp, Timestamp
from dialgate.ledger.schemas import Name, When, described
from dialgate.store.breaches import BreachFigures
from dialgate.texts import Language

_Text: TypeAlias = Annotated[str, Meta(max_length=4096)]


class BreachTexts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the officer writes about a breach. A text that is not empty replaces the earlier one."""

    nature: Annotated[_Text, described("What happened, and how (art. 33(3)(a)). No telephone numbers.")] = ""
    categories: Annotated[
        _Text, described("Categories of people and of records, if they differ from those of the gate.")
    ] = ""
    persons: Annotated[_Text, described("Approximate number of people, if it differs from the exposure.")] = (
        ""
    )
    records: Annotated[
        _Text, described("Approximate number of records, if it differs from the exposure.")
    ] = ""
    consequences: Annotated[_Text, described("Likely consequences for the people (art. 33(3)(c)).")] = ""
    measures: Annotated[_Text, described("Measures taken or proposed (art. 33(3)(d)).")] = ""
    delay: Annotated[
        _Text, described("Reasons for the delay, if the authority is notified after 72 hours (art. 33(1)).")
    ] = ""


class BreachRequest(BreachTexts, frozen=True, kw_only=True):
    """A personal data breach. With neither `client` nor `node`, its extent is not computed."""

    aware_at: Annotated[
        When, described("When the controller became aware of it. The 72 hours run from then.")
    ]
    nature: Annotated[
        str, Meta(min_length=3, max_length=4096), described("What happened, and how. No telephone numbers.")
    ]
    since: Annotated[When | None, described("Start of the breach. Default: `aware_at`.")] = None
    until: Annotated[When | None, described("End of the breach (exclusive). Default: `aware_at`.")] = None
    client: Annotated[Name, described("Name of the client whose key was stolen.")] = ""
    node: Annotated[Name, described("Name of the compromised node.")] = ""
    controller: Annotated[str, described("Required only if the client has several controllers.")] = ""
    actor: Annotated[Phrase, described("Who records it, if the key belongs to a program.")] = ""


class BreachStepRequest(BreachTexts, frozen=True, kw_only=True):
    """A step of a breach, with texts that it adds or replaces.

    `notified` (each phase, art. 33(4)) or `not_notified` to the authority; `communicated` or `not_communicated` to the people
    (art. 34); `amended` texts; a remark, `noted`; or `corrected`, if the controller became aware at another time, `at`. The first
    time stays in the steps. `reason` says how it was done, or why it was not.
    """

    outcome: Literal[
        "amended", "notified", "not_notified", "communicated", "not_communicated", "noted", "corrected"
    ]
    reason: Annotated[
        _Text, described("How it was done, such as the authority's protocol number, or why it was not.")
    ] = ""
    at: Annotated[
        When | None,
        described("When it was done. Default: now. For `corrected`: when the controller became aware."),
    ] = None
    actor: Annotated[Phrase, described("Who records it, if the key belongs to a program.")] = ""


class BreachEntry(Struct, frozen=True, kw_only=True):
    """A step that was recorded. `texts` names the texts that it changed."""

    at: Timestamp
    step: str
    text: str
    by: str
    done_at: Timestamp
    texts: tuple[str, ...]


class BreachFile(Struct, frozen=True, kw_only=True):
    """A breach with its steps, oldest first.

    `authority` and `people` are the last decisions about them (`BreachStepRequest`), empty while there is none. `notified_at` is
    the first notification. `figures` has the newest exposure of each gate that computed it: a person known to two gates counts
    twice. `affected` and `exposed_records` are their sums.
    """

    id: str
    controller: str
    aware_at: Timestamp
    due_at: Timestamp
    hours_left: float
    since: Timestamp
    until: Timestamp
    client: str
    node: str
    opened_at: Timestamp
    texts: BreachTexts
    figures: tuple[BreachFigures, ...] = ()
    affected: int = 0
    exposed_records: int = 0
    authority: str = ""
    authority_reason: str = ""
    notified_at: OptionalTimestamp = ""
    late: bool = False
    people: str = ""
    people_reason: str = ""
    steps: tuple[BreachEntry, ...] = ()


class BreachList(Struct, frozen=True):
    breaches: list[BreachFile]


class NoticeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The draft of a notification to the authority. Nothing is sent."""

    language: Annotated[Language, described("Language of the draft.")] = "it"
    form: Annotated[Literal["html", "pdf"], described("`pdf` needs the extra `letters`.")] = "html"
    place: Annotated[Phrase, described("Where it is written, before the date.")] = ""
    protocol: Annotated[Phrase, described("Protocol number. Default: the id of the breach.")] = ""
