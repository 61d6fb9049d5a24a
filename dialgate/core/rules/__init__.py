"""The rules, which return Pass, Deny or Skip for the facts of a call and the sections of law that apply.

Every rule runs and every outcome is kept. The order of `RULES` only decides which reason comes first. A rule does
no look-ups, takes the time from `facts.at`, and does not depend on the interface. Replay compares outcomes word for
word, so never change their texts.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from dialgate.core.law import Binding
from dialgate.core.model import Facts, Instant, Outcome
from dialgate.core.rules import (
    caller_id,
    campaign,
    consent,
    frequency,
    hours,
    lists,
    number,
    pacing,
    registry,
    revocation,
)

Rule: TypeAlias = Callable[[Facts, Binding], Outcome]
TurningPoints: TypeAlias = Callable[[Facts, Binding], Iterator[Instant]]

RULES: tuple[tuple[str, Rule], ...] = (
    ("number_valid", number.number_valid),
    ("campaign_known", campaign.campaign_known),
    # The rules from here on need a valid number and a known campaign.
    ("not_revoked", revocation.not_revoked),
    ("sector_allowed", campaign.sector_allowed),
    ("registry_clear", registry.registry_clear),
    ("list_origin", lists.list_origin),
    ("lawful_basis", consent.lawful_basis),
    ("caller_id_shown", caller_id.caller_id_shown),
    ("caller_id_assigned", caller_id.caller_id_assigned),
    ("caller_id_class", caller_id.caller_id_class),
    ("caller_id_recallable", caller_id.caller_id_recallable),
    ("caller_id_ingress", caller_id.caller_id_ingress),
    ("hours_open", hours.hours_open),
    ("frequency_kept", frequency.frequency_kept),
    ("rest_kept", frequency.rest_kept),
    ("ratio_kept", pacing.ratio_kept),
    ("ai_disclosed", campaign.ai_disclosed),
)
PRECONDITIONS = 2
# The instants at which the outcomes of rules change within a local day, from the facts of a time on that day and the sections
# without those that an exemption lifted. Other instants may be among them.
TURNING_POINTS: tuple[TurningPoints, ...] = (
    registry.turning_points,
    caller_id.turning_points,
    hours.turning_points,
)
# The same for rules that read what is stored about the called number.
OWN_TURNING_POINTS: tuple[TurningPoints, ...] = (consent.turning_points, frequency.turning_points)
# The kind of section of each newer rule. Without such sections the rule has no outcome, so that earlier records replay unchanged.
SECTIONS_OF: dict[str, str] = {"ratio_kept": "ratios", "ai_disclosed": "ai_disclosures"}
# The rules that judge the caller ID.
CALLER_ID_RULES = tuple(name for name, _ in RULES if name.startswith("caller_id_"))
# The rules that read what is stored about the called number: its attempts, or its entries in the ledger. For all other rules, a
# known number is like any other.
READ_ATTEMPTS = frozenset({"frequency_kept", "rest_kept"})
READ_ENTRIES = frozenset({"not_revoked", "registry_clear", "list_origin", "lawful_basis"})
