"""Why a ledger entry, as it is recorded, opens no call of any campaign: told at once, not by the first refused call. Pure."""

from collections.abc import Collection, Sequence
from typing import Final, Literal, Protocol, TypeAlias

from dialgate.core.ledger_events import CallRequested, ConsentGiven, ContractMade, Event
from dialgate.core.legal_basis import ABOUT_THE_CONTRACT
from dialgate.core.model import Instant
from dialgate.core.name_suggestions import choose

Idle: TypeAlias = Literal[
    "", "unproved", "unconfirmed", "expired", "purpose", "sector", "marketing", "goods", "caller_id"
]
_BECAUSE: Final[dict[Idle, str]] = {
    "unproved": "no artefact with its SHA-256 proves it.",
    "unconfirmed": "its double opt-in has not been confirmed.",
    "expired": "it has expired.",
    "purpose": "no campaign has one of its purposes. Campaigns have",
    "sector": "no campaign is in its sector. Campaigns are in",
    "marketing": "the person did not consent to commercial calls in it.",
    "goods": "no campaign has its goods. Campaigns have",
    "caller_id": "no campaign shows this caller ID. Campaigns show",
}


class Offer(Protocol):
    """What of a campaign counts."""

    @property
    def purpose(self) -> str: ...
    @property
    def sector(self) -> str: ...
    @property
    def goods(self) -> str: ...


def idle(event: Event, offers: Sequence[Offer], now: Instant) -> Idle:
    """Return why the entry opens no call for these campaigns of its controller; empty where it may open one."""
    match event:
        case ConsentGiven():
            return _idle_consent(event, offers, now)
        case ContractMade():
            return _idle_contract(event, offers)
        case CallRequested():
            return "expired" if event.expires_at <= now else _without_goods((event.goods,), offers)
    return ""


def _idle_consent(given: ConsentGiven, offers: Sequence[Offer], now: Instant) -> Idle:
    if not (given.artefact and given.artefact_sha256):
        return "unproved"
    if 0 < given.expires_at <= now:
        return "expired"
    suited = [offer for offer in offers if offer.purpose in given.purposes]
    if not suited:
        return "purpose"
    return _without_goods(given.goods, suited) or ("unconfirmed" if given.double_opt_in else "")


def _idle_contract(made: ContractMade, offers: Sequence[Offer]) -> Idle:
    suited = [offer for offer in offers if offer.sector == made.sector]
    if not suited:
        return "sector"
    about = any(offer.purpose in ABOUT_THE_CONTRACT for offer in suited)
    return _without_goods(made.goods, suited) or ("" if about or made.marketing else "marketing")


def _without_goods(goods: Collection[str], offers: Sequence[Offer]) -> Idle:
    return "goods" if goods and not any(offer.goods in goods for offer in offers) else ""


def sentence(why: Idle, offers: Sequence[Offer], caller_ids: Collection[str] = ()) -> str:
    """Return what to show whoever recorded it; the names are those of the controller's own campaigns."""
    if not why:
        return ""
    text = f"It opens nothing yet, because {_BECAUSE[why]}"
    if why == "caller_id":
        return choose(text, caller_ids)
    if why in {"purpose", "sector", "goods"}:
        return choose(text, {str(getattr(offer, why)) or "none" for offer in offers})
    return text
