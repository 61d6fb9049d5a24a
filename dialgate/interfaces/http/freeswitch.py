"""The check for FreeSWITCH. The response is a list of actions for mod_httapi, or a dialplan for mod_xml_curl.

Unless the response is a 200 with XML, FreeSWITCH continues as if there had been no check: mod_httapi returns to the dialplan,
and mod_xml_curl reads the dialplan files on its disk. Every response to a check is therefore a 200 with XML, except
after an unexpected error. Unless the decision is `allow`, the XML hangs up the call. The dialplans in
deploy/freeswitch/ also hang up after any other response, or if the gate cannot be reached.
"""

import re
from collections.abc import Mapping
from typing import Final
from xml.sax.saxutils import quoteattr

from aiohttp import web

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.core.model import CALL_FIELDS, OPTIONAL_CALL_FIELDS, Call
from dialgate.core.reasons import classify
from dialgate.core.responses import Answer
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http.errors import Fault, convert

_XML: Final = {"Content-Type": "text/xml; charset=utf-8", "Cache-Control": "no-store"}
_MOST: Final = 2_000  # parameters, because FreeSWITCH sends all variables of the channel
_OURS: Final = (*CALL_FIELDS, "bridge", "context")
# Hangup causes by reason class. mod_sofia sends them as 603 and 403.
_CAUSES: Final = {"number": "CALL_REJECTED", "call": "OUTGOING_CALL_BARRED"}
# The cause without a decision. mod_sofia sends 503 for it, after which a dialer tries its next server, which could be the trunk.
_AGAIN: Final = "NORMAL_TEMPORARY_FAILURE"
# With these variables, mod_sofia sends 500 with `Retry-After` instead. mod_httapi cannot run `respond`.
_AS_500: Final = {"last_bridge_proto_specific_hangup_cause": "sip:500", "sip_rh_Retry-After": "5"}
_ANY: Final = "global"  # FreeSWITCH searches this context if its own is missing
# None of these characters can begin another application or another leg.
_BRIDGE: Final = re.compile(r"[A-Za-z0-9_.:@/-]{1,128}")


