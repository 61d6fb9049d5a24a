"""A reader of OpenSIPS scripts: what the shipped script uses, as observed on OpenSIPS 4.0.1 and 3.6.8.

The tokens of a script are translated to those of Python, and Python's parser gives the tree. The tree is walked, never
executed. Assigned text is taken literally, even if it contains `$(rU{rest.escape})`; variables in a function's argument
are expanded. `==` and `=~` ignore case, and `=~` ends at a null byte.
"""

import ast
import fnmatch
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeAlias
from urllib.parse import quote

from msgspec import Struct, field

from dialgate.tools.conformance.model import CALLER, ELSEWHERE, IDENTITIES, TO, EmulatedCall, Unknown, fetch

_SCRIPT_VARIABLE: Final = r"\$\((?:[^(){}]|\([^)]*\)|\{[^}]*\})*\)|\$\w+(?:\(\w+\))?"
_TOKEN: Final = re.compile(
    rf"""\s+|\#[^\n]*|(?P<text>"(?:\\.|[^"\\])*")|(?P<word>\w+)|(?P<variable>{_SCRIPT_VARIABLE})
    |(?P<begin>\{{)|(?P<end>[}};])|(?P<sign>&&|\|\||==|!=|!~|=~|>=|<=|[-+=!<>()\[\],])|(?P<other>.)""",
    re.VERBOSE,
)
_DECLARATION: Final = re.compile(r"(?m)^(?:[a-z_]+ *=|loadmodule\b|modparam\b).*$")
_PARAMETER: Final = re.compile(r'modparam\("rest_client", *"(\w+)", *(\d+)\)')
_ROUTE: Final = re.compile(r"\b(failure_)?route\s*(?:\[\s*(\w+)\s*\])?\s*\{")
# The `in` of Python, because its comparisons have one precedence, as those of OpenSIPS have.
_SIGNS: Final = {"&&": " and ", "||": " or ", "!": " not ", "=~": " in ", "!~": " not in "}
_WORDS: Final = {"async": "async_", "if": "if ", "def": "def "}
_ESCAPES: Final = {"r": "\r", "n": "\n"}
_VARIABLE: Final = re.compile(r"\$\(?(\w+)(?:\((\w+)\))?(?:\{([\w.]+)\})?\)?")
_IN_TEXT: Final = re.compile(_SCRIPT_VARIABLE)
_CONNECT_SECONDS: Final = "20"  # if the script sets none with modparam
_TICK_SECONDS: Final = 1.0  # curl_timeout counts ticks of a clock, so it may be shorter by one
_CONFIRMED: Final = 3
_FAILED: Final = -1
_Value: TypeAlias = str | int


class Invite(Struct, kw_only=True):
    """A request that the emulated OpenSIPS handles.

    `left` is true if it was relayed. `status` is the status of the reply, and `variables` contains the transaction's
    variables. `dialog` is the state of the dialog to which the request belongs: 0 for none, 2 before the answer, 4 after
    it. `target` is where the dialog leads.
    """

    uri: str
    from_uri: str
    to_uri: str
    method: str = "INVITE"
    to_tag: str = ""
    dialog: int = 0
    target: str = ""
    from_name: str = ""
    to_name: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    destination: str = ""
    left: bool = False
    status: int = 0
    variables: dict[str, _Value] = field(default_factory=dict)
    failure_route: str = ""


