"""Requests that add a number to a dialer's do-not-call list.

The requests use VICIdial's Non-Agent API and GoAutodial's goAPIv2. A number is never removed from the list,
because another system may have added it too. The list may thus block calls after a revocation was lifted, but a
blocked call does less harm than an unlawful one.
"""

import re
from typing import Final

from dialgate.config.webhook_targets import SubscriberAccess

_DIGITS: Final = re.compile(r"\d{4,}")
_SHOWN: Final = 120


def form(subscriber: SubscriberAccess, number: str, campaign: str) -> dict[str, str]:
    """Return the form fields to post.

    A form keeps the number and the password out of the URL. `campaign` is empty if the revocation is for all
    campaigns. If the settings do not map the campaign to a dialer campaign, the number is blocked for all
    campaigns, because it is safer to stop too many calls than too few.
    """
    settings, password = subscriber.settings, subscriber.secret.decode()
    digits = number.removeprefix("+").removeprefix(settings.cut)
    campaign_id = settings.campaigns.get(campaign, "")
    if settings.kind == "vicidial":
        return {
            "source": "dialgate",
            "user": settings.user,
            "pass": password,
            "function": "add_dnc_phone",
            "phone_number": digits,
            "campaign_id": campaign_id or "SYSTEM_INTERNAL",
        }
    return {
        "goUser": settings.user,
        "goPass": password,
        "goAction": "goActionDNC",
        "responsetype": "json",
        "phone_numbers": digits,
        "campaign_id": campaign_id or "INTERNAL",
        "stage": "ADD",
    }


def problem(kind: str, text: str) -> str:
    """Return the reason why the dialer did not add the number to its list, or "" if the number is on the list.

    VICIdial and GoAutodial reply with status 200 even after an error. The result is in the text of the reply.
    """
    response = " ".join(text.split())
    if kind == "vicidial":
        done = response.startswith("SUCCESS:")
    else:
        done = re.search(r'"result": ?"success"', response) is not None
    if done or "ALREADY EXISTS" in response.upper():
        return ""
    return f"the dialer replied: {_DIGITS.sub('#', response)[:_SHOWN]}"
