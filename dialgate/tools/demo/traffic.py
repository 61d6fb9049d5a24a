"""The simulated dialers: calls of every kind with their outcomes, revocations, and repeated calls.

A few calls of each kind are placed first, so that every denial reason appears early. After that, the kinds are
mixed as on a working day.
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

# Reason codes that the demonstration does not show: gate faults, reasons that Italian law does not give, the pause of
# a whole campaign, and AI voices.
NOT_SHOWN: Final = frozenset(
    {
        "gate.unavailable", "gate.rule_error", "rate.exceeded",
        "law.draft", "caller_id.wrong_country", "caller_id.not_callers", "consent.incomplete",
        "consent.reassigned", "campaign.ai_undisclosed",
        "pacing.abandoned",
    }
)  # fmt: skip
_ABROAD: Final = "+390844999999"
# Data-subject requests: kind, controller, age in days. Neither is overdue.
_ASKED: Final = (("access", "acme", 3), ("erasure", "beta", 19))
_AGES: Final = {"valid": 30, "expired": 3_000, "withdrawn": 30, "other": 30, "unproved": 30}


class DemoFigures(Struct):
    """The demonstration's figures so far. `latest` contains the newest responses, without phone numbers."""

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
        return [code for code in REASONS if code not in self.reasons and code not in NOT_SHOWN]


class Kind(Struct, frozen=True):
    """A kind of call. `weight` is its share of a thousand calls."""

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
        Kind(3, fibre, "acme-winter", ACME),  # this campaign does not exist
        Kind(3, ["+39 06 12", "call me"], "acme-fibre", ACME),
        Kind(3, ["+39899123456", "+39112"], "acme-fibre", ACME),
        Kind(6, known["unasked"], "acme-fibre", ACME),
        Kind(6, known["expired"], "acme-fibre", ACME),
        Kind(6, known["unlisted"], "acme-fibre", ACME),
        Kind(6, known["ceded"], "acme-fibre", ACME),
        Kind(3, fibre, "acme-fibre", "anonymous"),
        Kind(3, fibre, "acme-fibre", _ABROAD),
        Kind(3, fibre, "acme-survey", STATISTICS),
        Kind(12, known["few"], "acme-fibre", ACME),  # gives frequency.exceeded after a while
        Kind(6, known["cover"], "beta-water", BETA),
        Kind(5, known["london"], "beta-london", BETA),
        Kind(4, known["manchester"], "beta-london", BETA),
        Kind(5, known["london"], "beta-evening", RECALLED),
    ]


async def drive(demo: Demo, seen: DemoFigures, rate: float, clock: Callable[[], Instant]) -> None:
    """Place `rate` made-up calls per second until the task is cancelled."""
    async with AsyncExitStack() as stack:
        url = f"http://127.0.0.1:{demo.port}"
        headers = {"Authorization": f"Bearer {demo.key}"}
        http = await stack.enter_async_context(
            ClientSession(url, headers=headers, timeout=ClientTimeout(total=5))
        )
        gate = await stack.enter_async_context(Dialgate(url, demo.key, timeout=5))
        traffic = _Traffic(demo, seen, gate, http)
        consented = await traffic.prepare(clock())
        await traffic.run(_kinds(demo, consented), rate)