def _read(script: str) -> ast.Module:
    """Return a module with one function for each route. That of the main route is `route_`."""
    script = _DECLARATION.sub("", script)
    script = _ROUTE.sub(lambda route: f"def {route[1] or ''}route_{route[2] or ''}() {{", script)
    source = line = ""
    depth = 0
    for match in _TOKEN.finditer(script):
        text = match[0]
        match match.lastgroup:
            case "other":
                raise Unknown(f"the character {text}")
            case "end":
                source += " " * depth + line + "\n"
                line, depth = "", depth - (text == "}")
            case "begin":
                depth += 1
                source += " " * (depth - 1) + line + ":\n" + " " * depth + "pass\n"
                line = ""
            case "sign":
                line += _SIGNS.get(text, "''," if (text, line[-1:]) == (",", ",") else text)
            case "word":
                line = "elif " if (line, text) == ("else", "if") else line + _WORDS.get(text, text)
            case "variable":
                line += f"v[{text!r}]"
            case "text":
                line += repr(
                    re.sub(r"\\(.)", lambda escaped: _ESCAPES.get(escaped[1], escaped[1]), text[1:-1])
                )
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise Unknown(f"the statement {error.text or line}") from None


class _Exit(Exception):
    """Raised when the script ends with `exit` or is suspended to wait for the gate."""


class OpenSips:
    """An emulated OpenSIPS with one script."""

    def __init__(self, script: str) -> None:
        self._limit = float(dict(_PARAMETER.findall(script)).get("curl_timeout", _CONNECT_SECONDS))
        self._routes: dict[str, list[ast.stmt]] = {}
        for route in _read(script).body:
            if not isinstance(route, ast.FunctionDef):
                raise Unknown(f"the declaration {ast.unparse(route)}")
            self._routes[route.name] = route.body

    def has_main_route(self) -> bool:
        return "route_" in self._routes

    async def handle(self, invite: Invite, route: str) -> None:
        with suppress(_Exit):
            await self._run_route(route, invite)

    async def _run_route(self, name: str, invite: Invite) -> None:
        if name not in self._routes:
            raise Unknown(f"a script without {name.replace('route_', 'route ')}")
        await self._run(self._routes[name], invite)

    async def _run(self, statements: list[ast.stmt], invite: Invite) -> None:
        for statement in statements:
            match statement:
                case ast.If(test, then, otherwise):
                    await self._run(then if await self._value(test, invite) else otherwise, invite)
                case ast.Assign([ast.Subscript(slice=ast.Constant(str(variable)))], value):
                    _assign(variable, await self._value(value, invite), invite)
                case ast.Expr(ast.Call(ast.Name("async_"), [request, ast.Name(resume)])):
                    await self._request(request, invite)
                    await self._run_route(f"route_{resume}", invite)
                    raise _Exit
                case ast.Expr(ast.Name("exit")):
                    raise _Exit
                case ast.Expr(value):
                    await self._value(value, invite)
                case ast.Pass():
                    pass
                case _:
                    raise Unknown(f"the statement {ast.unparse(statement)}")

    async def _value(self, tree: ast.expr, invite: Invite) -> _Value:
        match tree:
            case ast.Constant(str(value) | int(value)):
                return value
            case ast.Subscript(slice=ast.Constant(str(name))):
                return _variable(name, invite)
            case ast.UnaryOp(ast.Not(), operand):
                return int(not await self._value(operand, invite))
            case ast.BoolOp(operator, operands):
                is_or = isinstance(operator, ast.Or)
                for operand in operands:
                    if bool(await self._value(operand, invite)) is is_or:
                        return int(is_or)
                return int(not is_or)
            case ast.BinOp(left, ast.Add(), right):
                return f"{await self._value(left, invite)}{await self._value(right, invite)}"
            case ast.Compare(left, [sign], [right]) if type(sign) in _COMPARISONS:
                compare = _COMPARISONS[type(sign)]
                return int(compare(await self._value(left, invite), await self._value(right, invite)))
            case ast.Call(ast.Name(name), arguments):
                return await self._call(name, [_argument(argument, invite) for argument in arguments], invite)
        raise Unknown(f"the expression {ast.unparse(tree)}")

    async def _call(self, name: str, arguments: list[str], invite: Invite) -> int:
        if name == "route" and len(arguments) == 1:
            await self._run_route(f"route_{arguments[0]}", invite)
            return 1
        function = _FUNCTIONS.get((name, len(arguments)))
        if function is None:
            raise Unknown(f"the function {name}")
        result = function(invite, *arguments)
        return 1 if result is None else int(result)

    async def _request(self, request: ast.expr, invite: Invite) -> None:
        match request:
            case ast.Call(
                ast.Name("rest_get"),
                [
                    url,
                    ast.Subscript(slice=ast.Constant(str(body))),
                    _,
                    ast.Subscript(slice=ast.Constant(str(code))),
                ],
            ):
                response = await fetch(str(await self._value(url, invite)), self._limit - _TICK_SECONDS)
            case _:
                raise Unknown("an async() that is not a rest_get() with four arguments")
        has_arrived = response is not None and response.whole
        invite.variables["$rc"] = 1 if has_arrived else _FAILED
        if response is not None and has_arrived:
            _assign(body, response.body, invite)
            _assign(code, response.status, invite)


