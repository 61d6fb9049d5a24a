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
from dialgate.core.reasons import classify
from dialgate.core.responses import Answer
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http.check import CheckRequest, call
from dialgate.interfaces.http.errors import Fault, convert

_XML: Final = {"Content-Type": "text/xml; charset=utf-8", "Cache-Control": "no-store"}
_MOST: Final = 2_000  # parameters, because FreeSWITCH sends all variables of the channel
_OURS: Final = ("to", "from", "campaign", "call_type", "call_id", "bridge")
# The hangup causes for a denied call and for a call that may be tried again.
_REFUSED, _AGAIN = "CALL_REJECTED", "NORMAL_TEMPORARY_FAILURE"
_ANY: Final = "global"  # FreeSWITCH searches this context if its own is missing
# None of these characters can begin another application or another leg.
_BRIDGE: Final = re.compile(r"[A-Za-z0-9_.:@/-]{1,128}")


async def httapi(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    """Check a call and respond for mod_httapi. A request with `exiting` marks the end of a call and is not a check."""
    parameters = await _read_parameters(request, app)
    if "exiting" in parameters:
        return _work("<break/>", {})
    answer = await _decide(parameters, parameters.get("session_id", ""), app, client, "freeswitch.httapi")
    variables = {
        "dg_decision": answer.decision,
        "dg_decision_id": answer.decision_id,
        "dg_reason": _reason(answer),
        "dg_class": answer.reason_class,
    }
    if answer.decision == "allow":
        return _work("<break/>", variables)
    return _work(f'<hangup cause="{_cause(answer)}"/>', variables)


async def dialplan(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    """Check a call and respond with a dialplan that bridges to the number or hangs up.

    A request for another section gets "not found", and FreeSWITCH then reads its own files.
    """
    parameters = await _read_parameters(request, app)
    if parameters.get("section") != "dialplan":
        return _document("result", '<result status="not found"/>')
    if not _BRIDGE.fullmatch(parameters.get("bridge", "")):
        raise Fault(
            400,
            "request.invalid",
            "`bridge` is missing or invalid. Send the dial string up to the number, for example bridge=sofia/gateway/trunk.",
            field="bridge",
        )
    context = parameters.get("Caller-Context", _ANY)
    answer = await _decide(parameters, parameters.get("Unique-ID", ""), app, client, "freeswitch.dialplan")
    if answer.decision != "allow":
        return _actions(
            context,
            ("set", f"dg_reason={_reason(answer)}"),
            ("set", f"dg_class={answer.reason_class}"),
            ("hangup", _cause(answer)),
        )
    return _actions(
        context,
        ("set", f"dg_decision_id={answer.decision_id}"),
        ("set", f"effective_caller_id_number={answer.from_}"),
        # On the leg to the trunk, follow no 302 to an unchecked number, and do not withhold the caller ID.
        ("export", "nolocal:outbound_redirect_fatal=true"),
        ("export", "nolocal:origination_privacy=screen"),
        ("export", f"nolocal:origination_caller_id_number={answer.from_}"),
        ("set", "hangup_after_bridge=true"),
        ("bridge", f"{parameters['bridge']}/{answer.to}"),
        ("hangup", ""),
    )


def refuse_httapi(fault: Fault) -> web.Response:
    variables = {
        "dg_decision": "deny",
        "dg_reason": fault.problem.code,
        "dg_class": classify([fault.problem.code]),
    }
    return _work(f'<hangup cause="{_REFUSED}"/>', variables)


def refuse_dialplan(fault: Fault) -> web.Response:
    code = fault.problem.code
    variables = ("set", f"dg_reason={code}"), ("set", f"dg_class={classify([code])}")
    return _actions(_ANY, *variables, ("hangup", _REFUSED))


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
        "to": http_body.restore_plus(parameters.get("to", parameters.get("Caller-Destination-Number", ""))),
        "from": http_body.restore_plus(parameters.get("from", parameters.get("Caller-Caller-ID-Number", ""))),
        "campaign": parameters.get("campaign", ""),
        "call_id": parameters.get("call_id") or call_id,
        **({"call_type": parameters["call_type"]} if parameters.get("call_type") else {}),
    }
    return await app.gate.check(call(convert(fields, CheckRequest), client, interface), client)


def _reason(answer: Answer) -> str:
    return answer.reasons[0].code if answer.reasons else ""


def _cause(answer: Answer) -> str:
    return _REFUSED if answer.decision_id else _AGAIN


def _work(work: str, variables: Mapping[str, str]) -> web.Response:
    """Return a mod_httapi document. `variables` are the gate's own codes and ids, which need no escaping."""
    elements = "".join(f"<{name}>{value}</{name}>" for name, value in variables.items() if value)
    text = (
        f'<document type="xml/freeswitch-httapi"><variables>{elements}</variables>'
        f"<work>{work}</work></document>"
    )
    return web.Response(body=text.encode(), headers=_XML)


def _actions(context: str, *actions: tuple[str, str]) -> web.Response:
    elements = "".join(f'<action application="{name}" data={quoteattr(data)}/>' for name, data in actions)
    extension = f'<extension name="dialgate"><condition>{elements}</condition></extension>'
    return _document("dialplan", f"<context name={quoteattr(context)}>{extension}</context>")


def _document(section: str, inner: str) -> web.Response:
    text = f'<document type="freeswitch/xml"><section name="{section}">{inner}</section></document>'
    return web.Response(body=text.encode(), headers=_XML)
