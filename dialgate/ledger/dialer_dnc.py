"""A dialer's own list of numbers that must not be called, and how a number gets on it: VICIdial's Non-Agent API, and
GoAutodial's goAPIv2. Pure.

Stops are added and never taken off: who was put on it by somebody else would come off as well, and a call that the gate allows
again is worth less than one it has to refuse.
"""

import re
from typing import Final

from dialgate.config.webhook_targets import Hook

_DIGITS: Final = re.compile(r"\d{4,}")
_SHOWN: Final = 120


def form(hook: Hook, number: str, campaign: str) -> dict[str, str]:
    """What is posted, so that neither number nor password stands in a URL. `campaign`: none, where the stop is wider. One that
    the dialer has no name for goes on the list of all: wider than asked, never narrower.
    """
    asked, password = hook.settings, hook.secret.decode()
    digits = number.removeprefix("+").removeprefix(asked.cut)
    theirs = asked.campaigns.get(campaign, "")
    if asked.kind == "vicidial":
        return {
            "source": "dialgate",
            "user": asked.user,
            "pass": password,
            "function": "add_dnc_phone",
            "phone_number": digits,
            "campaign_id": theirs or "SYSTEM_INTERNAL",
        }
    return {
        "goUser": asked.user,
        "goPass": password,
        "goAction": "goActionDNC",
        "responsetype": "json",
        "phone_numbers": digits,
        "campaign_id": theirs or "INTERNAL",
        "stage": "ADD",
    }


def problem(kind: str, status: int, text: str) -> str:
    """Why the number is not on the list, or nothing. Both answer 200 whatever happened, and say it in the text."""
    said = " ".join(text.split())
    if status != 200:  # noqa: PLR2004 - HTTP's
        return f"it answered {status}"
    done = said.startswith("SUCCESS:") if kind == "vicidial" else re.search(r'"result": ?"success"', said)
    if done or "ALREADY EXISTS" in said.upper():
        return ""
    return f"it said: {_DIGITS.sub('#', said)[:_SHOWN]}"
