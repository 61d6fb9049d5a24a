"""Conversion of the gate's answer into a SIP response; see the table in server.py."""

from collections.abc import Iterator
from typing import Final

from dialgate.config.listeners import SipTrunk
from dialgate.core.responses import Answer
from dialgate.interfaces.sip.message import Fields

FAULT: Final = (
    500,
    "Server Internal Error",
    (("Retry-After", "1"), ("X-Dialgate-Reason", "gate.unavailable"), ("X-Dialgate-Class", "gate")),
)
_REFUSED: Final = {608: "Rejected", 603: "Decline", 403: "Forbidden"}


def response_for(answer: Answer, trunk: SipTrunk) -> tuple[int, str, Fields]:
    if answer.decision == "allow" and answer.to:
        return 302, "Moved Temporarily", tuple(_contacts(answer, trunk))
    if not answer.decision_id:
        return FAULT
    return trunk.refusal, _REFUSED[trunk.refusal], tuple(_reasons(answer, trunk))


def _contacts(answer: Answer, trunk: SipTrunk) -> Iterator[tuple[str, str]]:
    for place, contact in enumerate(trunk.contacts):
        yield "Contact", f"<{contact.replace('{number}', answer.to)}>;q={max(1 - place / 10, 0.1):.1f}"
    yield "X-Dialgate-Decision", answer.decision_id
    yield "X-Dialgate-Valid-Until", answer.valid_until


def _reasons(answer: Answer, trunk: SipTrunk) -> Iterator[tuple[str, str]]:
    """Yield the headers for a denial (RFC 3326, RFC 6432).

    The headers name dialgate, so that the denial is not attributed to a carrier.
    """
    code = answer.reasons[0].code
    yield "Reason", f'Q.850;cause=21;text="dialgate {code}"'
    yield "Reason", f'SIP;cause={trunk.refusal};text="dialgate {code}"'
    yield "X-Dialgate-Decision", answer.decision_id
    yield "X-Dialgate-Reason", code
    yield "X-Dialgate-Class", answer.reason_class
    if answer.not_before:
        yield "X-Dialgate-Not-Before", answer.not_before
    if trunk.call_info:
        yield "Call-Info", f"<{trunk.call_info}>;purpose=jwscard"  # RFC 8688 section 3.2