class _Traffic:
    def __init__(self, demo: Demo, seen: DemoFigures, gate: Dialgate, http: ClientSession) -> None:
        self._demo, self._seen, self._gate, self._http = demo, seen, gate, http
        self._random = random.Random(2)  # noqa: S311 - made-up calls
        self._answered, self._with_consent = count(1), count()
        self._again: deque[tuple[str, Kind]] = deque()  # numbers to call again after an opt-out or a bad call

    # ---- ledger entries before the first call ------------------------------------------------------------------------

    async def prepare(self, now: Instant) -> dict[str, list[str]]:
        """Record consents of every kind, a caller-ID proof and data-subject requests.

        Return the numbers, grouped by kind of consent.
        """
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
        body = {"kind": kind, "identified": "a code sent to the number and read back", "channel": "mail"}
        body |= {"controller": controller, "received_at": local_time.rfc3339(at)}
        await self._post(f"/v1/subjects/{number}/requests", body)

    async def _consent(self, kind: str, number: str, now: Instant) -> None:
        body: dict[str, Any] = {
            "controller": "acme",
            "number": number,
            "id": f"web-{kind}",
            "collected_at": local_time.rfc3339(now - _AGES[kind] * DAY),
            "purposes": ["debt"] if kind == "other" else ["sale"],
            "goods": ["mobile"],
            "call_types": ["agent"],
        }
        if kind != "unproved":
            body |= {"artefact": "form", "artefact_sha256": "0" * 64}
        await self._post("/v1/consents", body)
        if kind == "withdrawn":
            await self._post(
                "/v1/consents/withdraw", {"controller": "acme", "number": number, "id": f"web-{kind}"}
            )

    async def _post(self, path: str, body: dict[str, Any]) -> None:
        try:
            async with self._http.post(path, json=body) as response:
                self._seen.errors += response.status >= 400  # noqa: PLR2004 - HTTP
        except (ClientError, TimeoutError):
            self._seen.errors += 1

    # ---- calls -------------------------------------------------------------------------------------------------------

    async def run(self, kinds: list[Kind], rate: float) -> None:
        loop = asyncio.get_running_loop()
        started, calls = loop.time(), set[asyncio.Task[None]]()
        with suppress(asyncio.CancelledError):
            for number, (to, kind) in enumerate(self._calls(kinds)):
                await asyncio.sleep(max(started + number / rate - loop.time(), 0))
                call = asyncio.create_task(self._call(to, kind))
                calls.add(call)
                call.add_done_callback(calls.discard)
        await asyncio.gather(*calls)

    def _calls(self, kinds: list[Kind]) -> Iterator[tuple[str, Kind]]:
        few = next(kind for kind in kinds if kind.numbers is self._demo.numbers["few"])
        for kind in kinds:
            for _ in range(6):
                yield self._random.choice(kind.numbers), kind
        for number in few.numbers[:4] * 7:  # some are not in the registry and reach the frequency limit
            yield number, few
        weights = [kind.weight for kind in kinds]
        while True:
            if self._again and self._random.random() < 0.1:  # noqa: PLR2004 - a tenth of the calls, if there are any
                yield self._again.popleft()
            (kind,) = self._random.choices(kinds, weights)
            yield self._random.choice(kind.numbers), kind

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
            await self._report_outcome(to, kind, verdict)

    async def _report_outcome(self, to: str, kind: Kind, verdict: Verdict) -> None:
        result = self._result(kind)
        self._seen.outcomes[result] += 1
        with suppress(NotRecorded):
            await self._gate.outcome(verdict.decision_id, result)
            if result == "opt_out":
                self._seen.stops += 1
            elif result == "answered" and not self._seen.outcomes["answered"] % 60:
                self._seen.stops += 1  # the person calls back and revokes on the recall line
                await self._post(
                    "/v1/revocations",
                    {"controller": kind.campaign.partition("-")[0], "number": to, "channel": "recall_line"},
                )
                self._again.append((to, kind))
        if result in {"opt_out", "abandoned", "wrong_number"}:
            self._again.append((to, kind))

    def _result(self, kind: Kind) -> Result:
        """Return a random result.

        Only one in 80 answered calls becomes an abandoned call, so that campaigns stay below the limit for abandoned
        calls.
        """
        if kind.campaign == "acme-mobile" and not next(self._with_consent):
            return "wrong_number"  # with a later call it shows `consent.wrong_number`, which random results may never show
        shares: dict[Result, int] = {
            "answered": 40, "no_answer": 36, "busy": 8, "not_dialled": 3, "opt_out": 2, "wrong_number": 2, "refused": 9,
        }  # fmt: skip
        (result,) = self._random.choices([*shares], [*shares.values()])
        return "abandoned" if result == "answered" and next(self._answered) % 80 == 20 else result  # noqa: PLR2004
