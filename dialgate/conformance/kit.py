"""The cases: what a gate may do to a dialer, and whether a call may get through then. Only one may."""

import socket
from collections.abc import AsyncIterator, Iterable
from typing import Final

from msgspec import Struct

from dialgate.conformance import gates
from dialgate.conformance.dialers import Dialer
from dialgate.conformance.gates import Play


class Case(Struct, frozen=True):
    """`plays`: what each question gets, in turn; the last call is the one that counts. None: there is no gate."""

    name: str
    about: str
    plays: tuple[Play, ...] = ()
    through: bool = False


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
)


class Finding(Struct, frozen=True, kw_only=True):
    """`through`: how the call got through, or empty."""

    case: str
    about: str
    through: str
    ok: bool


async def run(dialer: Dialer, port: int = 0, cases: Iterable[Case] = CASES) -> AsyncIterator[Finding]:
    """`port`: where the dialer expects its gate; 0 for one that is told."""
    for case in cases:
        through = await _down(dialer, port) if not case.plays else await _played(dialer, case, port)
        yield Finding(case=case.name, about=case.about, through=through, ok=bool(through) is case.through)


async def _played(dialer: Dialer, case: Case, port: int) -> str:
    through = ""
    async with gates.playing(iter(case.plays), port) as listening:
        for _ in case.plays:
            through = await dialer.place(listening)
    return through


async def _down(dialer: Dialer, port: int) -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        unused = int(free.getsockname()[1])
    return await dialer.place(port or unused)