async def httapi(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    """Check a call and respond for mod_httapi. A request with `exiting` marks the end of a call and is not a check."""
    parameters = await _read_parameters(request, app)
    if "exiting" in parameters:
        return _work("<break/>", {})
    answer = await _decide(parameters, parameters.get("session_id", ""), app, client, "freeswitch.httapi")
    if answer.decision == "allow":
        chosen = {"dg_from": answer.from_} if answer.caller_id_chosen else {}
        variables = {"dg_decision_id": answer.decision_id} | chosen | _shadow_variables(answer)
        return _work("<break/>", variables | {"dg_decision": "allow"})
    return _hang_up(_reason(answer), answer.reason_class, answer.decision_id)


async def dialplan(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    """Check a call and respond with a dialplan that bridges to the number or hangs up.

    A request for another section, or for a context other than `context` in the URL, gets "not found". FreeSWITCH then
    reads its own files.
    """
    parameters = await _read_parameters(request, app)
    if parameters.get("section") != "dialplan":
        return _document("result", '<result status="not found"/>')
    context = _of_channel(parameters, "Context") or _ANY
    if parameters.get("context", context) != context:
        return _document("result", '<result status="not found"/>')
    if not _BRIDGE.fullmatch(parameters.get("bridge", "")):
        raise Fault(
            400,
            "request.invalid",
            "`bridge` is missing or invalid. Send the dial string up to the number, for example bridge=sofia/gateway/trunk.",
            field="bridge",
        )
    answer = await _decide(parameters, parameters.get("Unique-ID", ""), app, client, "freeswitch.dialplan")
    if answer.decision != "allow":
        return _refuse(context, _reason(answer), answer.reason_class)
    # The leg follows no 302, and presents the checked caller ID, without a name.
    leg = (
        "outbound_redirect_fatal=true,origination_privacy=screen,origination_caller_id_name=_undef_,"
        f"origination_caller_id_number={answer.from_}"
    )
    return _actions(
        context,
        ("set", f"dg_decision_id={answer.decision_id}"),
        *(("set", f"{name}={value}") for name, value in _shadow_variables(answer).items()),
        # Nothing else that the dialer set may reach the trunk: exported variables, SIP headers, parts of a body.
        ("unset", "export_vars"),
        ("set", "sip_copy_custom_headers=false"),
        ("set", "sip_copy_multipart=false"),
        ("set", "campon=false"),  # it would call again without a check
        ("bridge", f"[{leg}]{parameters['bridge']}/{answer.to}"),
        ("hangup", ""),
    )


def refuse_httapi(fault: Fault) -> web.Response:
    code = fault.problem.code
    return _hang_up(code, classify([code]), "")


def refuse_dialplan(fault: Fault) -> web.Response:
    code = fault.problem.code
    return _refuse(_ANY, code, classify([code]))


async def _read_parameters(request: web.Request, app: App) -> dict[str, str]:
    """Return the URL and form parameters.

    The parameters that describe the check are read only from the URL, so that channel variables cannot replace them.
    """
    url = http_body.parameters(request.raw_path.partition("?")[2], _MOST)
    http_body.require_unique([name for name, _ in url if name in _OURS])
    body = await http_body.whole(request, app.config.settings.limits)
    form = http_body.parameters(body.decode("ascii", "replace"), _MOST) if body else []
    return {name: value for name, value in form if name not in _OURS} | dict(url)


async def _decide(
    parameters: Mapping[str, str], call_id: str, app: App, client: Client, interface: str
) -> Answer:
    """Check a call. Without `to`, `from` or `call_id` in the URL, use the value of the FreeSWITCH channel."""
    fields = {
        "to": http_body.restore_plus(parameters.get("to", _of_channel(parameters, "Destination-Number"))),
        "from": http_body.restore_plus(parameters.get("from", _of_channel(parameters, "Caller-ID-Number"))),
        "campaign": parameters.get("campaign", ""),
        "call_id": call_id,
        **{name: parameters[name] for name in OPTIONAL_CALL_FIELDS if parameters.get(name)},
    }
    return await app.gate.check(convert(fields, Call), client, interface)


def _reason(answer: Answer) -> str:
    return answer.reasons[0].code if answer.reasons else ""


def _shadow_variables(answer: Answer) -> dict[str, str]:
    return {"dg_would": answer.would, "dg_reason": _reason(answer)} if answer.would else {}


def _of_channel(parameters: Mapping[str, str], name: str) -> str:
    """Return a field of the call. In `Hunt-`, mod_dialplan_xml sends what it searches, also for `execute_extension`."""
    return parameters.get(f"Hunt-{name}") or parameters.get(f"Caller-{name}", "")


def _hang_up(reason: str, reason_class: str, decision_id: str) -> web.Response:
    variables = {
        "dg_decision_id": decision_id,
        "dg_reason": reason,
        "dg_class": reason_class,
        "dg_decision": "deny",
    }
    cause = _CAUSES.get(reason_class, _AGAIN)
    return _work(f'<hangup cause="{cause}"/>', (_AS_500 if cause == _AGAIN else {}) | variables)


def _refuse(context: str, reason: str, reason_class: str) -> web.Response:
    variables = ("set", f"dg_reason={reason}"), ("set", f"dg_class={reason_class}")
    cause = _CAUSES.get(reason_class, _AGAIN)
    later = (
        (("set", "sip_rh_Retry-After=5"), ("respond", "500 Server Internal Error")) if cause == _AGAIN else ()
    )
    return _actions(context, *variables, *later, ("hangup", cause))


def _work(work: str, variables: Mapping[str, str]) -> web.Response:
    """Return a mod_httapi document. `variables` are the gate's own codes and ids, which need no escaping.

    The decision is last, because mod_httapi also reads a document that was cut off.
    """
    elements = "".join(f"<{name}>{value}</{name}>" for name, value in variables.items() if value)
    text = (
        f'<document type="xml/freeswitch-httapi"><work>{work}</work>'
        f"<variables>{elements}</variables></document>"
    )
    return web.Response(body=text.encode(), headers=_XML)


def _actions(context: str, *actions: tuple[str, str]) -> web.Response:
    elements = "".join(f'<action application="{name}" data={quoteattr(data)}/>' for name, data in actions)
    extension = f'<extension name="dialgate"><condition>{elements}</condition></extension>'
    return _document("dialplan", f"<context name={quoteattr(context)}>{extension}</context>")


def _document(section: str, inner: str) -> web.Response:
    text = f'<document type="freeswitch/xml"><section name="{section}">{inner}</section></document>'
    return web.Response(body=text.encode(), headers=_XML)
