"""What may be asked for a person, and what is answered: the bodies of the subjects' endpoints.

Instants are RFC 3339. The number itself stands in the path, and in the reports, which go to that person.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from dialgate.audit.lookups import Seen
from dialgate.cluster.personal_data import CaseInfo, DecisionLine, FromRegistry, OnList
from dialgate.core.model import Phrase
from dialgate.core.request_deadlines import Kind
from dialgate.ledger.schemas import HistoryEntry, Id, Receipt, Request, When, about

Some = Annotated[str, Meta(min_length=3, max_length=1024)]


class CaseRequest(Request, frozen=True, kw_only=True):
    """A data subject's request."""

    kind: Annotated[Kind, about("What for.")]
    identified: Annotated[
        Some,
        about("How it was established that the asker holds the number: a call back, a code, a document."),
    ]
    received_at: Annotated[When | None, about("When it arrived; its month begins then. Default: now.")] = None


class CaseStep(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`answered` or `refused` closes the request, `extended` adds two months. `reason` is what the person was told."""

    outcome: Literal["answered", "refused", "extended"]
    reason: Some
    actor: Phrase = ""


class RectificationRequest(Request, frozen=True, kw_only=True):
    """`of`: the sequence of the consent, contract or call request that is wrong; `fields`: what is right, by the names
    that the history shows."""

    request: Id
    of: int
    fields: dict[str, Any]


class ErasureRequest(Request, frozen=True, kw_only=True):
    """The erasure that a data subject asked for."""

    request: Annotated[Id, about("The id of the data subject's request.")]


class Cases(Struct, frozen=True):
    requests: list[CaseInfo]


class Report(Struct, frozen=True, kw_only=True):
    """Everything held about a number on behalf of one controller (GDPR 15), by every gate on the store. `restricted`: ledger
    entries out of use, kept for legal claims alone. `days_of_storage`: after its use is over, by kind. `missing`: of each gate
    that could not be asked, why; what it alone holds is not told. `controller_contact` and `officer`: from the controller's file;
    `zone`: of its country, in which the page shows times."""

    number: str
    controller: str
    controller_name: str
    made_at: str
    ledger: list[HistoryEntry]
    restricted: list[HistoryEntry]
    lists: list[OnList]
    registries: list[FromRegistry]
    decisions: list[DecisionLine]
    lookups: list[Seen]
    requests: list[CaseInfo]
    days_of_storage: dict[str, int]
    missing: dict[str, str] = {}
    controller_contact: str = ""
    officer: str = ""
    zone: str = "UTC"


class Portable(Struct, frozen=True, kw_only=True):
    """What the person provided, on consent or contract (GDPR 20), and not what was concluded from it. `format` names
    these fields; another set of fields gets another name."""

    format: Literal["dialgate-portability-1"] = "dialgate-portability-1"
    number: str
    controller: str
    controller_name: str
    made_at: str
    consents: list[dict[str, Any]]
    contracts: list[dict[str, Any]]
    call_requests: list[dict[str, Any]]


class Erased(Struct, frozen=True, kw_only=True):
    """One thing that was held. `restricted`: kept, out of use, until `until` (empty: as long as its kind is stored)."""

    what: str
    name: str
    done: Literal["erased", "restricted", "kept"]
    why: str
    law: str
    until: str = ""


class Erasure(Struct, frozen=True, kw_only=True):
    """`suppression`: the ledger entry by which nobody of this controller may call the number again. `missing`: of each gate
    that could not be asked, why; nothing that may be evidence there is destroyed then, and the request stays open: ask again."""

    request: str
    suppression: Receipt
    items: list[Erased]
    missing: dict[str, str] = {}


class Rectified(Struct, frozen=True, kw_only=True):
    request: str
    of: int
    receipt: Receipt
