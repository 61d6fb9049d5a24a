"""Dialers that are none: calls of every kind that a gate meets, what became of them, people who say stop, lines called back.

The first calls are of each kind in turn, so that every reason is seen early; then they come as they do in a working day.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from itertools import count
from typing import Any, Final

from aiohttp import ClientError, ClientSession, ClientTimeout
from msgspec import Struct, field

from dialgate.client import Dialgate, NotRecorded, Verdict
from dialgate.core import local_time
from dialgate.core.model import DAY, Instant, Result
from dialgate.core.reasons import REASONS
from dialgate.tools.demo.world import ACME, BETA, RECALLED, STATISTICS, Demo

# What a gate answers only when something is broken; the demonstration's is not.
FAULTS: Final = frozenset({"gate.unavailable", "gate.rule_error"})
_ABROAD: Final = "+390844999999"
# What people asked of a controller, and how many days ago: both are in time.
_ASKED: Final = (("access", "acme", 3), ("erasure", "beta", 19))
_AGES: Final = {"valid": 30, "expired": 3_000, "withdrawn": 30, "other": 30, "unproved": 30}


class Seen(Struct):
    """What the demonstration has seen so far. `latest`: the newest answers, without numbers."""

    calls: int = 0
    allowed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    campaigns: Counter[tuple[str, bool]] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    stops: int = 0
    errors: int = 0
    latest: deque[tuple[str, str, str]] = field(default_factory=lambda: deque(maxlen=8))

    @property
    def missing(self) -> list[str]:
        return [code for code in REASONS if code not in self.reasons and code not in FAULTS]


class Kind(Struct, frozen=True):
    """`weight`: how many of a thousand calls are such."""

    weight: int
    numbers: list[str]
    campaign: str
    shown: str


def _kinds(demo: Demo, consented: dict[str, list[str]]) -> list[Kind]:
    known = demo.numbers
    fibre = known["fibre"]
    return [
        Kind(560, fibre, "acme-fibre", ACME),
        Kind(180, known["cover"], "beta-cover", BETA),
        Kind(90, consented["valid"], "acme-mobile", ACME),
        Kind(12, known["mobile"], "acme-mobile", ACME),  # consent.missing
        *(Kind(4, numbers, "acme-mobile", ACME) for name, numbers in consented.items() if name != "valid"),
        Kind(8, fibre, "acme-voice", ACME),
        Kind(6, fibre, "acme-power", ACME),
        Kind(4, fibre, "acme-autumn", ACME),
        Kind(6, fibre, "acme-abroad", ACME),
        Kind(3, fibre, "acme-winter", ACME),  # there is none
        Kind(3, ["+39 06 12", "call me"], "acme-fibre", ACME),
        Kind(3, ["+39899123456", "+39112"], "acme-fibre", ACME),
        Kind(6, known["unasked"], "acme-fibre", ACME),
        Kind(6, known["expired"], "acme-fibre", ACME),
        Kind(6, known["unlisted"], "acme-fibre", ACME),
        Kind(6, known["ceded"], "acme-fibre", ACME),
        Kind(3, fibre, "acme-fibre", "anonymous"),
        Kind(3, fibre, "acme-fibre", _ABROAD),
        Kind(3, fibre, "acme-survey", STATISTICS),
        Kind(12, known["few"], "acme-fibre", ACME),  # frequency.exceeded, in time
        Kind(6, known["cover"], "beta-water", BETA),
        Kind(5, known["london"], "beta-london", BETA),
        Kind(4, known["manchester"], "beta-london", BETA),
        Kind(5, known["london"], "beta-evening", RECALLED),
    ]


async def drive(demo: Demo, seen: Seen, rate: float, clock: Callable[[], Instant]) -> None:
    """Places made-up calls, `rate` of them a second, until it is cancelled."""
    async with AsyncExitStack() as stack:
        url = f"http://127.0.0.1:{demo.port}"
        headers = {"Authorization": f"Bearer {demo.key}"}
        http = await stack.enter_async_context(
            ClientSession(url, headers=headers, timeout=ClientTimeout(total=5))
        )
        gate = await stack.enter_async_context(Dialgate(url, demo.key, timeout=5))
        crew = _Crew(demo, seen, gate, http)
        consented = await crew.prepare(clock())
        await crew.work(_kinds(demo, consented), rate)


class _Crew:
    def __init__(self, demo: Demo, seen: Seen, gate: Dialgate, http: ClientSession) -> None:
        self._demo, self._seen, self._gate, self._http = demo, seen, gate, http
        self._lot = random.Random(2)  # noqa: S311 - made-up calls
        self._answered = count(1)
        self._again: deque[tuple[str, Kind]] = deque()  # said stop, heard nothing, or were not meant

    # ---- what is recorded before the first call ----------------------------------------------------------------------

    async def prepare(self, now: Instant) -> dict[str, list[str]]:
        """Consents of every kind, a line that is called back, people who asked something. Returns whose consent is of
        which kind."""
        proof = {"controller": "beta", "caller_id": RECALLED, "kind": "probe", "evidence": "made up"}
        await self._post("/v1/caller-ids/proofs", proof)
        for kind, controller, days in _ASKED:
            await self._request(kind, controller, now - days * DAY)
        mobiles = iter(self._demo.numbers["mobile"])
        sizes = {kind: 300 if kind == "valid" else 20 for kind in _AGES}
        consented = {kind: [next(mobiles) for _ in range(size)] for kind, size in sizes.items()}
        for kind, numbers in consented.items():
            await asyncio.gather(*(self._consent(kind, number, now) for number in numbers))
        return consented

    async def _request(self, kind: str, controller: str, at: Instant) -> None:
        number = self._demo.numbers["fibre" if controller == "acme" else "cover"][0]
        told = {"kind": kind, "identified": "a code sent to the number and read back", "channel": "mail"}
        told |= {"controller": controller, "received_at": local_time.rfc3339(at)}
        await self._post(f"/v1/subjects/{number}/requests", told)

    async def _consent(self, kind: str, number: str, now: Instant) -> None:
        told: dict[str, Any] = {
            "controller": "acme",
            "number": number,
            "id": f"web-{kind}",
            "collected_at": local_time.rfc3339(now - _AGES[kind] * DAY),
            "purposes": ["debt"] if kind == "other" else ["sale"],
            "call_types": ["agent"],
        }
        if kind != "unproved":
            told |= {"artefact": "form", "artefact_sha256": "0" * 64}
        await self._post("/v1/consents", told)
        if kind == "withdrawn":
            await self._post(
                "/v1/consents/withdraw", {"controller": "acme", "number": number, "id": f"web-{kind}"}
            )

    async def _post(self, path: str, body: dict[str, Any]) -> None:
        try:
            async with self._http.post(path, json=body) as answer:
                self._seen.errors += answer.status >= 400  # noqa: PLR2004 - HTTP
        except (ClientError, TimeoutError):
            self._seen.errors += 1

    # ---- calls -------------------------------------------------------------------------------------------------------

    async def work(self, kinds: list[Kind], rate: float) -> None:
        loop = asyncio.get_running_loop()
        begun, calls = loop.time(), set[asyncio.Task[None]]()
        with suppress(asyncio.CancelledError):
            for number, (to, kind) in enumerate(self._calls(kinds)):
                await asyncio.sleep(max(begun + number / rate - loop.time(), 0))
                call = asyncio.create_task(self._call(to, kind))
                calls.add(call)
                call.add_done_callback(calls.discard)
        await asyncio.gather(*calls)

    def _calls(self, kinds: list[Kind]) -> Iterator[tuple[str, Kind]]:
        few = next(kind for kind in kinds if kind.numbers is self._demo.numbers["few"])
        for kind in kinds:
            for _ in range(6):
                yield self._lot.choice(kind.numbers), kind
        for number in few.numbers[:4] * 7:  # of which some are not enrolled
            yield number, few
        weights = [kind.weight for kind in kinds]
        while True:
            if self._again and self._lot.random() < 0.1:  # noqa: PLR2004 - a tenth, while there are some
                yield self._again.popleft()
            (kind,) = self._lot.choices(kinds, weights)
            yield self._lot.choice(kind.numbers), kind

    async def _call(self, to: str, kind: Kind) -> None:
        verdict = await self._gate.check(to=to, from_=kind.shown, campaign=kind.campaign)
        seen = self._seen
        seen.calls += 1
        seen.allowed += verdict.allow
        seen.campaigns[kind.campaign, verdict.allow] += 1
        if not verdict.allow:
            seen.reasons[verdict.reason] += 1
        seen.latest.append((verdict.decision_id, kind.campaign, verdict.reason or "allow"))
        if verdict.allow:
            await self._placed(to, kind, verdict)

    async def _placed(self, to: str, kind: Kind, verdict: Verdict) -> None:
        result = self._result()
        self._seen.outcomes[result] += 1
        with suppress(NotRecorded):
            await self._gate.outcome(verdict.decision_id, result)
            if result == "opt_out":
                self._seen.stops += 1
            elif result == "answered" and not self._seen.outcomes["answered"] % 60:
                self._seen.stops += 1  # they call back, and say stop to the recall line
                await self._post(
                    "/v1/revocations",
                    {"controller": kind.campaign.partition("-")[0], "number": to, "channel": "recall_line"},
                )
                self._again.append((to, kind))
        if result in {"opt_out", "abandoned", "wrong_number"}:
            self._again.append((to, kind))

    def _result(self) -> Result:
        """One silent call to 80 answered: below what is allowed, whatever the lot says."""
        outcomes: tuple[Result, ...] = (
            "answered",
            "no_answer",
            "busy",
            "not_dialled",
            "opt_out",
            "wrong_number",
        )
        (drawn,) = self._lot.choices(outcomes, (50, 36, 8, 3, 2, 1))
        return "abandoned" if drawn == "answered" and next(self._answered) % 80 == 20 else drawn  # noqa: PLR2004
