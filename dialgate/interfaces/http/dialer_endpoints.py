"""The table of endpoints for dialers with their own protocol or format."""

from typing import Any, Final

import msgspec

from dialgate.interfaces.http import authzen, examples, freeswitch, webhooks
from dialgate.interfaces.http.check import CheckRequest
from dialgate.interfaces.http.endpoint import (
    BODY_ERRORS,
    FORM,
    JSON_ERRORS,
    Endpoint,
    Group,
    Media,
    Parameter,
)
from dialgate.interfaces.http.examples import ALLOW, CALL, CALLER, CAMPAIGN, DENY, NUMBER, UNDECIDED

_GROUP: Final = Group(
    "Dialers",
    "The check in a dialer's own format: FreeSWITCH, OpenID AuthZEN, and webhooks that a profile describes.",
)
_CHANNEL: Final = {
    "Unique-ID": "5f0c2a9b",
    "Caller-Destination-Number": NUMBER,
    "Caller-Caller-ID-Number": CALLER,
}
_WORK: Final = '<document type="xml/freeswitch-httapi">…<work><{}/></work></document>'
_PLAN: Final = (
    '<document type="freeswitch/xml"><section name="dialplan">…<action application="{}" data="{}"/>…'
)
_EVALUATION: Final = {
    "subject": {"type": "campaign", "id": CAMPAIGN, "properties": {"caller_id": CALLER}},
    "action": {"name": "call"},
    "resource": {"type": "phone_number", "id": NUMBER},
    "context": {"call_id": CALL["call_id"]},
}


def _verdict(example: dict[str, Any]) -> Any:
    return msgspec.to_builtins(authzen.verdict_of(examples.answer(example)))


_PARAMETERS: Final = (
    Parameter(name="to", about="Number to dial. Default: the channel's destination number.", example=NUMBER, required=False),
    Parameter(name="from", about="Caller ID to show. Default: the channel's caller ID.", example=CALLER, required=False),
    Parameter(name="campaign", about="Campaign ID.", example=CAMPAIGN),
    Parameter(name="call_type", about="Call type, only if stricter than the campaign's.", example="agent"),
)  # fmt: skip
_BRIDGE: Final = Parameter(
    name="bridge",
    about="Start of the dial string. A slash and the checked number are appended.",
    example="sofia/gateway/trunk",
    required=True,
)
_CONTEXT: Final = Parameter(
    name="context",
    about='Context of outbound calls. A request for another context gets "not found". Default: every context is checked.',
    example="dialgate",
)
_CHANNEL_FORM: Final = (Media(name=FORM, kind=dict, example=_CHANNEL),)
_PROFILE: Final = Parameter(
    name="profile",
    about="Name of a file in config/webhooks, without `.yaml`.",
    example="generic",
    required=True,
    place="path",
)


def _httapi(method: str, name: str) -> Endpoint:
    return Endpoint(
        method=method,
        path="/v1/freeswitch/httapi",
        name=name,
        group=_GROUP,
        about=(
            "Check a call for FreeSWITCH mod_httapi. An allow continues with `dg_decision` set; a denial or an error hangs up. "
            "The status is always 200, because FreeSWITCH continues the call after any other status."
        ),
        serve=freeswitch.httapi,
        refuse=freeswitch.refuse_httapi,
        scope="check",
        media="text/xml; charset=utf-8",
        query=CheckRequest,
        parameters=_PARAMETERS,
        also_asks=_CHANNEL_FORM if method == "POST" else (),
        errors=BODY_ERRORS if method == "POST" else (),
        answer_example=_WORK.format("break"),
        denial_example=_WORK.format('hangup cause="CALL_REJECTED"'),
    )


DIALERS: Final = (
    _httapi("GET", "checkCallForHttapi"),
    _httapi("POST", "checkPostedCallForHttapi"),
    Endpoint(
        method="POST",
        path="/v1/freeswitch/dialplan",
        name="checkCallForDialplan",
        group=_GROUP,
        about=(
            "Check a call for FreeSWITCH mod_xml_curl. The response is a dialplan that bridges to the checked number or hangs up. "
            "The status is always 200."
        ),
        serve=freeswitch.dialplan,
        refuse=freeswitch.refuse_dialplan,
        scope="check",
        media="text/xml; charset=utf-8",
        query=CheckRequest,
        parameters=(*_PARAMETERS, _BRIDGE, _CONTEXT),
        also_asks=_CHANNEL_FORM,
        errors=BODY_ERRORS,
        answer_example=_PLAN.format("bridge", f"sofia/gateway/trunk/{NUMBER}"),
        denial_example=_PLAN.format("hangup", "CALL_REJECTED"),
    ),
    Endpoint(
        method="POST",
        path="/v1/webhooks/{profile:[a-z0-9_-]+}",
        name="checkCallByWebhook",
        group=_GROUP,
        about="Check a call in the dialer's own format. A profile maps the request's fields and the response.",
        serve=webhooks.webhook,
        scope="check",
        parameters=(_PROFILE,),
        ask=dict,
        ask_example=CALL,
        also_asks=(Media(name=FORM, kind=dict, example=CALL),),
        answer=dict,
        answer_example={"allowed": True, "decision": "allow", "decision_id": ALLOW["decision_id"]},
        denial_example={"allowed": False, "decision": "deny", "reason": "registry.listed", "reason_class": "number"},
        errors=("webhook.unknown",),
    ),
    Endpoint(
        method="POST",
        path=authzen.EVALUATION,
        name="evaluateCall",
        group=_GROUP,
        about="Check a call in OpenID AuthZEN 1.0 format. `decision` is true only for an allow that is recorded. The body has at most 64 KiB.",
        serve=authzen.evaluation,
        scope="check",
        ask=authzen.Evaluation,
        ask_example=_EVALUATION,
        answer=authzen.Verdict,
        answer_example=_verdict(ALLOW),
        denial_example=_verdict(DENY),
        other_statuses=((503, "The gate cannot decide. Do not call; repeat the request.", authzen.Verdict, _verdict(UNDECIDED)),),
        errors=(*JSON_ERRORS, "rate.exceeded"),
    ),
    Endpoint(
        method="POST",
        path=authzen.EVALUATIONS,
        name="evaluateCalls",
        group=_GROUP,
        about=(
            "Check many calls in OpenID AuthZEN 1.0 format. The top level holds defaults for each evaluation. A malformed "
            "evaluation is denied, and the others are answered. The body has at most 64 KiB."
        ),
        serve=authzen.evaluations,
        scope="check",
        ask=authzen.Evaluations,
        ask_example={**_EVALUATION, "evaluations": [{"resource": {"type": "phone_number", "id": NUMBER}}]},
        answer=authzen.Verdicts,
        answer_example={"evaluations": [_verdict(ALLOW)]},
        errors=(*JSON_ERRORS, "batch.too_large"),
    ),
)  # fmt: skip
