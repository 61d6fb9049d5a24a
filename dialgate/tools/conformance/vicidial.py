"""The status that VICIdial (SVN 3884) gives a lead whose call ended before it left."""

import re
from typing import Final

DO_NOT_CALL: Final = "DNCCAR"
_DEAD: Final = re.compile(
    "19|21|34|38|102"
)  # hangup causes of a number that is out of service, by VICIdial's reading


def lead_status(dial_status: str, hangup_cause: str) -> str:
    """Return what `Enhanced Disconnect Logging` 1 or 2 sets; empty where the lead may be called again."""
    match dial_status:
        case "DNC":
            return DO_NOT_CALL
        case "DISCONNECT":
            return "ADCCAR"
        case "CHANUNAVAIL":
            return "ADC"
        case "CONGESTION" if hangup_cause == "1":
            return "ADC"
        case "CONGESTION" if _DEAD.fullmatch(hangup_cause):
            return "ADCT"
    return ""
