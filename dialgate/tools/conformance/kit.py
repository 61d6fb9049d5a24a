"""The cases: what a gate or a trunk may do to a dialer, and whether a call may get through then. Only one may."""

import socket
from collections.abc import AsyncIterator, Iterable
from typing import Final

from msgspec import Struct

from dialgate.tools.conformance import gates
from dialgate.tools.conformance.dialers import CALLER, TO, Amiss, Dialer, Held, Redirected, Searched
from dialgate.tools.conformance.gates import Play, TestCall


class Case(Struct, frozen=True):
    """`plays`: what each question gets, in turn; the last call is the one that counts. None: there is no gate, or it is
    `frozen`. `may_hold`: Asterisk cannot end this by itself, so a call that waits is not open. `redirects`: the trunk
    answers 302. `reads_file`: no call is placed; the dialer's file is searched for other ways to the trunk."""

    name: str
    about: str
    plays: tuple[Play, ...] = ()
    through: bool = False
    frozen: bool = False
    may_hold: bool = False
    redirects: bool = False
    reads_file: bool = False


CASES: Final = (
    Case("allow", "the gate allows", (gates.allow,), through=True),
    Case("deny", "the gate denies", (gates.deny,)),
    Case("down", "nobody listens"),
    Case("silent", "takes the question and never answers", (gates.silent,)),
    Case("slow", "allows after three seconds", (gates.slow,)),
    Case("early", "hangs up without a word", (gates.early,)),
    Case("half", "hangs up in the middle of an allow", (gates.half,)),
    Case("nonsense", "answers what is no answer", (gates.nonsense,)),
    Case("error", "answers with an error page", (gates.error,)),
    Case("empty", "answers nothing, politely", (gates.empty,)),
    Case("stale", "answers nothing, right after an allow to the call before", (gates.allow, gates.empty)),
    Case("frozen", "accepts and never reads, as after SIGSTOP", frozen=True),
    Case("quote", "answers a quote", (gates.quote,)),
    Case("long", "answers 4,096 letters", (gates.long,)),
    Case("drip", "allows, one byte a second", (gates.drip,), may_hold=True),
)
MOVED: Final = Case(
    "moved", "allows, and the trunk redirects to another number", (gates.allow,), redirects=True
)
ANOTHER_WAY: Final = Case(
    "another", "is not asked: another Dial to the trunk, anywhere in the file", reads_file=True
)


class Finding(Struct, frozen=True, kw_only=True):
    """`through`: how the call got through, or empty. `note`: what else was wrong, or empty."""

    case: str
    about: str
    through: str
    ok: bool
    note: str = ""


def cases_for(dialer: Dialer) -> tuple[Case, ...]:
    """Add the cases of a trunk where the kit is or plays the dialer's, and the search of an Asterisk dialplan."""
    moved = (MOVED,) if isinstance(dialer, Redirected) and dialer.has_trunk else ()
    another = (ANOTHER_WAY,) if isinstance(dialer, Searched) and dialer.has_dialplan else ()
    return (*CASES, *moved, *another)


async def run(dialer: Dialer, port: int = 0, cases: Iterable[Case] = CASES) -> AsyncIterator[Finding]:
    """`port`: where the dialer expects its gate; 0 for one that is told."""
    for case in cases:
        yield await _find(dialer, case, port)


async def _find(dialer: Dialer, case: Case, port: int) -> Finding:
    if case.reads_file:
        ways = dialer.other_ways() if isinstance(dialer, Searched) else []
        return Finding(case=case.name, about=case.about, through="", ok=not ways, note="; ".join(ways))
    call = TestCall(TO, getattr(dialer, "caller_id", CALLER))
    through, note, ok = "", "", False
    try:
        through = await _place(dialer, case, port, call)
        ok = bool(through) is case.through
    except Amiss as error:
        note, through, ok = str(error), error.through, case.may_hold and isinstance(error, Held)
        note += "; Asterisk cannot end this, and the call does not leave" if ok else ""
    notes = [*dict.fromkeys(call.notes), *([note] if note else [])]
    return Finding(case=case.name, about=case.about, through=through, ok=ok, note="; ".join(notes))


async def _place(dialer: Dialer, case: Case, port: int, call: TestCall) -> str:
    if not case.plays and not case.frozen:
        return await dialer.place(port or _unused())
    if case.frozen:
        async with gates.frozen(port) as listening:
            return await dialer.place(listening)
    through = ""
    for play in (
        case.plays
    ):  # a gate for each call: one that a busy machine cut off must not leave its play to the next
        async with gates.playing(iter([play]), port, call) as listening:
            if case.redirects and isinstance(dialer, Redirected):
                await dialer.place_redirected(listening)
            else:
                through = await dialer.place(listening)
    return through


def _unused() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
