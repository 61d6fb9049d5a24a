"""An existing relation between the controller and the person as the legal basis for a call."""

from datetime import date

from dialgate.core import periods
from dialgate.core.law import Binding
from dialgate.core.law_sections import Relation
from dialgate.core.legal_basis import contracts, holder_requests
from dialgate.core.model import DAY, EPOCH, Contract, Facts, Instant
from dialgate.core.objections import has_objected


def relation(facts: Facts, law: Binding) -> Relation | None:
    """Return the first of the law's `relations` that covers this call, or None."""
    known = facts.known
    if not law.relations or not (known.contracts or known.requests) or has_objected(facts, law):
        return None
    return next((section for section in law.relations if _is_related(section, facts)), None)


def _is_related(section: Relation, facts: Facts) -> bool:
    if any(_is_customer(section, deal, facts) for deal in contracts(facts)):
        return True
    if section.since not in {"inquiry", "interaction"}:
        return False
    return any(
        asked.requested_at <= facts.at
        and (section.goods == "any" or asked.goods in {"", facts.campaign.goods})
        and _lasts(section, _first_day(asked.requested_at, facts), facts)
        for asked in holder_requests(facts)
    )


def _is_customer(section: Relation, deal: Contract, facts: Facts) -> bool:
    if deal.starts > facts.today or not _covers_goods(section, deal, facts):
        return False
    purchased = min(deal.last_purchase or deal.starts, facts.today)
    is_running = deal.ends is None or facts.today <= deal.ends
    match section.since:
        case "contract_end":
            return is_running or _lasts(section, deal.ends, facts)
        case "purchase":
            return _lasts(section, purchased, facts)
        case "interaction":
            return is_running or _lasts(section, max(purchased, deal.ends or purchased), facts)
    return False


def _covers_goods(section: Relation, deal: Contract, facts: Facts) -> bool:
    campaign = facts.campaign
    match section.goods:
        case "any":
            return True
        case "similar":
            return deal.sector == campaign.sector
    return deal.sector == campaign.sector and (not deal.goods or campaign.goods in deal.goods)


def _lasts(section: Relation, day: date | None, facts: Facts) -> bool:
    return (
        day is not None and section.lasts is not None and facts.today <= periods.last_day(section.lasts, day)
    )


def _first_day(at: Instant, facts: Facts) -> date:
    """Return the earliest local day on which `at` can fall."""
    days = [periods.first_day(at, place) for place in facts.places]
    return date.fromordinal(EPOCH + min(days, default=at // DAY - 1))
