"""The test cases: what the gate or trunk does, and whether the call may get through.

A call may get through only if the gate allows it.
"""

import socket
from collections.abc import AsyncIterator, Iterable
from typing import Final

from msgspec import Struct

from dialgate.tools.conformance import gates
from dialgate.tools.conformance.dialers import CallHanging, ConfiguredDialer, Dialer, DialerFault
from dialgate.tools.conformance.gates import Play, TestCall
from dialgate.tools.conformance.model import CALLER, TO
from dialgate.tools.conformance.real_dialers import RealDialer


class ConformanceCase(Struct, frozen=True):
    """One test case.

    - `plays`: the gate's behaviour for each call in turn, empty if there is no gate or the gate is `frozen`. Only the
      last call is judged.
    - `through`: the call must get through.
    - `may_hang`: the call may hang, because Asterisk cannot end it.
    - `redirects`: the trunk redirects the call (302).
    - `bypass`: no call is placed. Instead, the ways to the trunk without a check are sought.
    """

    name: str
    about: str
    plays: tuple[Play, ...] = ()
    through: bool = False
    frozen: bool = False
    may_hang: bool = False
    redirects: bool = False
    bypass: bool = False


CASES: Final = (
    ConformanceCase("allow", "allows", (gates.allow,), through=True),
    ConformanceCase("deny", "denies", (gates.deny,)),
    ConformanceCase("down", "is down: the port is closed"),
    ConformanceCase("silent", "accepts the request and never answers", (gates.silent,)),
    ConformanceCase("slow", "allows after three seconds", (gates.slow,)),
    ConformanceCase("early", "closes the connection without an answer", (gates.early,)),
    ConformanceCase("half", "closes the connection in the middle of an allow", (gates.half,)),
    ConformanceCase("nonsense", "answers with garbage", (gates.nonsense,)),
    ConformanceCase("error", "answers with an error page", (gates.error,)),
    ConformanceCase("empty", "answers with an empty body", (gates.empty,)),
    ConformanceCase(
        "stale",
        "answers with an empty body, after an allow for the previous call",
        (gates.allow, gates.empty),
    ),
    ConformanceCase("frozen", "accepts connections and never reads, as after SIGSTOP", frozen=True),
    ConformanceCase("quote", "answers with a quotation mark", (gates.quote,)),
    ConformanceCase("long", "answers with 4,096 letters", (gates.long,)),
    ConformanceCase("status", "answers 500 with the body of an allow", (gates.wrong_status,)),
    ConformanceCase("cut", "closes the connection after `allow`, before the announced end", (gates.cut,)),
    ConformanceCase("newline", "answers with `allow` and a line break", (gates.newline,)),
    ConformanceCase("null", "answers with `allow`, a null byte and more", (gates.null,)),
    ConformanceCase("upper", "answers with `ALLOW`", (gates.upper,)),
    ConformanceCase("drip", "allows, one byte per second", (gates.drip,), may_hang=True),
)
MOVED: Final = ConformanceCase(
    "moved", "allows, and the trunk redirects to another number", (gates.allow,), redirects=True
)
ANOTHER_WAY: Final = ConformanceCase(
    "another", "is bypassed: another Dial to the trunk, anywhere in the file", bypass=True
)
_BYPASSES: Final = (
    ANOTHER_WAY,
    ConformanceCase("within", "is bypassed: a request within a call, to another number", bypass=True),
)


class CaseFinding(Struct, frozen=True, kw_only=True):
    """The result of a case.

    `through` says how the call got through, and `note` what else was wrong. Both may be empty.
    """

    case: str
    about: str
    through: str
    ok: bool
    note: str = ""


def cases_for(dialer: Dialer) -> tuple[ConformanceCase, ...]:
    """Return `CASES`, and the cases for a dialer with a trunk, with a dialplan, and for a SIP proxy."""
    match dialer:
        case ConfiguredDialer():
            return (*CASES, MOVED, *(case for case in _BYPASSES if case.name == dialer.kind.bypass))
        case RealDialer() if dialer.trunk is not None:
            return (*CASES, MOVED)
    return CASES


async def run(
    dialer: Dialer, port: int = 0, cases: Iterable[ConformanceCase] = CASES
) -> AsyncIterator[CaseFinding]:
    """Run the cases with the dialer and yield the result of each.

    The test gate listens on `port`, or on a free port if `port` is 0.
    """
    for case in cases:
        yield await _run_case(dialer, case, port)


async def _run_case(dialer: Dialer, case: ConformanceCase, port: int) -> CaseFinding:
    if case.bypass:
        assert isinstance(dialer, ConfiguredDialer)
        ways = await dialer.bypasses()
        return CaseFinding(case=case.name, about=case.about, through="", ok=not ways, note="; ".join(ways))
    call = TestCall(TO, getattr(dialer, "caller_id", CALLER))
    through, note, ok = "", "", False
    try:
        through = await _place(dialer, case, port, call)
        ok = bool(through) is case.through
    except DialerFault as error:
        note, through, ok = str(error), error.through, case.may_hang and isinstance(error, CallHanging)
        note += "; Asterisk cannot end such a call, but it does not leave" if ok else ""
    notes = [*dict.fromkeys(call.notes), *([note] if note else [])]
    return CaseFinding(case=case.name, about=case.about, through=through, ok=ok, note="; ".join(notes))


async def _place(dialer: Dialer, case: ConformanceCase, port: int, call: TestCall) -> str:
    if not case.plays and not case.frozen:
        return await dialer.place(port or _unused())
    if case.frozen:
        async with gates.frozen(port) as actual_port:
            return await dialer.place(actual_port)
    through = ""
    # One gate per call. If a busy machine ends a call early, the next call must not get the play for that call.
    for play in case.plays:
        async with gates.playing(iter([play]), port, call) as actual_port:
            if case.redirects and isinstance(dialer, ConfiguredDialer | RealDialer):
                await dialer.place_redirected(actual_port)
            else:
                through = await dialer.place(actual_port)
    return through


def _unused() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
