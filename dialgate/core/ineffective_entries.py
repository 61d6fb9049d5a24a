"""A check for new consents, contracts and call requests that no call can rely on.

The client that records such an entry gets a warning at once, instead of denials later.
"""

from collections.abc import Collection, Sequence
from typing import Final, Literal, Protocol, TypeAlias

from dialgate.core.law import Law
from dialgate.core.ledger_events import CallRequested, ConsentGiven, ContractMade, Event
from dialgate.core.ledger_state import stated_consent
from dialgate.core.legal_basis import ABOUT_THE_CONTRACT, is_cancelled, is_proved
from dialgate.core.local_time import day_in
from dialgate.core.model import Instant
from dialgate.core.name_suggestions import choose

IneffectiveReason: TypeAlias = Literal[
    "",
    "unproved",
    "unconfirmed",
    "expired",
    "purpose",
    "sector",
    "cancelled",
    "marketing",
    "goods",
    "caller_id",
]
_BECAUSE: Final[dict[IneffectiveReason, str]] = {
    "unproved": "no artefact with its SHA-256 proves it.",
    "unconfirmed": "its double opt-in has not been confirmed.",
    "expired": "it has expired.",
    "purpose": "no campaign has one of its purposes. Campaigns have",
    "sector": "no campaign is in its sector. Campaigns are in",
    "cancelled": "the contract ended before its first day.",
    "marketing": "it includes no consent to commercial calls.",
    "goods": "no campaign has its goods. Campaigns have",
    "caller_id": "no campaign shows this caller ID. Campaigns show",
}


class Offer(Protocol):
    """The properties of a campaign that decide whether its calls can rely on an entry."""

    @property
    def purpose(self) -> str: ...
    @property
    def sector(self) -> str: ...
    @property
    def goods(self) -> str: ...


def find_reason(event: Event, offers: Sequence[Offer], now: Instant, law: Law) -> IneffectiveReason:
    """Return why no call can rely on an entry, or "" if one can. `offers` are all campaigns of the entry's controller."""
    match event:
        case ConsentGiven():
            return _reason_for_consent(event, offers, now, law)
        case ContractMade():
            return _reason_for_contract(event, offers)
        case CallRequested():
            return "expired" if event.expires_at <= now else _check_goods((event.goods,), offers)
    return ""


def _reason_for_consent(
    consent: ConsentGiven, offers: Sequence[Offer], now: Instant, law: Law
) -> IneffectiveReason:
    if not _may_be_proved(consent, now, law):
        return "unproved"
    if 0 < consent.expires_at <= now:
        return "expired"
    matches = [offer for offer in offers if offer.purpose in consent.purposes]
    if not matches:
        return "purpose"
    return _check_goods(consent.goods, matches) or ("unconfirmed" if consent.double_opt_in else "")


def _may_be_proved(consent: ConsentGiven, now: Instant, law: Law) -> bool:
    """Return whether a section in force accepts the proof of a consent. Others may bind a call and accept less."""
    stated = stated_consent(consent)
    if stated.proved or not stated.other_proofs:
        return stated.proved
    today = day_in(law.zone, now)
    return any(is_proved(stated, [section]) for section in law.consents if section.is_in_force(today))


def _reason_for_contract(contract: ContractMade, offers: Sequence[Offer]) -> IneffectiveReason:
    if is_cancelled(contract.starts, contract.ends):
        return "cancelled"
    matches = [offer for offer in offers if offer.sector == contract.sector]
    if not matches:
        return "sector"
    is_about = any(offer.purpose in ABOUT_THE_CONTRACT for offer in matches)
    return _check_goods(contract.goods, matches) or ("" if is_about or contract.marketing else "marketing")


def _check_goods(goods: Collection[str], offers: Sequence[Offer]) -> IneffectiveReason:
    return "goods" if goods and not any(offer.goods in goods for offer in offers) else ""


def sentence(why: IneffectiveReason, offers: Sequence[Offer], caller_ids: Collection[str] = ()) -> str:
    """Return a warning for the client that recorded an entry, or "" if `why` is empty.

    `offers` are all campaigns of the entry's controller. The warning suggests values from them.
    """
    if not why:
        return ""
    text = f"No call can rely on this entry yet, because {_BECAUSE[why]}"
    if why == "caller_id":
        return choose(text, caller_ids)
    if why in {"purpose", "sector", "goods"}:
        return choose(text, {str(getattr(offer, why)) or "none" for offer in offers})
    return text


def unproved_marketing(event: Event, proof: str, law: Law, kept_at: str) -> str:
    """Return a warning that the consent within a new contract lacks its proof, or "".

    `kept_at` is where the controller keeps such proofs.
    """
    is_unproved = isinstance(event, ContractMade) and event.marketing and not (proof or kept_at)
    if not (is_unproved and any(section.marketing_proof for section in law.contracts)):
        return ""
    return (
        "Without a `proof`, the consent to marketing in this contract permits no call to a number that a registry lists,"
        " and no call that is banned in its sector. Record the contract again with its proof."
    )
