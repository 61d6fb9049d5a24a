"""The check endpoint for dialers with their own request format (`POST /v1/webhooks/{profile}`).

A profile in config/webhooks/ describes the format. An invalid request also gets a denial in the dialer's format,
because the dialer may ignore the status.
"""

from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.config.webhook_dialects import VALUES, Profile, ReplyTemplate, fill, read
from dialgate.core.model import AUTO, Call
from dialgate.core.reasons import classify
from dialgate.core.responses import Answer
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http.errors import AGAIN, FAILURES, Fault, convert, fault_of

_MOST: Final = 512
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded", "Cache-Control": "no-store"}
_NO_CHOICE: Final = "The gate cannot choose the caller ID, because this profile's reply does not name it. Send a number, or add {from} to `allow`."
_json: Final = msgspec.json.Decoder(dict[str, Any])


async def webhook(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    profile = app.config.profiles.get(request.match_info["profile"])
    if profile is None:
        raise Fault(
            404,
            "webhook.unknown",
            "No webhook profile has this name. Use the name of a file in config/webhooks, without `.yaml`.",
            field="profile",
        )
    try:
        query = _require_unique(http_body.query(request), profile)
        call = convert(
            {"to": "", "from": "", "campaign": ""}
            | read(profile, await _body(request, app, client, profile), query),
            Call,
        )
        if call.from_ == AUTO and not profile.names_caller_id:
            raise Fault(400, "request.invalid", _NO_CHOICE, field="from")
    except FAILURES as error:
        problem = fault_of(error).problem
        return _reply(
            profile.deny,
            "deny",
            {"reason": problem.code, "text": problem.message, "reason_class": classify([problem.code])},
        )
    answer = await app.gate.check(call, client, f"webhook.{profile.id}")
    return _reply(_response_for(profile, answer), answer.decision, _values(answer))


async def _body(request: web.Request, app: App, client: Client, profile: Profile) -> Any:
    body = await http_body.whole(request, app.config.settings.limits)
    # `curl -d` and some platforms send JSON as a form, if nobody sets a content type.
    if request.content_type == "application/x-www-form-urlencoded" and not body.lstrip().startswith(b"{"):
        return _require_unique(http_body.parameters(body.decode("ascii", "replace"), _MOST), profile)
    return await http_body.decode_open(request, client, _json, body) if body else {}


def _require_unique(pairs: list[tuple[str, str]], profile: Profile) -> dict[str, str]:
    http_body.require_unique([name for name, _ in pairs if name in profile.names])
    return dict(pairs)


def _response_for(profile: Profile, answer: Answer) -> ReplyTemplate:
    if not answer.decision_id:
        return profile.retry
    return profile.allow if answer.decision == "allow" else profile.deny


def _values(answer: Answer) -> dict[str, str]:
    first = answer.reasons[0] if answer.reasons else None
    return {
        "decision_id": answer.decision_id,
        "to": answer.to,
        "from": answer.from_,
        "reason": first.code if first else "",
        "text": first.text if first else "",
        "law": first.law if first else "",
        "valid_until": answer.valid_until,
        "not_before": answer.not_before,
        "reason_class": answer.reason_class,
        "would": answer.would,
    }


def _reply(template: ReplyTemplate, decision: str, values: dict[str, str]) -> web.StreamResponse:
    body = fill(template.body, dict.fromkeys(VALUES, "") | values | {"decision": decision})
    again = AGAIN if template.status == 503 else {}  # noqa: PLR2004 - HTTP's
    if template.form:
        return web.Response(body=urlencode(body).encode(), status=template.status, headers={**_FORM, **again})
    return http_body.reply_json(body, template.status, again)
