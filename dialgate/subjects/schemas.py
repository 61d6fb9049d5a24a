"""Request and response bodies about data subjects.

Instants are in RFC 3339 format. The number is in the URL path. Reports also contain the number, because they
are sent to the data subject.
"""

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from dialgate.audit.lookups import Seen
from dialgate.cluster.personal_data import (
    CaseInfo,
    DecisionLine,
    FromRegistry,
    OnList,
    RequestFile,
    WaitingLetter,
)
from dialgate.core.model import Phrase
from dialgate.core.request_deadlines import Erased, Kind
from dialgate.core.text_formats import OptionalTimestamp, Timestamp
from dialgate.ledger.schemas import Id, Receipt, Request, When, described
from dialgate.ledger.view_schemas import HistoryEntry
from dialgate.texts import Language

LetterKind: TypeAlias = Literal[
    "access", "portability", "rectification", "erasure", "restriction", "objection",
    "refusal", "extension", "why", "complaint",
]  # fmt: skip
MISSING_HEADER = "Dialgate-Missing"  # of a page: the gates that did not respond, separated by commas
MOST_ATTACHED_MB = 8  # more than a letter or a copy of an identity document needs, scanned in colour
Some = Annotated[str, Meta(min_length=3, max_length=1024)]


class CaseRequest(Request, frozen=True, kw_only=True):
    """A data subject's request to exercise a right (GDPR 15 to 21)."""

    kind: Annotated[Kind, described("The right that the data subject exercises.")]
    identified: Annotated[
        Some,
        described("How the data subject proved that the number is theirs: a call back, a code, a document."),
    ]
    received_at: Annotated[
        When | None, described("When the request arrived; the deadline is one month later. Default: now.")
    ] = None
    addressee: Annotated[
        str,
        Meta(
            max_length=512,
            description="Name and address of the person, in lines, for letters. It is stored encrypted.",
        ),
    ] = ""


