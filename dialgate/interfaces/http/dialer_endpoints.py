"""The table of endpoints for dialers with their own protocol or format."""

from typing import Final

from dialgate.interfaces.http import authzen, freeswitch, webhooks
from dialgate.interfaces.http.openapi import Endpoint, Parameter

_GROUP: Final = "Dialers"
_NUMBER: Final = "+390612345678"
_WORK: Final = '<document type="xml/freeswitch-httapi">…<work><{}/></work></document>'
_PLAN: Final = (
    '<document type="freeswitch/xml"><section name="dialplan">…<action application="{}" data="{}"/>…'
)
_EVALUATION: Final = {
    "subject": {"type": "campaign", "id": "acme-fibre", "properties": {"caller_id": "+390844123456"}},
    "action": {"name": "call"},
    "resource": {"type": "phone_number", "id": _NUMBER},
    "context": {"call_id": "20261124-0001"},
}
_ALLOW: Final = {
    "decision": True,
    "context": {
        "decision_id": "9f2c01ab-4711",
        "to": _NUMBER,
        "from": "+390844123456",
        "valid_until": "2026-11-24T09:15:00.000Z",
    },
}
_REASON: Final = {
    "code": "registry.listed",
    "severity": "statute",
    "law": "L. 5/2018 art. 1 c. 5",
    "text": "enrolled",
}
_DENY: Final = {
    "decision": False,
    "context": {"decision_id": "9f2c01ab-4712", "reasons": [_REASON], "reason_class": "number"},
}
_UNDECIDED: Final = {
    "decision": False,
    "context": {
        "reasons": [{"code": "gate.unavailable", "severity": "gate", "law": "", "text": "ask again"}],
        "reason_class": "gate",
    },
}
_CALL: Final = (
    Parameter(name="to", about="Number to dial. Default: the channel's destination number.", example=_NUMBER),
    Parameter(name="from", about="Caller ID to show. Default: the channel's caller ID.", example="+390844123456"),
    Parameter(name="campaign", about="Id of the campaign.", example="acme-fibre", required=True),
    Parameter(name="call_type", about="Call type, only if stricter than the campaign's.", example="agent"),
)  # fmt: skip
_BRIDGE: Final = Parameter(
    name="bridge",
    about="Start of the dial string. A slash and the checked number are appended.",
    example="sofia/gateway/trunk",
    required=True,
)
_PROFILE: Final = Parameter(
    name="profile",
    about="Name of a file in config/webhooks, without `.yaml`.",
    example="generic",
    required=True,
    place="path",
)
_ASKING: Final = ("request.not_json", "request.too_large", "request.timeout")


def _httapi(method: str) -> Endpoint:
    return Endpoint(
        method=method,
        path="/v1/freeswitch/httapi",
        group=_GROUP,
        about=(
            "Check a call for FreeSWITCH mod_httapi. An allow continues with `dg_decision` set; a denial or an error hangs up. "
            "The status is always 200, because FreeSWITCH continues the call after any other."
        ),
        serve=freeswitch.httapi,
        refuse=freeswitch.refuse_httapi,
        scope="check",
        media="text/xml",
        parameters=_CALL,
        also_asks=("application/x-www-form-urlencoded",) if method == "POST" else (),
        answer_example=_WORK.format("break"),
        denial_example=_WORK.format('hangup cause="CALL_REJECTED"'),
    )


DIALERS: Final = (
    _httapi("GET"),
    _httapi("POST"),
    Endpoint(
        method="POST",
        path="/v1/freeswitch/dialplan",
        group=_GROUP,
        about=(
            "Check a call for FreeSWITCH mod_xml_curl. The response is a dialplan that bridges to the checked number or hangs up. "
            "The status is always 200."
        ),
        serve=freeswitch.dialplan,
        refuse=freeswitch.refuse_dialplan,
        scope="check",
        media="text/xml",
        parameters=(*_CALL, _BRIDGE),
        also_asks=("application/x-www-form-urlencoded",),
        answer_example=_PLAN.format("bridge", f"sofia/gateway/trunk/{_NUMBER}"),
        denial_example=_PLAN.format("hangup", "CALL_REJECTED"),
    ),
    Endpoint(
        method="POST",
        path="/v1/webhooks/{profile:[a-z0-9_-]+}",
        group=_GROUP,
        about="Check a call in the dialer's own format. A profile maps the request's fields and the response.",
        serve=webhooks.webhook,
        scope="check",
        parameters=(_PROFILE,),
        ask=dict,
        ask_example={"to": _NUMBER, "from": "+390844123456", "campaign": "acme-fibre"},
        also_asks=("application/x-www-form-urlencoded",),
        answer=dict,
        answer_example={"allowed": True, "decision": "allow", "decision_id": "9f2c01ab-4711"},
        denial_example={"allowed": False, "decision": "deny", "reason": "registry.listed", "reason_class": "number"},
        errors=("webhook.unknown",),
    ),
    Endpoint(
        method="POST",
        path=authzen.EVALUATION,
        group=_GROUP,
        about="Check a call in the format of OpenID AuthZEN 1.0. `decision` is true only for an allow that is recorded.",
        serve=authzen.evaluation,
        scope="check",
        ask=authzen.Evaluation,
        ask_example=_EVALUATION,
        answer=authzen.Verdict,
        answer_example=_ALLOW,
        denial_example=_DENY,
        also_answers=((503, "The gate cannot decide. Do not call; repeat the request.", _UNDECIDED),),
        errors=_ASKING,
    ),
    Endpoint(
        method="POST",
        path=authzen.EVALUATIONS,
        group=_GROUP,
        about=(
            "Check many calls in the format of OpenID AuthZEN 1.0. The top level holds defaults for each evaluation. A malformed "
            "evaluation is denied, and the others are answered."
        ),
        serve=authzen.evaluations,
        scope="check",
        ask=authzen.Evaluations,
        ask_example={**_EVALUATION, "evaluations": [{"resource": {"type": "phone_number", "id": _NUMBER}}]},
        answer=authzen.Verdicts,
        answer_example={"evaluations": [_ALLOW]},
        errors=(*_ASKING, "batch.too_large"),
    ),
)  # fmt: skip
