"""Every endpoint: one literal table, which the server serves and /openapi.json describes."""

from typing import Any, Final, get_args

from dialgate.answers import Answer, Simulation
from dialgate.interfaces import http_check, http_ledger
from dialgate.interfaces.http_decisions import DECISIONS
from dialgate.interfaces.http_dialers import DIALERS
from dialgate.interfaces.http_subjects import PURPOSE, SUBJECT_ENDPOINTS
from dialgate.interfaces.openapi import Endpoint, Parameter
from dialgate.model import CallType
from dialgate.registrar import Registrar
from dialgate.requests import (
    CallerIdProofRequest,
    CallRequestRequest,
    ConsentRequest,
    ContractEndRequest,
    ContractRequest,
    LiftRequest,
    ListInfo,
    ListReport,
    ListRequest,
    OutcomeReceipt,
    OutcomeRequest,
    Receipt,
    RevocationRequest,
    WithdrawalRequest,
)
from dialgate.settings import Scope

_CHECK: Final = "The check"
_LEDGER: Final = "The ledger"
_LISTS: Final = "Call lists and caller IDs"

_NUMBER: Final = "+390612345678"
_AT: Final = "2026-11-24T10:00:00+01:00"
_RECEIPT: Final = {"seq": 812, "at": "2026-11-24T09:00:00.412Z"}
_CALL: Final = {"to": _NUMBER, "from": "+390844123456", "campaign": "acme-fibre", "call_id": "20261124-0001"}
_ALLOW: Final = {
    "decision": "allow",
    "decision_id": "9f2c01ab-4711",
    "to": _NUMBER,
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
}
_SIMULATION: Final = {
    "decision": "deny",
    "at": "2026-11-24T09:00:00.000Z",
    "to": _NUMBER,
    "from": "+390844123456",
    "basis": "",
    "reasons": [_REASON],
    "outcomes": [
        {"rule": "registry", "result": "deny", **{k: _REASON[k] for k in ("text", "code", "law", "severity")}}
    ],
    "valid_until": "",
    "not_before": "",
}
_FORM_ALLOW: Final = "decision=allow&decision_id=9f2c01ab-4711&to=%2B390612345678&from=%2B390844123456"
_FORM_DENY: Final = "decision=deny&reason=gate.unavailable"
_REVOKE: Final = (
    "Record that a person told the caller to stop. It binds every decision after the receipt's `at`."
)
_CONSENT: Final = {
    "number": _NUMBER,
    "id": "web-2026-000123",
    "collected_at": _AT,
    "purposes": ["sale"],
    "call_types": ["agent"],
    "artefact": "forms/2026/000123.pdf",
    "artefact_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
}
_ENTRY: Final = {
    "seq": 812,
    "at": "2026-11-24T09:00:00.412Z",
    "kind": "revoked",
    "controller": "acme",
    "actor": "agent-17",
    "channel": "call",
    "proof": "recording:2026/11/24/0001.wav",
    "details": {"at": "2026-11-24T09:00:00.000Z", "scope": "controller"},
}
_LIST: Final = {
    "id": "rome-november",
    "controller": "acme",
    "campaigns": ["acme-fibre"],
    "numbers": 2,
    "origin": {"collected_by": "Acme", "collected_on": "2026-10-01", "source": "DBU extract"},
    "loaded_at": "2026-11-24T09:00:00.000Z",
    "actor": "ops",
    "retired_at": "",
}

_UPLOAD: Final[dict[str, Any]] = {
    "id": "rome-november",
    "campaigns": ["acme-fibre"],
    "basis": "directory",
    "collected_by": "Acme",
    "collected_on": "2026-10-01",
    "source": "DBU extract",
    "numbers": [_NUMBER, "+390612345679", "12"],
}
_CALL_TYPES: Final = {"enum": get_args(CallType)}
_ASKED: Final = (
    Parameter(name="to", about="The number to be dialled.", example=_NUMBER, required=True),
    Parameter(name="from", about="The number to be shown.", example="+390844123456", required=True),
    Parameter(name="campaign", about="The campaign.", example="acme-fibre", required=True),
    Parameter(name="call_id", about="The dialer's name for the call; a repeat counts once.", example="0001"),
    Parameter(name="call_type", about="Stricter than the campaign's.", example="agent", schema=_CALL_TYPES),
)  # fmt: skip
_ABOUT_WHOM: Final = (
    Parameter(name="number", about="The person's number.", example=_NUMBER, required=True),
    PURPOSE,
    Parameter(name="controller", about="May be left out by a client of one controller.", example="acme"),
)
_SEQ: Final = Parameter(name="seq", about="The revocation.", example="812", required=True, place="path")
_ID: Final = Parameter(name="id", about="The list.", example="rome-november", required=True, place="path")

_UPLOADED: Final = tuple(
    Parameter(
        name=name,
        about=f"`{name}` of the request, for a list that comes as a file.",
        example=_UPLOAD.get(name, "[]" if name == "transfers" else ""),
        many=name == "campaigns",
    )
    for name in ListRequest.__struct_fields__
)

