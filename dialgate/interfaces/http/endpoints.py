"""The table of endpoints that the server serves and /openapi.json describes."""

from typing import Any, Final

from msgspec import structs

from dialgate.core.model import Call
from dialgate.core.responses import Answer, Simulation
from dialgate.interfaces.http import check, ledger
from dialgate.interfaces.http.administration import ADMINISTRATION
from dialgate.interfaces.http.answer_types import Deny
from dialgate.interfaces.http.call_list_endpoints import CALL_LIST_ENDPOINTS
from dialgate.interfaces.http.campaigns import CAMPAIGN_ENDPOINTS
from dialgate.interfaces.http.decisions import DECISIONS
from dialgate.interfaces.http.dialer_endpoints import DIALERS
from dialgate.interfaces.http.endpoint import (
    BODY_ERRORS,
    FORM,
    JSON_ERRORS,
    NDJSON,
    Endpoint,
    EndpointGroup,
    Media,
    parameters_of,
)
from dialgate.interfaces.http.errors import Failed
from dialgate.interfaces.http.ledger_endpoints import LEDGER_ENDPOINTS
from dialgate.interfaces.http.reports import REPORTS
from dialgate.interfaces.http.subjects import SUBJECT_ENDPOINTS
from dialgate.ledger.schemas import OutcomeReceipt, OutcomeRequest

_CHECK: Final = EndpointGroup(
    "The check",
    "Check calls, one at a time or in batches. Simulate calls. Report the outcomes of allowed calls.",
)
_PARAMETERS: Final = parameters_of(Call)
_CANNOT_DECIDE: Final = "The gate cannot decide. Do not call; repeat the request."


def _dialplan(method: str, name: str, kind: str, serve: Any, refuse: Any) -> Endpoint:
    """Return an endpoint for dialplans.

    For POST, no query parameter is required, because the client can send the parameters in a form instead.
    """
    is_posted = method == "POST"
    parameters = tuple(structs.replace(parameter, required=False) for parameter in _PARAMETERS)
    return Endpoint(
        method=method,
        path=f"/v1/check.{kind}",
        name=name,
        group=_CHECK,
        about=(
            f"Check a call, with a response in {'plain text' if kind == 'txt' else 'form encoding'} for dialplans. Send the parameters "
            "in the query or in a posted form. If the request is invalid, the response still begins with a denial."
        ),
        serve=serve,
        refuse=refuse,
        scope="check",
        media="text/plain; charset=utf-8" if kind == "txt" else FORM,
        query=Call,
        parameters=parameters if is_posted else _PARAMETERS,
        also_asks=(Media(name=FORM, kind=Call),) if is_posted else (),
        other_statuses=((503, _CANNOT_DECIDE, None),),
        headers={
            "Dialgate-Decision": "`allow` or `deny`, also for HEAD, which answers 403 to a denied call.",
            "Dialgate-Class": "The `reason_class` of a denial.",
        },
        errors=(*(BODY_ERRORS if is_posted else ()), "rate.exceeded"),
    )


ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path="/v1/check",
        name="checkCall",
        group=_CHECK,
        about="Check whether a call may be placed. The decision is on disk before the response is sent.",
        serve=check.check,
        scope="check",
        ask=Call,
        answer=Answer,
        other_statuses=((503, _CANNOT_DECIDE, Deny),),
        errors=(*JSON_ERRORS, "rate.exceeded"),
    ),
    _dialplan("GET", "checkCallAsText", "txt", check.check_text, check.refuse_text),
    _dialplan("POST", "checkPostedCallAsText", "txt", check.check_text, check.refuse_text),
    _dialplan("GET", "checkCallAsForm", "form", check.check_form, check.refuse_form),
    _dialplan("POST", "checkPostedCallAsForm", "form", check.check_form, check.refuse_form),
    Endpoint(
        method="POST",
        path="/v1/checks",
        name="checkCalls",
        group=_CHECK,
        about=(
            'Check many calls. The answers are in the order of the calls; a malformed call gets `{"error": …}`. Calls sent as '
            "application/x-ndjson, one per line, are answered line by line, without a limit on their number."
        ),
        serve=check.checks,
        scope="check",
        ask=check.ChecksRequest,
        also_asks=(Media(name=NDJSON, kind=bytes, lines=(Call,)),),
        answer=check.Answers,
        also_answers=(Media(name=NDJSON, kind=bytes, lines=(Answer, Failed)),),
        errors=(*JSON_ERRORS, "batch.too_large", "streams.too_many"),
    ),
    Endpoint(
        method="POST",
        path="/v1/simulate",
        name="simulateCall",
        group=_CHECK,
        about="Simulate a check, now or at another time. Returns the outcome of every rule, and does not count as an attempt.",
        serve=check.simulate,
        scope="simulate",
        ask=check.SimulateRequest,
        answer=Simulation,
        errors=(*JSON_ERRORS, "lookup.throttled", "store.unavailable", "gate.unavailable"),
    ),
    Endpoint(
        method="POST",
        path="/v1/outcomes",
        name="reportOutcome",
        group=_CHECK,
        about=(
            "Report the outcome of an allowed call. `opt_out` records a revocation. `wrong_number` suspends the consents and "
            "contracts of the number."
        ),
        serve=ledger.report_outcome,
        scope="outcome",
        ask=OutcomeRequest,
        answer=OutcomeReceipt,
        errors=(*JSON_ERRORS, "decision.unknown", "outcome.known", "store.unavailable", "gate.unavailable"),
    ),
    *DECISIONS,
    *LEDGER_ENDPOINTS,
    *CALL_LIST_ENDPOINTS,
    *CAMPAIGN_ENDPOINTS,
    *SUBJECT_ENDPOINTS,
    *REPORTS,
    *ADMINISTRATION,
    *DIALERS,
)  # fmt: skip