class CaseStep(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step in a data subject's request.

    `answered`, `refused` and `withdrawn` close the request, and `extended` adds two months to its deadline. `reason` is the
    text sent to the data subject. For `noted`, `assigned` and `sent`, it is the note, the person who works on the
    request, or the letter that was sent and how.
    """

    outcome: Literal["answered", "refused", "extended", "withdrawn", "noted", "assigned", "sent"]
    reason: Some
    actor: Phrase = ""


class CaseEntry(Struct, frozen=True, kw_only=True):
    """A step that was recorded. `step` is `received`, `executed`, `attached` or an outcome of `CaseStep`."""

    at: Timestamp
    step: str
    text: str
    actor: str


class Attachment(Struct, frozen=True, kw_only=True):
    """A file that is attached to a data subject's request. `name` hides the number unless the look-up has a purpose."""

    sha256: str
    name: str
    bytes: int
    at: Timestamp
    actor: str


class SubjectCase(Struct, frozen=True, kw_only=True):
    """A data subject's request with its steps, oldest first.

    `items` is the result of an erasure. `number` and `addressee` are empty unless the look-up has a purpose. `missing`
    contains each gate that an execution needs and that did not respond, with the reason: repeat the execution.
    """

    request: CaseInfo
    steps: list[CaseEntry]
    items: list[Erased] = []
    number: str = ""
    addressee: str = ""
    missing: dict[str, str] = {}
    attachments: list[Attachment] = []


class ExecutionRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order to do what a request asks for. `of` and `fields` are for a rectification, as in its own endpoint."""

    of: int = 0
    fields: dict[str, Any] = {}
    actor: Phrase = ""


class ErasurePreview(Struct, frozen=True, kw_only=True):
    """What an erasure would do now. `missing` contains each gate that did not respond, with the reason."""

    items: list[Erased]
    missing: dict[str, str] = {}


class LetterRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A letter about a data subject's request. Nothing is sent."""

    kind: Annotated[
        LetterKind | None, described("What the letter is about. Default: the kind of the request.")
    ] = None
    language: Annotated[Language, described("Language of the letter.")] = "it"
    form: Annotated[Literal["html", "pdf"], described("`pdf` needs the extra `letters`.")] = "html"
    place: Annotated[Phrase, described("Where the letter is written, before the date.")] = ""
    protocol: Annotated[Phrase, described("Protocol number. Default: the id of the request.")] = ""
    addressee: Annotated[
        str, Meta(max_length=512, description="Name and address of the person. Default: as in the request.")
    ] = ""
    reasons: Annotated[
        str,
        Meta(max_length=4096, description="Reasons of a refusal or an extension. Default: those recorded."),
    ] = ""
    purpose: Annotated[
        str, Meta(max_length=256, description="Reason for the look-up. Default: the id of the request.")
    ] = ""


class RectificationRequest(Request, frozen=True, kw_only=True):
    """A correction of a ledger entry, as requested by the data subject.

    `of` is the `seq` of the incorrect consent, contract or call request. `fields` contains the correct values
    under the field names that the history uses.
    """

    request: Id
    of: int
    fields: dict[str, Any]


class ErasureRequest(Request, frozen=True, kw_only=True):
    """An erasure of the data about a number, as requested by the data subject."""

    request: Annotated[Id, described("The id of the data subject's request.")]


class Cases(Struct, frozen=True):
    requests: list[CaseInfo]


class Report(Struct, frozen=True, kw_only=True):
    """The access report (GDPR 15): all data that the gates have about a number, for one controller.

    - `restricted` contains ledger entries that are no longer used and are kept only for legal claims.
    - `retired_months` (`YYYY-MM`) are the months whose decisions are left out, because their keys were destroyed. Decisions
      under a legal hold are included.
    - `days_of_storage` is the retention period of each kind of data, in days from the end of its use.
    - `missing` contains each gate that did not respond, with the reason. Data that only these gates have is not in the
      report.
    - `holder_changed_at` is the time at which the number was reported as another person's, if the report is in force. Earlier
      data may be about the previous holder and is left out.
    - `controller_contact` and `officer` come from the controller's file.
    - `profiling_campaigns` are the campaigns that select people by profiling, among those that decided about the number or have
      a list with it.
    - `attachments` are the files of the requests. Their contents are on the gate that received the request.
    - `letters` are messages of platforms and CRMs with the number that wait because they could not be applied.
    - `zone` is the time zone of the controller's country. The page shows times in this zone.
    - `processors` are the processors in the controller's file, which are recipients of the data (GDPR art. 4(9)).
    - `country` is the controller's country.
    """

    number: str
    controller: str
    controller_name: str
    made_at: Timestamp
    ledger: list[HistoryEntry]
    restricted: list[HistoryEntry]
    lists: list[OnList]
    registries: list[FromRegistry]
    decisions: list[DecisionLine]
    retired_months: list[str]
    lookups: list[Seen]
    requests: list[CaseInfo]
    days_of_storage: dict[str, int]
    missing: dict[str, str] = {}
    controller_contact: str = ""
    officer: str = ""
    zone: str = "UTC"
    holder_changed_at: OptionalTimestamp = ""
    profiling_campaigns: list[str] = []
    letters: list[WaitingLetter] = []
    processors: tuple[str, ...] = ()
    country: str = ""
    attachments: list[RequestFile] = []


class Portable(Struct, frozen=True, kw_only=True):
    """The data that the data subject provided on the basis of consent or contract (GDPR 20).

    Derived data is not included. `format` identifies this set of fields, and changes whenever a field changes.
    """

    format: Literal["dialgate-portability-1"] = "dialgate-portability-1"
    number: str
    controller: str
    controller_name: str
    made_at: Timestamp
    consents: list[dict[str, Any]]
    contracts: list[dict[str, Any]]
    call_requests: list[dict[str, Any]]


class Erasure(Struct, frozen=True, kw_only=True):
    """The result of an erasure.

    `suppression` is the ledger entry that blocks this controller's calls to the number. `missing` contains each gate
    that did not respond, with the reason. If `missing` is not empty, the erasure is incomplete: no possible evidence
    was destroyed. In that case, repeat the erasure. The request stays open, for the answer to the person.
    """

    request: str
    suppression: Receipt
    items: list[Erased]
    missing: dict[str, str] = {}


class Rectified(Struct, frozen=True, kw_only=True):
    request: str
    of: int
    receipt: Receipt