def _variable(name: str, invite: Invite) -> _Value:
    match = _VARIABLE.fullmatch(name)
    kind, inner, transformation = match.groups() if match else ("", "", "")
    if kind == "avp":
        value = invite.variables.get(f"$avp({inner})", "")
    elif kind in _FIELDS:
        value = _FIELDS[kind](invite)
    else:
        raise Unknown(f"the variable {name}")
    match transformation:
        case None:
            return value
        case "rest.escape":
            return quote(str(value), safe="")
        case "s.encode.hexa":
            return str(value).encode().hex()
    raise Unknown(f"the transformation {transformation}")


def _assign(name: str, value: _Value, invite: Invite) -> None:
    if name.startswith("$avp("):
        invite.variables[name] = value
    elif name == "$ru":
        invite.uri = str(value)
    elif name == "$du":
        invite.destination = str(value)
    else:
        raise Unknown(f"an assignment to {name}")


def _argument(tree: ast.expr, invite: Invite) -> str:
    """Return a function's argument as text, with its variables expanded. A bare name is the name of a route."""
    match tree:
        case ast.Constant(value):
            return _IN_TEXT.sub(lambda variable: str(_variable(variable[0], invite)), str(value))
        case ast.Name(name):
            return name
        case ast.Subscript(slice=ast.Constant(str(name))):
            return str(_variable(name, invite))
    raise Unknown("an argument that is an expression")


def _user(uri: str) -> str:
    return uri.partition(":")[2].partition("@")[0]


_FIELDS: Final[dict[str, Callable[[Invite], _Value]]] = {
    "rU": lambda invite: _user(invite.uri),
    "ru": lambda invite: invite.uri,
    "fU": lambda invite: _user(invite.from_uri),
    "ci": lambda _: "c-1",
    "rc": lambda invite: invite.variables.get("$rc", 0),
    "si": lambda _: "127.0.0.1",
    "DLG_status": lambda invite: invite.dialog,
}


def _are_equal(left: _Value, right: _Value) -> bool:
    return str(left).lower() == str(right).lower()


def _matches(value: _Value, pattern: _Value) -> bool:
    return re.search(str(pattern), str(value).partition("\0")[0], re.IGNORECASE) is not None


_COMPARISONS: Final[dict[type[ast.cmpop], Callable[[_Value, _Value], bool]]] = {
    ast.Eq: _are_equal,
    ast.NotEq: lambda left, right: not _are_equal(left, right),
    ast.In: _matches,
    ast.NotIn: lambda left, right: not _matches(left, right),
    ast.Gt: lambda left, right: int(left) > int(right),
    ast.Lt: lambda left, right: int(left) < int(right),
}


def _reply(invite: Invite, status: str, _: str) -> None:
    invite.status, invite.left = int(status), False


def _set(*fields: str) -> Callable[..., None]:
    """Return a function that writes its arguments to the fields."""

    def write(invite: Invite, *values: str | bool) -> None:
        for name, value in zip(fields, values or (True,), strict=True):
            setattr(invite, name, value)

    return write


