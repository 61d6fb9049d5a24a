"""Sample values that several endpoints use in their examples."""

from typing import Any, Final

import msgspec

from dialgate.core.responses import Answer

NUMBER: Final = "+390612345678"
OTHER_NUMBER: Final = "+390612345679"
CALLER: Final = "+390844123456"
CAMPAIGN: Final = "acme-fibre"
AT: Final = "2026-11-24T10:00:00+01:00"
AT_UTC: Final = "2026-11-24T09:00:00.000Z"
CALL: Final = {"to": NUMBER, "from": CALLER, "campaign": CAMPAIGN, "call_id": "20261124-0001"}
ALLOW: Final = {
    "decision": "allow",
    "decision_id": "9f2c01ab-4711",
    "to": NUMBER,
    "from": CALLER,
    "valid_until": "2026-11-24T09:15:00.000Z",
}
REASON: Final = {
    "code": "registry.listed",
    "severity": "statute",
    "law": "L. 5/2018 art. 1 c. 5",
    "text": "The registry answered on 2026-11-20 that this number is enrolled.",
}
DENY: Final[dict[str, Any]] = {
    "decision": "deny",
    "decision_id": "9f2c01ab-4712",
    "to": OTHER_NUMBER,
    "from": CALLER,
    "reasons": [REASON],
    "reason_class": "number",
}
UNDECIDED: Final[dict[str, Any]] = {
    "decision": "deny",
    "reasons": [
        {
            "code": "gate.unavailable",
            "severity": "gate",
            "law": "",
            "text": "the gate cannot decide now (log); retry in a few seconds",
        }
    ],
    "reason_class": "gate",
}
RECEIPT: Final = {"seq": 812, "at": "2026-11-24T09:00:00.412Z"}


def answer(example: dict[str, Any]) -> Answer:
    return msgspec.convert(example, Answer)
