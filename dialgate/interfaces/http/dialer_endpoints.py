"""The table of endpoints for dialers with their own protocol or format."""

from typing import Final

from msgspec import structs

from dialgate.core.model import Call
from dialgate.interfaces.http import freeswitch, webhooks
from dialgate.interfaces.http.endpoint import (
    BODY_ERRORS,
    FORM,
    EndpointGroup,
    Media,
    Parameter,
    parameters_of,
)

DIALERS: Final = EndpointGroup(
    "Dialers",
    "The check in FreeSWITCH's formats, and in others that a webhook profile describes.",
    scope="check",
)


_OF_CHANNEL: Final = {
    "to": "Number to dial. Default: the channel's destination number.",
    "from": "Caller ID to show. Default: the channel's caller ID.",
    "call_id": "The dialer's call ID. Default: the channel's unique ID.",
}
_PARAMETERS: Final = tuple(
    structs.replace(parameter, about=_OF_CHANNEL[parameter.name], required=False)
    if parameter.name in _OF_CHANNEL
    else parameter
    for parameter in parameters_of(Call)
)
_BRIDGE: Final = Parameter(
    name="bridge",
    about="Start of the dial string. A slash and the checked number are appended.",
    required=True,
)
_CONTEXT: Final = Parameter(
    name="context",
    about='Context of outbound calls. A request for another context gets "not found". Default: every context is checked.',
)
_CHANNEL_FORM: Final = (Media(name=FORM, kind=dict),)
_PROFILE: Final = Parameter(
    name="profile",
    about="Name of a file in config/webhooks, without `.yaml`.",
    required=True,
    place="path",
)


def _httapi(method: str, name: str) -> None:
    DIALERS.add(
        method=method,
        path="/v1/freeswitch/httapi",
        name=name,
        about=(
            "Check a call for FreeSWITCH mod_httapi. An allow continues with `dg_decision` set; a denial or an error hangs up. "
            "The status is always 200, because FreeSWITCH continues the call after any other status."
        ),
        serve=freeswitch.httapi,
        refuse=freeswitch.refuse_httapi,
        media="text/xml; charset=utf-8",
        query=Call,
        parameters=_PARAMETERS,
        also_asks=_CHANNEL_FORM if method == "POST" else (),
        errors=BODY_ERRORS if method == "POST" else (),
    )


_httapi("GET", "checkCallForHttapi")
_httapi("POST", "checkPostedCallForHttapi")
DIALERS.add(
    method="POST",
    path="/v1/freeswitch/dialplan",
    name="checkCallForDialplan",
    about=(
        "Check a call for FreeSWITCH mod_xml_curl. The response is a dialplan that bridges to the checked number or hangs up. "
        "The status is always 200."
    ),
    serve=freeswitch.dialplan,
    refuse=freeswitch.refuse_dialplan,
    media="text/xml; charset=utf-8",
    query=Call,
    parameters=(*_PARAMETERS, _BRIDGE, _CONTEXT),
    also_asks=_CHANNEL_FORM,
    errors=BODY_ERRORS,
)
DIALERS.add(
    method="POST",
    path="/v1/webhooks/{profile:[a-z0-9_-]+}",
    name="checkCallByWebhook",
    about="Check a call in the dialer's own format. A profile maps the request's fields and the response.",
    serve=webhooks.webhook,
    parameters=(_PROFILE,),
    ask=dict,
    also_asks=(Media(name=FORM, kind=dict),),
    answer=dict,
    errors=("webhook.unknown",),
)
