"""Ledger events, such as revocations and consents. `ledger_state` computes the state from them.

Entries are never edited. Each event is a new entry, and the state is computed from all of them. Events are stored for
years under their tags: add new fields at the end with a default, and never change the meaning of a tag.
"""

from datetime import date
from typing import Literal, TypeAlias

from msgspec import Struct

from dialgate.core.model import CallType, ConsentForm, Instant, Origin, OtherProof, Purpose, Stated


class Revoked(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="revoked"):
    """A revocation. It takes effect once the entry is acknowledged."""

    at: Instant  # when the person asked the caller to stop
    scope: Literal["campaign", "controller", "everyone"] = "controller"
    campaign: str = ""


class Lifted(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="lifted"):
    """The end of a revocation."""

    of: int  # sequence of the revocation
    ground: Literal["error", "new_consent"]
    reason: str
    consent: str = ""  # id of the new consent, if that is the ground


class ConsentGiven(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="consent"):
    """A consent, which the controller must be able to demonstrate (GDPR 7(1)).

    A consent has no effect unless both `artefact` and `artefact_sha256` are recorded, or the law accepts another proof
    (`other_proofs`). With double opt-in, the person must also have confirmed the consent.
    """

    id: str
    collected_at: Instant
    purposes: tuple[Purpose, ...]
    call_types: tuple[CallType, ...]
    goods: tuple[str, ...] = ()
    expires_at: Instant = 0
    text_version: str = ""
    artefact: str = ""
    artefact_sha256: str = ""
    origin: Origin | None = None
    collection_channel: str = ""  # how the person gave it
    profiling: bool = False
    third_party: bool = False
    double_opt_in: bool = False
    form: ConsentForm | Literal[""] = ""
    states: tuple[Stated, ...] = ()
    renewed_at: Instant = 0
    place: str = ""
    rectify: tuple[str, ...] = ()  # fields that this entry corrects
    certificate_url: str = ""  # a certificate of the form's submission, kept by its issuer
    certificate_claim: str = ""  # by which the issuer keeps the certificate
    crm_reference: str = ""  # where the CRM keeps the proof
    attested_by: str = ""  # who attests that it does
    attested_at: Instant = 0

    @property
    def other_proofs(self) -> tuple[OtherProof, ...]:
        """Return the proofs besides a hash that the entry states completely.

        An unclaimed certificate expires at its issuer within days. Nobody can attest a consent before it is given.
        """
        is_certified = self.certificate_url.startswith("https://") and self.certificate_claim
        is_attested = self.crm_reference and self.attested_by and self.attested_at >= self.collected_at
        certificate: tuple[OtherProof, ...] = ("certificate",) if is_certified else ()
        return (*certificate, "crm_reference") if is_attested else certificate


class ConsentConfirmed(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="consent_confirmed"):
    """The person's confirmation of a consent, as the second step of a double opt-in."""

    id: str
    at: Instant


class ConsentWithdrawn(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="consent_withdrawn"):
    """The withdrawal of a consent (GDPR 7(3)). Crash recovery states what the consent covered.

    If it is `dated`, its source orders its events by time: a consent with this id that was given later stays, also if it was
    entered earlier.
    """

    id: str
    at: Instant
    purposes: tuple[Purpose, ...] = ()
    goods: tuple[str, ...] = ()
    dated: bool = False


class ConsentsVoided(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="consents_voided"):
    """The end of all consents collected up to `before`, because the person enrolled with the registry.

    L. 5/2018 art. 1 c. 5; DPR 26/2022 art. 7.
    """

    before: Instant
    registry: str
    receipt: str = ""


class ContractMade(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="contract"):
    id: str
    starts: date
    ends: date | None = None
    sector: str = ""
    goods: tuple[str, ...] = ()
    marketing: bool = False
    last_purchase: date | None = None
    place: str = ""
    rectify: tuple[str, ...] = ()


class ContractEnded(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="contract_ended"):
    """The end of a contract. `ends` is its last day."""

    id: str
    ends: date


class CallRequested(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="call_request"):
    id: str
    requested_at: Instant
    expires_at: Instant
    goods: str = ""
    own_interface: bool = False
    begins: Instant = 0
    appointment: bool = False
    place: str = ""
    rectify: tuple[str, ...] = ()


class NumberWrong(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="wrong_number"):
    """A report that the call allowed by `decision` reached a person other than the expected one.

    Earlier consents, contracts and requests for the number then have no effect until a `NumberConfirmed` is entered.
    Newer entries with a proof take effect despite the report.
    """

    at: Instant
    decision: str = ""


class NumberConfirmed(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="number_confirmed"):
    """A correction that cancels a `NumberWrong` report."""

    of: int  # sequence of the report
    # `error`: the report was a mistake; `confirmed`: the person showed that the number is theirs
    ground: Literal["error", "confirmed"]
    reason: str


class Exported(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="exported"):
    """The export of a scrubbed call list (L. 5/2018 art. 1 c. 7).

    The entry is not about a person: all of a controller's exports have the same subject.
    """

    campaign: str
    rows: int
    allowed: int
    sha256: str  # hash of the exported file


class CampaignPaused(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="campaign_paused"):
    """A supervisor's pause of a campaign. Like `CampaignResumed`, it is not about a person.

    All such entries of a campaign have the same subject.
    """

    campaign: str
    at: Instant
    reason: str


class CampaignResumed(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="campaign_resumed"):
    """The end of a supervisor's pause."""

    campaign: str
    at: Instant
    reason: str = ""


Event: TypeAlias = (
    Revoked
    | Lifted
    | ConsentGiven
    | ConsentConfirmed
    | ConsentWithdrawn
    | ConsentsVoided
    | ContractMade
    | ContractEnded
    | CallRequested
    | NumberWrong
    | NumberConfirmed
    | Exported
    | CampaignPaused
    | CampaignResumed
)


class Draft(Struct, frozen=True, kw_only=True):
    """A ledger entry without its sequence number, which the store assigns."""

    at: Instant
    controller: str
    subject: bytes  # keyed hash of controller and number
    event: Event
    actor: str
    channel: str
    proof: str = ""  # reference of the evidence
    sealed: bytes = b""  # the number, encrypted, for notices to dialers


class Entry(Draft, frozen=True, kw_only=True):
    seq: int
