"""The table of endpoints that the server serves and /openapi.json describes."""

from typing import Any, Final, get_args

from dialgate.core.model import CallType
from dialgate.core.responses import Answer, Simulation
from dialgate.interfaces.http import check, ledger
from dialgate.interfaces.http.decisions import DECISIONS
from dialgate.interfaces.http.dialer_endpoints import DIALERS
from dialgate.interfaces.http.ledger_endpoints import ASKING, AT, LEDGER_ENDPOINTS, NUMBER, RECEIPT
from dialgate.interfaces.http.openapi import Endpoint, Parameter
from dialgate.interfaces.http.subjects import SUBJECT_ENDPOINTS
from dialgate.ledger.schemas import OutcomeReceipt, OutcomeRequest

_CHECK: Final = "The check"
_CALL: Final = {"to": NUMBER, "from": "+390844123456", "campaign": "acme-fibre", "call_id": "20261124-0001"}
_ALLOW: Final = {
    "decision": "allow",
    "decision_id": "9f2c01ab-4711",
    "to": NUMBER,
    "from": "+390844123456",
    "valid_until": "2026-11-24T09:15:00.000Z",
}
_REASON: Final = {
    "code": "registry.listed",
    "severity": "statute",
    "law": "L. 5/2018 art. 1 c. 5",
    "text": "The registry answered on 2026-11-20 that this number is enrolled.",
}
_DENY: Final = {
    "decision": "deny",
    "decision_id": "9f2c01ab-4712",
    "to": "+390612345679",
    "from": "+390844123456",
    "reasons": [_REASON],
    "reason_class": "number",
}
_UNDECIDED: Final = {
    "decision": "deny",
    "reasons": [
        {
            "code": "gate.unavailable",
            "severity": "gate",
            "law": "",
            "text": "the gate cannot decide now (log); ask again",
        }
    ],
    "reason_class": "gate",
}
_SIMULATION: Final = {
    "decision": "deny",
    "at": "2026-11-24T09:00:00.000Z",
    "to": NUMBER,
    "from": "+390844123456",
    "basis": "",
    "reasons": [_REASON],
    "outcomes": [
        {"rule": "registry", "result": "deny", **{k: _REASON[k] for k in ("text", "code", "law", "severity")}}
    ],
    "valid_until": "",
    "not_before": "",
    "reason_class": "number",
}
_FORM_ALLOW: Final = "decision=allow&decision_id=9f2c01ab-4711&to=%2B390612345678&from=%2B390844123456"
_FORM_DENY: Final = "decision=deny&reason=gate.unavailable&reason_class=gate"
_CALL_TYPES: Final = {"enum": get_args(CallType)}
_PARAMETERS: Final = (
    Parameter(name="to", about="Number to dial, in E.164.", example=NUMBER, required=True),
    Parameter(name="from", about="Caller ID to show, in E.164.", example="+390844123456", required=True),
    Parameter(name="campaign", about="Id of the campaign.", example="acme-fibre", required=True),
    Parameter(name="call_id", about="The dialer's id of the call. A repeated request counts once.", example="0001"),
    Parameter(name="call_type", about="Call type, only if stricter than the campaign's.", example="agent",
              schema=_CALL_TYPES),
    Parameter(name="permit", about="`true` to get a permit with an allow.", example="false"),
)  # fmt: skip
_PLAIN_ASKING: Final = ("request.too_large", "request.timeout")


def _dialplan(method: str, kind: str, serve: Any, refuse: Any, allow: str, deny: str) -> Endpoint:
    return Endpoint(
        method=method,
        path=f"/v1/check.{kind}",
        group=_CHECK,
        about=(
            f"Check a call, with a response in {'plain text' if kind == 'txt' else 'form encoding'} for dialplans. Send the parameters "
            "in the query or in a posted form. If the request is invalid, the response still begins with a denial."
        ),
        serve=serve,
        refuse=refuse,
        scope="check",
        media="text/plain" if kind == "txt" else "application/x-www-form-urlencoded",
        parameters=_PARAMETERS,
        also_asks=("application/x-www-form-urlencoded",) if method == "POST" else (),
        answer_example=allow,
        also_answers=((503, "The gate cannot decide. Do not call; repeat the request.", deny),),
        errors=_PLAIN_ASKING if method == "POST" else (),
    )


ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path="/v1/check",
        group=_CHECK,
        about="Check whether a call may be placed. The decision is on disk before the response is sent.",
        serve=check.check,
        scope="check",
        ask=check.SingleRequest,
        ask_example=_CALL,
        answer=Answer,
        answer_example=_ALLOW,
        denial_example=_DENY,
        also_answers=((503, "The gate cannot decide. Do not call; repeat the request.", _UNDECIDED),),
        errors=ASKING,
    ),
    _dialplan("GET", "txt", check.check_text, check.refuse_text, "allow", "deny gate.unavailable"),
    _dialplan("POST", "txt", check.check_text, check.refuse_text, "allow", "deny gate.unavailable"),
    _dialplan("GET", "form", check.check_form, check.refuse_form, _FORM_ALLOW, _FORM_DENY),
    _dialplan("POST", "form", check.check_form, check.refuse_form, _FORM_ALLOW, _FORM_DENY),
    Endpoint(
        method="POST",
        path="/v1/checks",
        group=_CHECK,
        about=(
            'Check many calls. The answers are in the order of the calls; a malformed call gets `{"error": …}`. Calls sent as '
            "application/x-ndjson, one per line, are answered line by line, without a limit on their number."
        ),
        serve=check.checks,
        scope="check",
        ask=check.ChecksRequest,
        ask_example={"calls": [_CALL]},
        also_asks=("application/x-ndjson",),
        answer=check.Answers,
        answer_example={"answers": [_ALLOW]},
        errors=(*ASKING, "batch.too_large", "streams.too_many"),
    ),
    Endpoint(
        method="POST",
        path="/v1/simulate",
        group=_CHECK,
        about="Simulate a check, now or at another instant. Returns the outcome of every rule, and does not count as an attempt.",
        serve=check.simulate,
        scope="simulate",
        ask=check.SimulateRequest,
        ask_example={**_CALL, "at": AT},
        answer=Simulation,
        answer_example=_SIMULATION,
        errors=(*ASKING, "lookup.throttled", "store.unavailable", "gate.unavailable"),
    ),
    Endpoint(
        method="POST",
        path="/v1/outcomes",
        group=_CHECK,
        about=(
            "Report the outcome of an allowed call. `opt_out` records a revocation. `wrong_number` suspends the consents and "
            "contracts of the number."
        ),
        serve=ledger.write(OutcomeRequest, lambda registrar: registrar.outcomes.result, 200),
        scope="outcome",
        ask=OutcomeRequest,
        ask_example={"decision_id": "9f2c01ab-4711", "outcome": "opt_out"},
        answer=OutcomeReceipt,
        answer_example={"decision_id": "9f2c01ab-4711", "outcome": "opt_out", "revocation": RECEIPT},
        errors=(*ASKING, "decision.unknown", "store.unavailable", "gate.unavailable"),
    ),
    *DECISIONS,
    *LEDGER_ENDPOINTS,
    *SUBJECT_ENDPOINTS,
    *DIALERS,
)  # fmt: skip
