"""The status that VICIdial (SVN 3884) gives to a lead whose call could not be connected."""

import re
from typing import Final

DO_NOT_CALL: Final = "DNCCAR"
# VICIdial treats these hangup causes as a number out of service.
_DEAD: Final = re.compile("19|21|34|38|102")


def lead_status(dial_status: str, hangup_cause: str) -> str:
    """Return the status that VICIdial gives to the lead, or "" if it will call the lead again.

    The setting `Enhanced Disconnect Logging` must be 1 or 2, and the column `vicidial_auto_calls.status` must accept
    `DNCCAR`. By default it does not, and the lead gets `NA` instead.
    """
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