_WRITE: Final = (
    "request.not_json", "request.too_large", "request.timeout", "number.invalid", "controller.unknown",
    "store.unavailable", "gate.unavailable",
)  # fmt: skip
_READ: Final = ("number.invalid", "controller.unknown", "lookup.throttled", "store.unavailable")
_ASKING: Final = ("request.not_json", "request.too_large", "request.timeout")
_PLAIN_ASKING: Final = ("request.too_large", "request.timeout")


def _dialplan(method: str, kind: str, serve: Any, refuse: Any, allow: str, deny: str) -> Endpoint:
    return Endpoint(
        method=method,
        path=f"/v1/check.{kind}",
        group=_CHECK,
        about=(
            "The same for a dialplan. Parameters in the query, or in a form that is posted. An error too begins with "
            "a denial."
        ),
        serve=serve,
        refuse=refuse,
        scope="check",
        media="text/plain" if kind == "txt" else "application/x-www-form-urlencoded",
        parameters=_ASKED,
        also_asks=("application/x-www-form-urlencoded",) if method == "POST" else (),
        answer_example=allow,
        also_answers=((503, "The gate cannot decide: do not call; ask again.", deny),),
        errors=_PLAIN_ASKING if method == "POST" else (),
    )


def _written(path: str, about: str, act: Any, ask: Any, scope: Scope, example: Any, *errors: str) -> Endpoint:
    return Endpoint(
        method="POST",
        path=path,
        group=_LEDGER,
        about=about,
        serve=http_ledger.write(ask, act),
        scope=scope,
        ask=ask,
        ask_example=example,
        answer=Receipt,
        answer_example=_RECEIPT,
        status=201,
        errors=(*_WRITE, *errors),
    )