def _remove_headers(invite: Invite, pattern: str) -> None:
    for header in fnmatch.filter([*invite.headers], pattern):
        del invite.headers[header]


def _is_valid(invite: Invite) -> bool:
    """Return whether the request belongs to a dialog. Only after the answer its URI must be that of the dialog."""
    return 0 < invite.dialog < _CONFIRMED or (invite.dialog >= _CONFIRMED and invite.uri == invite.target)


def _do_nothing(*_: object) -> None:
    """Do what changes neither the INVITE nor its way."""


# Functions by name and number of arguments. No result is true.
_FUNCTIONS: Final[dict[tuple[str, int], Callable[..., bool | None]]] = {
    ("t_reply", 2): _reply,
    ("send_reply", 2): _reply,
    ("t_relay", 0): _set("left"),
    ("t_check_status", 1): lambda invite, pattern: bool(re.fullmatch(pattern, str(invite.status))),
    ("t_on_failure", 1): _set("failure_route"),
    ("remove_hf", 1): _remove_headers,
    ("remove_hf_glob", 1): _remove_headers,
    ("uac_replace_from", 2): _set("from_name", "from_uri"),
    ("uac_replace_to", 2): _set("to_name", "to_uri"),
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


async def place(text: str, route: str) -> EmulatedCall:
    """Send an INVITE with every header that could show a wrong caller ID or withhold the right one."""
    other = f"sip:{ELSEWHERE}@pbx"
    invite = Invite(
        uri=f"sip:{TO}@pbx;user=phone",
        from_uri=f"sip:{CALLER}@pbx",
        from_name=ELSEWHERE,
        to_uri=other,
        headers={name: "id" if name == "Privacy" else f"<{other}>" for name in IDENTITIES},
    )
    switch = OpenSips(text)
    await switch.handle(invite, f"route_{route}")
    if not invite.left:
        return EmulatedCall()
    how, shown = f"{invite.destination} {_user(invite.uri)}", _user(invite.from_uri)
    leaves = (
        ("a display name", invite.from_name),
        ("To", _user(invite.to_uri) != TO),
        ("request URI parameters", ";" in invite.uri),
    )
    unchecked = (*invite.headers, *(name for name, has_left in leaves if has_left))
    invite.status = 302
    if invite.failure_route:
        await switch.handle(invite, f"failure_route_{invite.failure_route}")
    follows = 300 <= invite.status < 400  # noqa: PLR2004 - SIP's redirections
    return EmulatedCall(how=how, shown=shown, follows=follows, unchecked=unchecked)


_TARGET, _OTHER_TARGET = "sip:line@trunk", f"sip:{ELSEWHERE}@trunk"
# Requests that lead to an unchecked number, with the dialog's state. None may be relayed.
_WITHIN: Final = (
    ("INVITE", 0, _OTHER_TARGET, "an INVITE with a To tag and a Route, but without a call"),
    ("INVITE", 2, _OTHER_TARGET, "an INVITE to another number before the answer"),
    ("INVITE", 4, _OTHER_TARGET, "an INVITE to another number after the answer"),
    ("REFER", 4, _TARGET, "a REFER"),
)


async def relayed_within(text: str) -> list[str]:
    """Return the requests within a call that reach an unchecked number. Raises `Unknown`."""
    switch, relayed = OpenSips(text), []
    if not switch.has_main_route():
        return ["not tested: the file has no main route; name the whole script with --file"]
    for method, dialog, uri, name in _WITHIN:
        invite = Invite(
            uri=uri, from_uri=f"sip:{CALLER}@pbx", to_uri=uri, method=method, to_tag="x", dialog=dialog, target=_TARGET
        )  # fmt: skip
        invite.headers["Route"] = "<sip:opensips;lr>"
        await switch.handle(invite, "route_")
        if invite.left:
            relayed.append(name)
    return relayed
