"""The rules about the campaign, which must exist and be active, whose sector must not be banned, and whose AI must say that it is one.

D.Lgs. 206/2005 (Codice del consumo) art. 51 c. 8-bis, in force from 2026-06-19: commercial solicitation of consumers by
telephone to conclude contracts for electricity or gas is forbidden. Exceptions: (a) the consumer sent a request
directly to the professional, through the professional's own interfaces; (b) a customer of the professional gave
specific consent. The burden of proof lies with the professional.

Regulation (EU) 2024/1689 (AI Act) art. 50(1) and (5), which applies from 2026-08-02: the provider of an AI system that interacts
with people must design it so that they are told, at the latest when they first speak to it, unless that is obvious. A
caller can hardly prove that a voice was obviously an AI, so the gate demands the proof that people are told.
"""

from dialgate.core.law import Binding
from dialgate.core.law_sections import SectorBan
from dialgate.core.model import Deny, Facts, Outcome, Pass, Skip


def campaign_known(facts: Facts, law: Binding) -> Outcome:
    campaign = facts.campaign
    if not campaign.known:
        return Deny("campaign.unknown", "no such campaign for this client", severity="gate")
    if campaign.paused:
        return Deny("campaign.inactive", "the campaign is paused", severity="gate")
    if campaign.paused_at:
        return Deny("campaign.inactive", "a supervisor paused the campaign", severity="gate")
    if campaign.starts is not None and facts.today < campaign.starts:
        return Deny("campaign.inactive", f"the campaign begins on {campaign.starts}", severity="gate")
    if campaign.ends is not None and facts.today > campaign.ends:
        return Deny("campaign.inactive", f"the campaign ended on {campaign.ends}", severity="gate")
    if not law.legal_basis:
        return Deny(
            "campaign.inactive",
            f"the law of {law.country} knows no basis for such calls today",
            severity="gate",
        )
    return Pass(campaign.purpose)


def sector_allowed(facts: Facts, law: Binding) -> Outcome:
    if law.sector_bans:
        return _banned(law.sector_bans[0], facts, law)
    return Skip("no ban for this sector and purpose")


def ai_disclosed(facts: Facts, law: Binding) -> Outcome:
    if law.ai_disclosures and not facts.campaign.ai_disclosure:
        text = "no proof is recorded that the AI voice says at the beginning of the call that it is an AI"
        return law.ai_disclosures[0].deny("campaign.ai_undisclosed", text)
    return Pass("the AI voice says that it is an AI")


def _banned(ban: SectorBan, facts: Facts, law: Binding) -> Deny:
    if ban.sectors and law.sector is None:
        text = f"calls in some sectors are banned, and the law of {law.country} does not name the sector {facts.campaign.sector}"
        return ban.deny("campaign.sector_banned", text)
    text = f"calls to {facts.campaign.callee}s for {facts.campaign.sector} are banned without the person's own request "
    text += "on the controller's interface or an own customer's consent"
    return ban.deny("campaign.sector_banned", text)