def _history(path: str, about: str, *kinds: str) -> Endpoint:
    return Endpoint(
        method="GET",
        path=path,
        group=_LEDGER,
        about=about,
        serve=http_ledger.history(*kinds),
        scope="read",
        parameters=_ABOUT_WHOM,
        answer=http_ledger.History,
        answer_example={"entries": [{**_ENTRY, "kind": kinds[0]}]},
        errors=_READ,
    )


ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path="/v1/check",
        group=_CHECK,
        about="May this call be placed? The decision is on the disk before the answer leaves.",
        serve=http_check.check,
        scope="check",
        ask=http_check.CheckRequest,
        ask_example=_CALL,
        answer=Answer,
        answer_example=_ALLOW,
        denial_example=_DENY,
        also_answers=((503, "The gate cannot decide: do not call; ask again.", _UNDECIDED),),
        errors=_ASKING,
    ),
    _dialplan("GET", "txt", http_check.check_text, http_check.refuse_text, "allow", "deny gate.unavailable"),
    _dialplan("POST", "txt", http_check.check_text, http_check.refuse_text, "allow", "deny gate.unavailable"),
    _dialplan("GET", "form", http_check.check_form, http_check.refuse_form, _FORM_ALLOW, _FORM_DENY),
    _dialplan("POST", "form", http_check.check_form, http_check.refuse_form, _FORM_ALLOW, _FORM_DENY),
    Endpoint(
        method="POST",
        path="/v1/checks",
        group=_CHECK,
        about=(
            'Many calls at once. Answers stand in the order of the calls; an ill-formed call gets `{"error": …}` in its '
            "place. As application/x-ndjson, one call a line, they are answered line by line without a limit."
        ),
        serve=http_check.checks,
        scope="check",
        ask=http_check.ChecksRequest,
        ask_example={"calls": [_CALL]},
        also_asks=("application/x-ndjson",),
        answer=http_check.Answers,
        answer_example={"answers": [_ALLOW]},
        errors=(*_ASKING, "batch.too_large"),
    ),
    Endpoint(
        method="POST",
        path="/v1/simulate",
        group=_CHECK,
        about="What would be decided, now or at another instant. Every rule's outcome; nothing is reserved or recorded.",
        serve=http_check.simulate,
        scope="simulate",
        ask=http_check.SimulateRequest,
        ask_example={**_CALL, "at": _AT},
        answer=Simulation,
        answer_example=_SIMULATION,
        errors=(*_ASKING, "lookup.throttled", "store.unavailable", "gate.unavailable"),
    ),
    Endpoint(
        method="POST",
        path="/v1/outcomes",
        group=_CHECK,
        about="What became of an allowed call. `opt_out` revokes at once.",
        serve=http_ledger.write(OutcomeRequest, Registrar.result, 200),
        scope="outcome",
        ask=OutcomeRequest,
        ask_example={"decision_id": "9f2c01ab-4711", "outcome": "opt_out"},
        answer=OutcomeReceipt,
        answer_example={"decision_id": "9f2c01ab-4711", "outcome": "opt_out", "revocation": _RECEIPT},
        errors=(*_ASKING, "decision.unknown", "store.unavailable", "gate.unavailable"),
    ),
    _written("/v1/revocations", _REVOKE, Registrar.revoke, RevocationRequest, "revoke",
             {"number": _NUMBER, "channel": "call", "proof": "recording:2026/11/24/0001.wav", "actor": "agent-17"}),
    _history("/v1/revocations", "The revocations of a number, and what lifted them.", "revoked", "lifted"),
    Endpoint(
        method="POST",
        path="/v1/revocations/{seq:[0-9]{1,18}}/lift",
        group=_LEDGER,
        about="Lift a revocation that was entered by mistake, or after which the person consented anew.",
        serve=http_ledger.lift,
        scope="revoke",
        parameters=(_SEQ,),
        ask=LiftRequest,
        ask_example={"ground": "error", "reason": "the neighbour's number was entered", "actor": "dpo"},
        answer=Receipt,
        answer_example=_RECEIPT,
        status=201,
        errors=(*_ASKING, "revocation.unknown", "store.unavailable", "gate.unavailable"),
    ),
    _written("/v1/consents", "Record a consent. Without an artefact and its SHA-256 it opens nothing.",
             Registrar.record, ConsentRequest, "ledger", _CONSENT),
    _history("/v1/consents", "The consents of a number, with withdrawals.",
             "consent", "consent_withdrawn", "consents_voided"),
    _written("/v1/consents/withdraw", "Withdraw a consent. It binds every decision after the receipt.",
             Registrar.record, WithdrawalRequest, "ledger", {"number": _NUMBER, "id": "web-2026-000123"},
             "ledger.unknown"),
    _written("/v1/contracts", "Record a contract.", Registrar.record, ContractRequest, "ledger",
             {"number": _NUMBER, "id": "C-1001", "starts": "2025-03-01", "sector": "telecommunications", "marketing": True}),
    _history("/v1/contracts", "The contracts of a number.", "contract", "contract_ended"),
    _written("/v1/contracts/end", "End a contract. `ends` is its last day.", Registrar.record, ContractEndRequest,
             "ledger", {"number": _NUMBER, "id": "C-1001", "ends": "2026-11-30"}, "ledger.unknown"),
    _written("/v1/call-requests", "Record that the person asked to be called.", Registrar.record,
             CallRequestRequest, "ledger",
             {"number": _NUMBER, "id": "form-77", "requested_at": _AT, "expires_at": "2026-12-01T10:00:00+01:00"}),
    _history("/v1/call-requests", "The call requests of a number.", "call_request"),
    *DECISIONS,
    Endpoint(
        method="GET",
        path="/v1/lists",
        group=_LISTS,
        about="Every call list of the client's controllers.",
        serve=http_ledger.lists,
        scope="lists",
        answer=http_ledger.Lists,
        answer_example={"lists": [_LIST]},
        errors=("store.unavailable",),
    ),
    Endpoint(
        method="POST",
        path="/v1/lists",
        group=_LISTS,
        about=(
            "Load a call list. As JSON with its `numbers`, or as a text/csv or text/plain file with the other fields in "
            "the query (`campaigns` once for each, `transfers` as a JSON array)."
        ),
        serve=http_ledger.load_list,
        scope="lists",
        ask=http_ledger.ListUpload,
        ask_example=_UPLOAD,
        also_asks=("text/csv", "text/plain"),
        parameters=_UPLOADED,
        answer=ListReport,
        answer_example={"list": _LIST, "rows": 3, "accepted": 2, "duplicates": 0, "refused": 1,
                        "problems": [{"line": 3, "problem": "too few digits"}]},
        status=201,
        errors=(*_ASKING, "list.unreadable", "list.exists", "controller.unknown", "campaign.unknown",
                "store.unavailable"),
    ),
    Endpoint(
        method="GET",
        path="/v1/lists/{id}",
        group=_LISTS,
        about="One call list.",
        serve=http_ledger.one_list,
        scope="lists",
        parameters=(_ID,),
        answer=ListInfo,
        answer_example=_LIST,
        errors=("list.unknown", "store.unavailable"),
    ),
    Endpoint(
        method="POST",
        path="/v1/lists/{id}/retire",
        group=_LISTS,
        about="Take a call list out of use. It stays on record.",
        serve=http_ledger.retire_list,
        scope="lists",
        parameters=(_ID,),
        answer=ListInfo,
        answer_example={**_LIST, "retired_at": "2026-11-30T18:00:00.000Z"},
        errors=("list.unknown", "store.unavailable"),
    ),
    Endpoint(
        method="POST",
        path="/v1/caller-ids/proofs",
        group=_LISTS,
        about="Prove that a caller ID is called back and answered, or that it was not.",
        serve=http_ledger.prove_caller_id,
        scope="ledger",
        ask=CallerIdProofRequest,
        ask_example={"caller_id": "+390299000000", "kind": "probe", "answered": True, "evidence": "probe:2026-11-24"},
        status=204,
        errors=(*_ASKING, "caller_id.invalid", "controller.unknown", "store.unavailable"),
    ),
    *SUBJECT_ENDPOINTS,
    *DIALERS,
)  # fmt: skip
