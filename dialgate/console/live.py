"""What moves on the board: one sample of the gate each second, and one encoded message for each set of controllers that
somebody watches, however many watch it.

A call costs nothing here. The sample compares two copies of the counters, and looks at the few calls of the newest
batches; where more were decided within the second, the rows shown are some of them.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

from dialgate.answers import Answer
from dialgate.batch import REPEATED
from dialgate.console.masks import masked
from dialgate.console.standing import Standing, standing
from dialgate.faults import Unavailable
from dialgate.localtime import rfc3339
from dialgate.metrics import Calls
from dialgate.model import Instant
from dialgate.service import Asked, Gate

SECONDS: Final = 300
SHOWN: Final = 14  # rows
STANDING_SECONDS: Final = 5
_PERIOD: Final = 1.0
_OTHER: Final = "other"

View: TypeAlias = tuple[str, ...]
Grown: TypeAlias = Counter[tuple[str, str, str]]
_encode: Final = msgspec.json.Encoder().encode


class Row(Struct, frozen=True, kw_only=True):
    """A decision in a line. `caller_id` and `campaign` are empty where they are not the client's."""

    id: str
    at: str
    allow: bool
    to: str
    caller_id: str
    campaign: str
    code: str
    client: str


class Second(Struct, frozen=True):
    """`grown`: decisions by answer, first reason and campaign. `p50` and `p99` in milliseconds, of every caller's answers;
    negative where there were none."""

    at: Instant
    grown: Grown
    p50: float
    p99: float


class Message(Struct, frozen=True, kw_only=True):
    """`seconds`: instant, allowed, denied, p50, p99 of each second since the last message; in a first one of all that
    are remembered. The rest is of the last `SECONDS`, the most frequent first."""

    at: Instant
    ready: bool
    problems: dict[str, str]
    seconds: list[tuple[Instant, int, int, float, float]]
    reasons: list[tuple[str, int]]
    campaigns: list[tuple[str, int, int]]
    rows: list[Row]
    standing: Standing


