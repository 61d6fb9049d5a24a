"""What a client may ask to be written, and what it is told: the bodies of the ledger's endpoints.

Instants are RFC 3339 with an offset, days are ISO 8601. An unknown key is refused.
"""

from datetime import date, datetime
from typing import Any, Literal, TypeAlias

from msgspec import Struct, field

from dialgate.calllist import RowProblem
from dialgate.model import Basis, CallType, Origin, Purpose, Transfer


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`controller` may be left out by a client that is bound to one. `actor` is who did it (default: the client), by
    which `channel` the wish came in, `proof` where the evidence of it lies."""

    controller: str = ""
    actor: str = ""
    channel: str = "api"
    proof: str = ""


class RevocationRequest(Request, frozen=True, kw_only=True):
    """`at`: when the person said stop, if that was earlier (RFC 3339)."""

    number: str
    scope: Literal["campaign", "controller", "everyone"] = "controller"
    campaign: str = ""
    at: datetime | None = None


class LiftRequest(Request, frozen=True, kw_only=True):
    """`error`: the revocation was entered by mistake; `new_consent`: the person consented again, which is to be
    recorded too. Nothing else lifts a revocation."""

    ground: Literal["error", "new_consent"]
    reason: str


class ConsentRequest(Request, frozen=True, kw_only=True):
    """Without `artefact` and its SHA-256 the consent is kept and opens nothing."""

    number: str
    id: str
    collected_at: datetime
    purposes: tuple[Purpose, ...]
    call_types: tuple[CallType, ...]
    goods: tuple[str, ...] = ()
    expires_at: datetime | None = None
    text_version: str = ""
    artefact: str = ""
    artefact_sha256: str = ""
    origin: Origin | None = None


class WithdrawalRequest(Request, frozen=True, kw_only=True):
    number: str
    id: str
    at: datetime | None = None


class ContractRequest(Request, frozen=True, kw_only=True):
    """`ends` is the last day; `marketing`: the person consented to commercial calls within the contract."""

    number: str
    id: str
    starts: date
    ends: date | None = None
    sector: str = ""
    goods: tuple[str, ...] = ()
    marketing: bool = False


class ContractEndRequest(Request, frozen=True, kw_only=True):
    number: str
    id: str
    ends: date


class CallRequestRequest(Request, frozen=True, kw_only=True):
    """The person asked to be called about `goods` until `expires_at`."""

    number: str
    id: str
    requested_at: datetime
    expires_at: datetime
    goods: str = ""
    own_interface: bool = False


class CallerIdProofRequest(Request, frozen=True, kw_only=True):
    """`attested`: somebody answers for it; `probe`: a call back was made and `answered`, or not."""

    caller_id: str
    kind: Literal["attested", "probe"]
    at: datetime | None = None
    answered: bool = True
    evidence: str = ""


class OutcomeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    decision_id: str
    outcome: Literal["not_dialled", "no_answer", "busy", "answered", "abandoned", "opt_out", "wrong_number"]


class ListRequest(Request, frozen=True, kw_only=True):
    """`basis` is what the rows rest on that do not say it themselves; `transfers` every cession, oldest first."""

    id: str
    campaigns: tuple[str, ...]
    basis: Basis
    collected_by: str
    collected_on: date
    source: str = ""
    transfers: tuple[Transfer, ...] = ()


class Receipt(Struct, frozen=True):
    """Every decision made after `at` is bound by ledger entry `seq`."""

    seq: int
    at: str


class OutcomeReceipt(Struct, frozen=True):
    decision_id: str
    outcome: str
    revocation: Receipt | None = None


class HistoryEntry(Struct, frozen=True, kw_only=True):
    seq: int
    at: str
    kind: str
    controller: str
    actor: str
    channel: str
    proof: str
    details: dict[str, Any]


class ListInfo(Struct, frozen=True, kw_only=True):
    id: str
    controller: str
    campaigns: tuple[str, ...]
    numbers: int
    origin: Origin
    loaded_at: str
    actor: str
    retired_at: str = ""


class ListReport(Struct, frozen=True, kw_only=True):
    info: ListInfo = field(name="list")
    rows: int
    accepted: int
    duplicates: int
    refused: int
    problems: list[RowProblem] = field(default_factory=list)


LedgerRequest: TypeAlias = (
    ConsentRequest | WithdrawalRequest | ContractRequest | ContractEndRequest | CallRequestRequest
)
