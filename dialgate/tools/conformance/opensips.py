"""An emulator for the subset of OpenSIPS that the shipped script uses.

The emulator runs routes on an INVITE until the INVITE is relayed or rejected. An unknown statement, function or
variable ends the run with `Unknown`. The emulator behaves as observed on OpenSIPS 4.0.1 and 3.6.8. Assigned text is
taken literally, even if it contains `$(rU{rest.escape})`. Variables in a function's argument are expanded. `==` and `=~`
ignore case, and `=~` ends at a null byte. With `no_concurrent_connects`, a request fails immediately while another one
is connecting to the same host.
"""

import fnmatch
import re
from collections.abc import Callable
from typing import Final, TypeAlias
from urllib.parse import quote, urlsplit

from msgspec import Struct, field

from dialgate.tools.conformance.expressions import Unknown
from dialgate.tools.conformance.fetching import fetch
from dialgate.tools.conformance.opensips_script import Tree, read

_VARIABLE: Final = re.compile(r"\$\(?(\w+)(?:\((\w+)\))?(?:\{([\w.]+)\})?\)?")
_IN_TEXT: Final = re.compile(r"\$\((?:[^(){}]|\([^)]*\)|\{[^}]*\})*\)|\$\w+(?:\(\w+\))?")
_CONNECT_SECONDS: Final = 20.0  # if the script sets none with modparam
_TICK_SECONDS: Final = 1.0  # curl_timeout counts ticks of a clock, so it may be shorter by one
_CONFIRMED: Final = 3
_ALREADY_CONNECTING, _FAILED = -4, -1
# Headers that name a caller, withhold one, or route the call. The gate checks none of them.
IDENTITIES: Final = (
    "P-Asserted-Identity", "P-Preferred-Identity", "P-Charge-Info", "Remote-Party-ID", "Privacy", "Diversion",
    "History-Info", "Referred-By", "b", "Identity", "y", "X-Caller", "Call-Info", "Route",
)  # fmt: skip
_Value: TypeAlias = str | int


class Invite(Struct, kw_only=True):
    """An INVITE that the emulated OpenSIPS handles.

    `left` is true if the call was relayed. `status` is the status of the reply, and `avps` contains the
    transaction's variables. `dialog` is the state of the dialog to which the request belongs: 0 for none, 2 before the
    answer, 4 after it. `target` is where the dialog leads.
    """

    uri: str
    from_uri: str
    to_uri: str
    method: str = "INVITE"
    to_tag: str = ""
    dialog: int = 0
    target: str = ""
    from_name: str = ""
    call_id: str = "c-1"
    headers: dict[str, str] = field(default_factory=dict)
    destination: str = ""
    left: bool = False
    status: int = 0
    avps: dict[str, _Value] = field(default_factory=dict)
    failure_route: str = ""


class _Exit(Exception):
    """Raised when the script ends with `exit` or is suspended to wait for the gate."""


