"""Answers that FreeSWITCH acts on by itself: mod_httapi's work and mod_xml_curl's dialplan.

FreeSWITCH takes anything but a 200 with XML for "go on as if nothing had been asked": mod_httapi leaves the application
and the dialplan runs on, mod_xml_curl looks into the files on its disk. So every answer here is a 200, and what is no
allow hangs up, whatever went wrong. A server that cannot be reached says nothing at all: deploy/freeswitch/ shows the
dialplans that stay closed then.
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
_MOST: Final = 2_000  # a whole channel's variables come with a question
_OURS: Final = ("to", "from", "campaign", "call_type", "call_id", "bridge")
# The call that may never be placed, and the one that may be tried again.
_REFUSED, _AGAIN = "CALL_REJECTED", "NORMAL_TEMPORARY_FAILURE"
_ANY: Final = "global"  # the context that FreeSWITCH takes for want of the one it is in
# A dial string up to the number: nothing in it can begin another application or another leg.
_BRIDGE: Final = re.compile(r"[A-Za-z0-9_.:@/-]{1,128}")


async def httapi(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    """`exiting` comes when the call is over, and asks nothing."""
    given = await _given(request, app)
    if "exiting" in given:
        return _work("<break/>", {})
    answer = await _asked(given, given.get("session_id", ""), app, client, "freeswitch.httapi")
    told = {
        "dg_decision": answer.decision,
        "dg_decision_id": answer.decision_id,
        "dg_reason": _reason(answer),
        "dg_class": answer.reason_class,
    }
    if answer.decision == "allow":
        return _work("<break/>", told)
    return _work(f'<hangup cause="{_cause(answer)}"/>', told)


async def dialplan(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    """The gate is the dialplan: the bridge to the number that was checked, or the end of the call. For anything that
    is not a dialplan's question: not found, upon which FreeSWITCH looks into its own files."""
    given = await _given(request, app)
    if given.get("section") != "dialplan":
        return _document("result", '<result status="not found"/>')
    if not _BRIDGE.fullmatch(given.get("bridge", "")):
        raise Fault(
            400, "request.invalid", "Name the way out, as in bridge=sofia/gateway/trunk.", field="bridge"
        )
    context = given.get("Caller-Context", _ANY)
    answer = await _asked(given, given.get("Unique-ID", ""), app, client, "freeswitch.dialplan")
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
        # For the leg to the trunk: no 302 is followed to an unchecked number, and the caller ID is not withheld.
        ("export", "nolocal:outbound_redirect_fatal=true"),
        ("export", "nolocal:origination_privacy=screen"),
        ("export", f"nolocal:origination_caller_id_number={answer.from_}"),
        ("set", "hangup_after_bridge=true"),
        ("bridge", f"{given['bridge']}/{answer.to}"),
        ("hangup", ""),
    )


def refuse_httapi(fault: Fault) -> web.Response:
    told = {
        "dg_decision": "deny",
        "dg_reason": fault.problem.code,
        "dg_class": classify([fault.problem.code]),
    }
    return _work(f'<hangup cause="{_REFUSED}"/>', told)


def refuse_dialplan(fault: Fault) -> web.Response:
    code = fault.problem.code
    told = ("set", f"dg_reason={code}"), ("set", f"dg_class={classify([code])}")
    return _actions(_ANY, *told, ("hangup", _REFUSED))


async def _given(request: web.Request, app: App) -> dict[str, str]:
    """Ours stand in the URL; a channel's variables, wherever they come, cannot take their place."""
    url = http_body.parameters(request.raw_path.partition("?")[2], _MOST)
    if any(len([name for name, _ in url if name == ours]) > 1 for ours in _OURS):
        raise Fault(
            400, "request.invalid", "Send each parameter once: what is checked must be what is dialled."
        )
    body = await http_body.whole(request, app.config.settings.limits)
    sent = http_body.parameters(body.decode("ascii", "replace"), _MOST) if body else []
    return {name: value for name, value in sent if name not in _OURS} | dict(url)


async def _asked(given: Mapping[str, str], call_id: str, app: App, client: Client, interface: str) -> Answer:
    """From the URL, or else what FreeSWITCH itself says of the call."""
    fields = {
        "to": given.get("to", given.get("Caller-Destination-Number", "")),
        "from": given.get("from", given.get("Caller-Caller-ID-Number", "")),
        "campaign": given.get("campaign", ""),
        "call_id": given.get("call_id") or call_id,
        **({"call_type": given["call_type"]} if given.get("call_type") else {}),
    }
    plus = {name: f"+{fields[name][1:]}" for name in ("to", "from") if fields[name].startswith(" ")}
    return await app.gate.check(call(convert(fields | plus, CheckRequest), client, interface), client)


def _reason(answer: Answer) -> str:
    return answer.reasons[0].code if answer.reasons else ""


def _cause(answer: Answer) -> str:
    return _REFUSED if answer.decision_id else _AGAIN


def _work(work: str, variables: Mapping[str, str]) -> web.Response:
    """What the variables hold is ours: codes and ids, which need no escape."""
    told = "".join(f"<{name}>{value}</{name}>" for name, value in variables.items() if value)
    text = (
        f'<document type="xml/freeswitch-httapi"><variables>{told}</variables><work>{work}</work></document>'
    )
    return web.Response(body=text.encode(), headers=_XML)


def _actions(context: str, *actions: tuple[str, str]) -> web.Response:
    told = "".join(f'<action application="{name}" data={quoteattr(data)}/>' for name, data in actions)
    extension = f'<extension name="dialgate"><condition>{told}</condition></extension>'
    return _document("dialplan", f"<context name={quoteattr(context)}>{extension}</context>")


def _document(section: str, inner: str) -> web.Response:
    text = f'<document type="freeswitch/xml"><section name="{section}">{inner}</section></document>'
    return web.Response(body=text.encode(), headers=_XML)