class Live:
    """Of one process. `run` samples until it is cancelled; `close` lets those who watch go."""

    def __init__(self, gate: Gate) -> None:
        self.closing = False
        self._gate = gate
        self._decisions, self._waits = gate.metrics.calls.tally()
        self._seconds: deque[Second] = deque(maxlen=SECONDS)
        self._rows: dict[View, deque[Row]] = {}  # by who must be seen to see them, the newest last
        self._ticked = asyncio.Event()
        self._watched: Counter[View] = Counter()
        self._standing: dict[View, Standing] = {}
        self._messages: dict[View, bytes] = {}
        self._ticks = 0

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD)
            await self.tick()

    async def tick(self) -> None:
        self._sample(self._gate.now())
        self._ticks += 1
        for view in list(self._watched):
            if self._ticks % STANDING_SECONDS == 0:
                await self._look_up(view)
        self._messages.clear()
        ticked, self._ticked = self._ticked, asyncio.Event()
        ticked.set()

    def close(self) -> None:
        self.closing = True
        self._ticked.set()

    # ---- watching ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def watching(self, controllers: View) -> "AsyncIterator[View]":
        view = tuple(sorted(controllers))
        self._watched[view] += 1
        try:
            if view not in self._standing:
                await self._look_up(view)
            yield view
        finally:
            self._watched[view] -= 1
            if not self._watched[view]:
                del self._watched[view]
                self._standing.pop(view, None)

    @property
    def watchers(self) -> int:
        return self._watched.total()

    async def next(self) -> None:
        """Until there is something new, or this ends."""
        await self._ticked.wait()

    def first(self, view: View) -> bytes:
        return _encode(self._message(view, list(self._seconds)))

    def message(self, view: View) -> bytes:
        """Made once a second, however many ask."""
        if view not in self._messages:
            self._messages[view] = _encode(self._message(view, [self._seconds[-1]] if self._seconds else []))
        return self._messages[view]

    async def _look_up(self, view: View) -> None:
        try:
            self._standing[view] = await standing(self._gate, view)
        except Unavailable:  # readiness says so, beside what was seen last
            self._standing.setdefault(view, Standing())

    # ---- sampling ----------------------------------------------------------------------------------------------------

    def _sample(self, now: Instant) -> None:
        decisions, waits = self._gate.metrics.calls.tally()
        grown: Grown = Counter()
        for (verdict, code, campaign, _), count in (decisions - self._decisions).items():
            grown[verdict, code, campaign] += count
        took = [after - before for after, before in zip(waits, self._waits, strict=True)]
        self._seconds.append(Second(now, grown, quantile(took, 0.5), quantile(took, 0.99)))
        self._decisions, self._waits = decisions, waits
        self._take()

    def _take(self) -> None:
        """The last few of each of the newest batches."""
        taken = list(self._gate.recent)
        self._gate.recent.clear()
        for at, batch, answers, codes in taken:
            for asked, answer, code in zip(batch, answers, codes, strict=True):
                if code != REPEATED:
                    self._keep(asked, answer, code, rfc3339(at))

    def _keep(self, asked: Asked, answer: Answer, code: str, at: str) -> None:
        """Of a campaign that is not the client's only the client is told."""
        line = self._gate.config.line_of(asked.call.campaign, asked.client)
        row = Row(
            id=answer.decision_id,
            at=at,
            allow=not code,
            to=masked(answer.to),
            caller_id=asked.call.from_ if line and asked.call.from_ in line.caller_ids else "",
            campaign=asked.call.campaign if line else "",
            code=code,
            client=asked.client.name,
        )
        owners = (line.controller.id,) if line else asked.client.controllers
        self._rows.setdefault(owners, deque(maxlen=SHOWN)).append(row)

    # ---- telling -----------------------------------------------------------------------------------------------------

    def _message(self, view: View, seconds: Sequence[Second]) -> Message:
        config, problems = self._gate.config, self._gate.readiness()
        own = {name for name, line in config.lines.items() if line.controller.id in view}
        if config.controllers.keys() <= set(view):
            own.add(_OTHER)
        total: Grown = Counter()
        for second in self._seconds:
            total.update({key: count for key, count in second.grown.items() if key[2] in own})
        return Message(
            at=seconds[-1].at if seconds else self._gate.now(),
            ready=not problems,
            problems=problems,
            seconds=[_told(second, own) for second in seconds],
            reasons=_reasons(total),
            campaigns=_campaigns(total),
            rows=self._shown(view),
            standing=self._standing.get(view) or Standing(),
        )

    def _shown(self, view: View) -> list[Row]:
        """The newest first."""
        seen = set(view)
        found = chain.from_iterable(rows for owners, rows in self._rows.items() if seen.issuperset(owners))
        return sorted(found, key=lambda row: (row.at, len(row.id), row.id), reverse=True)[:SHOWN]


def _told(second: Second, own: set[str]) -> tuple[Instant, int, int, float, float]:
    verdicts: Counter[str] = Counter()
    for (verdict, _, campaign), count in second.grown.items():
        if campaign in own:
            verdicts[verdict] += count
    return second.at, verdicts["allow"], verdicts["deny"], second.p50, second.p99


def _reasons(total: Grown) -> list[tuple[str, int]]:
    codes: Counter[str] = Counter()
    for (_, code, _), count in total.items():
        if code:
            codes[code] += count
    return codes.most_common()


def _campaigns(total: Grown) -> list[tuple[str, int, int]]:
    every: Counter[str] = Counter()
    for (_, _, campaign), count in total.items():
        every[campaign] += count
    denied: Counter[str] = Counter()
    for (verdict, _, campaign), count in total.items():
        denied[campaign] += count if verdict == "deny" else 0
    return [(campaign, count - denied[campaign], denied[campaign]) for campaign, count in every.most_common()]


def quantile(counts: Sequence[int], share: float) -> float:
    """In milliseconds, from how many fell under each bound; within a bound as if they were spread evenly over it."""
    wanted = sum(counts) * share
    if not wanted:
        return -1.0
    before, low = 0, 0.0
    for count, high in zip(counts, (*Calls.BOUNDS, Calls.BOUNDS[-1]), strict=True):
        if before + count >= wanted:
            return round((low + (high - low) * (wanted - before) / count) * 1000, 3)
        before, low = before + count, high
    return round(low * 1000, 3)