class OpenSips:
    """An emulated OpenSIPS with one script. Its workers share the list of hosts to which rest_client is connecting."""

    def __init__(self, script: str) -> None:
        self._routes, self._parameters = read(script)
        self._connecting: set[str] = set()

    def parameter(self, name: str, default: float) -> float:
        return float(self._parameters.get(name, default))

    def has_route(self, name: str) -> bool:
        return name in self._routes

    async def call(self, invite: Invite, route: str = "DIALGATE") -> None:
        try:
            await self._run(self._route(route), invite)
        except _Exit:
            return

    async def redirect(self, invite: Invite) -> None:
        """Redirect the call (302), as the trunk does.

        The dialer follows the redirect unless a failure route replies first.
        """
        invite.status = 302
        if invite.failure_route:
            await self.call(invite, f"failure:{invite.failure_route}")

    def _route(self, name: str) -> Tree:
        if name not in self._routes:
            raise Unknown(f"the route {name}")
        return self._routes[name]

    async def _run(self, statements: Tree, invite: Invite) -> None:
        for statement in statements:
            match statement:
                case ("if", condition, then, otherwise):
                    await self._run(then if await self._value(condition, invite) else otherwise, invite)
                case ("set", variable, value):
                    _assign(variable, await self._value(value, invite), invite)
                case ("async", request, resume):
                    await self._request(request, invite)
                    await self._run(self._route(resume), invite)
                    raise _Exit
                case ("exit",):
                    raise _Exit
                case call:
                    await self._value(call, invite)

    async def _value(self, tree: Tree, invite: Invite) -> _Value:
        match tree:
            case ("literal", value):
                return value  # type: ignore[no-any-return] # text or number
            case ("variable", name):
                return _read(name, invite)
            case ("not", operand):
                return int(not await self._value(operand, invite))
            case ("and", left, right):
                return int(bool(await self._value(left, invite)) and bool(await self._value(right, invite)))
            case ("or", left, right):
                return int(bool(await self._value(left, invite)) or bool(await self._value(right, invite)))
            case ("call", name, arguments):
                return await self._call(name, arguments, invite)
            case (sign, left, right):
                return _apply(sign, await self._value(left, invite), await self._value(right, invite))
        raise Unknown(f"the expression {tree[0]}")

    async def _call(self, name: str, arguments: tuple[Tree, ...], invite: Invite) -> int:
        texts = [_expand(argument, invite) for argument in arguments]
        if name == "route" and len(texts) == 1:
            await self._run(self._route(texts[0]), invite)
            return 1
        function = _FUNCTIONS.get((name, len(texts)))
        if function is None:
            raise Unknown(f"the function {name}")
        result = function(invite, *texts)
        return 1 if result is None else int(result)

    async def _request(self, request: Tree, invite: Invite) -> None:
        match request:
            case ("call", "rest_get", (url, ("variable", body), _, ("variable", code))):
                rc, status, text = await self._fetch(str(await self._value(url, invite)))
            case _:
                raise Unknown("an async() that is not a rest_get() with four arguments")
        invite.avps["rc"] = rc
        if rc > 0:
            _assign(body, text, invite)
            _assign(code, status, invite)

    async def _fetch(self, url: str) -> tuple[int, int, str]:
        host = urlsplit(url).netloc
        if self.parameter("no_concurrent_connects", 0) and host in self._connecting:
            return _ALREADY_CONNECTING, 0, ""
        self._connecting.add(host)
        limit = self.parameter("curl_timeout", _CONNECT_SECONDS) - _TICK_SECONDS
        try:
            response = await fetch(url, limit)
        finally:
            self._connecting.discard(host)
        if response is None or not response.whole:
            return _FAILED, 0, ""
        return 1, response.status, response.body


def _read(name: str, invite: Invite) -> _Value:
    match = _VARIABLE.fullmatch(name)
    kind, inner, transformation = match.groups() if match else ("", "", "")
    if kind == "avp":
        value = invite.avps.get(inner or "", "")
    elif kind in _FIELDS:
        value = _FIELDS[kind](invite)
    else:
        raise Unknown(f"the variable {name}")
    if transformation == "rest.escape":
        return quote(str(value), safe="")
    if transformation == "s.encode.hexa":
        return str(value).encode().hex()
    if transformation:
        raise Unknown(f"the transformation {transformation}")
    return value


def _assign(name: str, value: _Value, invite: Invite) -> None:
    match = _VARIABLE.fullmatch(name)
    if match is not None and match[1] == "avp" and match[2]:
        invite.avps[match[2]] = value
    elif name == "$ru":
        invite.uri = str(value)
    elif name == "$du":
        invite.destination = str(value)
    else:
        raise Unknown(f"an assignment to {name}")


def user(uri: str) -> str:
    return uri.partition(":")[2].partition("@")[0]


