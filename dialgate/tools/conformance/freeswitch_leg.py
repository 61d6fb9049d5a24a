"""What FreeSWITCH's `bridge` and mod_sofia make of a channel: the INVITE that leaves.

As observed on FreeSWITCH 1.11.3-dev (cc93a68). The new leg has the exported variables, then those in brackets. Each
`sip_h_` variable of the dialer's channel becomes a header, exported or not; mod_sofia sets one for each `P-`, `X-`,
`Diversion` or `Identity` header in the dialer's INVITE.
"""

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct, field

from dialgate.tools.conformance.expressions import Unknown

_ALL_LEGS: Final = re.compile(r"\{(?P<variables>[^}]*)\}")
_LEG: Final = re.compile(
    r"(?:\[(?P<variables>[^]]*)\])?sofia/(?:gateway/)?[^/,|@]+/(?P<number>[^/,|@]+)(?:@[^/,|]+)?(?:[,|]|$)"
)
_NOLOCAL: Final = "nolocal:"
_HEADER: Final = "sip_h_"
_USER: Final = re.compile(r"(?:sips?:)?([^@;>]*)@")
_ALSO_SENT: Final = frozenset({"sip_route_uri", "sip_invite_to_uri", "sip_multipart"})
_UNDEFINED: Final = "_undef_"  # FreeSWITCH's word for no name


class FreeswitchChannel(Struct):
    """The dialer's channel. A variable hides the field of the call that has the same name."""

    number: str
    caller: str
    name: str = ""
    private: bool = False
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def profile(self) -> dict[str, str]:
        return {
            "destination_number": self.number, "caller_id_number": self.caller, "caller_id_name": self.name,
            "uuid": "u-1",
        }  # fmt: skip

    @property
    def exports(self) -> list[str]:
        return [name for name in self.variables.get("export_vars", "").split(",") if name]

    def get(self, name: str) -> str:
        return self.variables.get(name) or self.profile.get(name, "")


class FreeswitchInvite(Struct, frozen=True):
    """An INVITE to the trunk, and what `bridge` does after its response.

    `rest` names what else of the dialer reaches the trunk. `follows` is true if a redirect (302) is followed, `repeats` if
    a failed call is placed again.
    """

    number: str
    caller: str
    name: str
    private: bool
    rest: tuple[str, ...]
    follows: bool
    repeats: bool


def leave(channel: FreeswitchChannel, dial_string: str) -> list[FreeswitchInvite]:
    """Return the INVITE of each leg of a dial string. Raises `Unknown`."""
    own = channel.variables
    common = {name.removeprefix(_NOLOCAL): value for name in channel.exports if (value := own.get(name))}
    rest = dial_string
    while match := _ALL_LEGS.match(rest):
        common |= _pairs(match["variables"])
        rest = rest[match.end() :]
    copied: dict[str, str] = {}
    if own.get("sip_copy_custom_headers") != "false":
        copied |= {name: value for name, value in own.items() if name.startswith(_HEADER)}
    if own.get("sip_copy_multipart") != "false" and "sip_multipart" in own:
        copied["sip_multipart"] = own["sip_multipart"]
    invites = []
    while match := _LEG.match(rest):
        leg = copied | common | _pairs(match["variables"] or "")
        invites.append(_invite(channel, leg, match["number"]))
        rest = rest[match.end() :]
    if rest or not invites:
        raise Unknown(f"the dial string {dial_string}")
    return invites


def _pairs(text: str) -> dict[str, str]:
    """Return the variables in brackets. Those without a value change nothing."""
    pairs = (pair.partition("=") for pair in text.split(","))
    return {name: value for name, _, value in pairs if value}


def _invite(channel: FreeswitchChannel, leg: Mapping[str, str], number: str) -> FreeswitchInvite:
    own = channel.variables
    name = _first(leg, own, "sip_from_display", "origination_caller_id_name", "effective_caller_id_name")
    privacy = leg.get("origination_privacy")
    return FreeswitchInvite(
        number=_user(leg.get("sip_invite_req_uri")) or number,
        caller=_user(leg.get("sip_invite_from_uri") or leg.get("sip_from_uri"))
        or _first(leg, own, "origination_caller_id_number", "effective_caller_id_number")
        or channel.caller,
        name="" if name == _UNDEFINED else name or channel.name,
        private=channel.private if privacy is None else "hide" in privacy,
        rest=tuple(
            name.removeprefix(_HEADER) for name in leg if name.startswith(_HEADER) or name in _ALSO_SENT
        ),
        follows=leg.get("outbound_redirect_fatal") != "true",
        repeats=own.get("campon") == "true" or leg.get("originate_retries", "1") != "1",
    )


def _first(leg: Mapping[str, str], own: Mapping[str, str], *names: str) -> str:
    """Return the first of the leg's variables. An `effective_` one counts on the dialer's channel, too."""
    for name in names:
        if value := leg.get(name) or (own.get(name, "") if name.startswith("effective_") else ""):
            return value
    return ""


def _user(uri: str | None) -> str:
    match = _USER.match(uri or "")
    return match[1] if match else ""