_FIELDS: Final[dict[str, Callable[[Invite], _Value]]] = {
    "rU": lambda invite: user(invite.uri),
    "ru": lambda invite: invite.uri,
    "fU": lambda invite: user(invite.from_uri),
    "ci": lambda invite: invite.call_id,
    "rc": lambda invite: invite.avps.get("rc", 0),
    "si": lambda _: "127.0.0.1",
    "DLG_status": lambda invite: invite.dialog,
}


def _reply(invite: Invite, status: str, _: str) -> None:
    invite.status, invite.left = int(status), False


def _relay(invite: Invite) -> None:
    invite.left = True


def _catch_failures(invite: Invite, route: str) -> None:
    invite.failure_route = route


def _remove_headers(invite: Invite, pattern: str) -> None:
    for header in fnmatch.filter([*invite.headers], pattern):
        del invite.headers[header]


def _replace_from(invite: Invite, shown: str, uri: str) -> None:
    invite.from_name, invite.from_uri = shown, uri


def _replace_to(invite: Invite, _: str, uri: str) -> None:
    invite.to_uri = uri


def _is_valid(invite: Invite) -> bool:
    """Return whether the request belongs to a dialog. Only after the answer its URI must be that of the dialog."""
    return 0 < invite.dialog < _CONFIRMED or (invite.dialog >= _CONFIRMED and invite.uri == invite.target)


def _do_nothing(*_: object) -> None:
    """Do what changes neither the INVITE nor its way."""


# Functions by name and number of arguments. No result is true.
_FUNCTIONS: Final[dict[tuple[str, int], Callable[..., bool | None]]] = {
    ("t_reply", 2): _reply,
    ("send_reply", 2): _reply,
    ("t_relay", 0): _relay,
    ("t_check_status", 1): lambda invite, pattern: bool(re.fullmatch(pattern, str(invite.status))),
    ("t_on_failure", 1): _catch_failures,
    ("remove_hf", 1): _remove_headers,
    ("remove_hf_glob", 1): _remove_headers,
    ("uac_replace_from", 2): _replace_from,
    ("uac_replace_to", 2): _replace_to,
    ("is_method", 1): lambda invite, methods: invite.method in methods.split("|"),
    ("has_totag", 0): lambda invite: bool(invite.to_tag),
    ("loose_route", 0): lambda invite: "Route" in invite.headers,
    ("validate_dialog", 0): _is_valid,
    ("t_check_trans", 0): lambda _: False,
    ("t_newtran", 0): _do_nothing,
    ("record_route", 0): _do_nothing,
    ("create_dialog", 0): _do_nothing,
    ("append_to_reply", 1): _do_nothing,
    ("mf_process_maxfwd_header", 1): _do_nothing,
}


def _expand(tree: Tree, invite: Invite) -> str:
    """Return a function's argument as text, with its variables expanded.

    A bare name is the name of a route.
    """
    match tree:
        case ("literal", str(text)):
            return _IN_TEXT.sub(lambda variable: str(_read(variable[0], invite)), text)
        case ("literal", number):
            return str(number)
        case ("call", name, ()):
            return str(name)
        case ("variable", name):
            return str(_read(name, invite))
    raise Unknown("an argument that is an expression")


def _matches(pattern: _Value, value: _Value) -> bool:
    return re.search(str(pattern), str(value).partition("\0")[0], re.IGNORECASE) is not None


def _apply(sign: str, left: _Value, right: _Value) -> _Value:
    match sign:
        case "+":
            return left + right if isinstance(left, int) and isinstance(right, int) else f"{left}{right}"
        case "==":
            return int(str(left).lower() == str(right).lower())
        case "!=":
            return int(str(left).lower() != str(right).lower())
        case "=~":
            return int(_matches(right, left))
        case "!~":
            return int(not _matches(right, left))
        case ">":
            return int(int(left) > int(right))
        case "<":
            return int(int(left) < int(right))
    raise Unknown(f"the operator {sign}")
