"""What moves on the board: one sample of the gate each second, and one encoded message for each set of controllers that
somebody watches, however many watch it.

A call costs nothing here. The sample compares two copies of the counters, and looks at the few calls of the newest
batches; where more were decided within the second, the rows shown are some of them. Of several workers each samples
itself; the one that is watched asks the others for their seconds, and shows the sum, a second late.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from typing import Final, Protocol, TypeAlias

import msgspec
from msgspec import Struct, field

from dialgate.app import App
from dialgate.core.decision_ids import owner_of
from dialgate.core.faults import Unavailable
from dialgate.core.local_time import rfc3339
from dialgate.core.model import SECOND, Instant
from dialgate.core.responses import Answer
from dialgate.gate.admission_queue import CallRequest
from dialgate.gate.batch import REPEATED
from dialgate.interfaces.console.masks import masked
from dialgate.interfaces.console.status import Standing, standing
from dialgate.observability.metrics import Calls

SECONDS: Final = 300
SHOWN: Final = 14  # rows
STANDING_SECONDS: Final = 5
_HALF: Final = SECOND // 2
_AGAIN: Final = 3  # seconds in each message: one may have come late
_OTHER: Final = "other"

View: TypeAlias = tuple[str, ...]
Grown: TypeAlias = Counter[tuple[str, str, str]]
_encode: Final = msgspec.json.Encoder().encode
_pack: Final = msgspec.msgpack.Encoder().encode


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
    """`grown`: decisions by answer, first reason and campaign. `took`: every caller's answers, by the bound of
    `Calls.BOUNDS` under which they fell."""

    at: Instant
    grown: dict[tuple[str, str, str], int]
    took: list[int]


class Share(Struct, frozen=True):
    """What one worker tells another. `rows`: by who must be seen to see them."""

    seconds: list[Second]
    rows: dict[View, list[Row]]
    problems: dict[str, str]


class Others(Protocol):
    """The other workers of the node."""

    async def ask_each(self, ask: Callable[[int], str]) -> dict[int, bytes | None]:
        """By worker, what it says to what it is asked; None where it does not answer."""


_share: Final = msgspec.msgpack.Decoder(Share)


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


class Heard(Struct):
    """Of another worker, as far as it has told."""

    seconds: deque[Second] = field(default_factory=lambda: deque(maxlen=SECONDS))
    rows: dict[View, list[Row]] = {}
    problems: dict[str, str] = {}

    def take(self, said: bytes | None) -> None:
        try:
            share = _share.decode(said or b"")
        except msgspec.DecodeError:
            self.problems = {"worker": "does not answer"}
        else:
            told = self.seconds[-1].at if self.seconds else 0  # it may have been asked twice at once
            self.seconds.extend(second for second in share.seconds if second.at > told)
            self.rows, self.problems = share.rows, share.problems


class Live:
    """`run` samples until it is cancelled; `close` lets those who watch go."""

    def __init__(self, app: App) -> None:
        self.closing = False
        self.others: Others | None = None
        self._app = app
        self._decisions, self._waits = app.metrics.calls.tally()
        self._seconds: deque[Second] = deque(maxlen=SECONDS)
        self._rows: dict[View, deque[Row]] = {}  # by who must be seen to see them, the newest last
        self._heard: dict[int, Heard] = {}
        self._together: list[Second] = []
        self._ticked = asyncio.Event()
        self._watched: Counter[View] = Counter()
        self._standing: dict[View, Standing] = {}
        self._messages: dict[View, bytes] = {}
        self._ticks = 0

    async def run(self) -> None:
        """In the middle of each second, so that all workers' samples are of the same seconds."""
        while True:
            await asyncio.sleep((_HALF - self._app.gate.now() % SECOND) % SECOND / SECOND or 1)
            await self.tick()

    async def tick(self) -> None:
        self._sample(self._app.gate.now())
        self._ticks += 1
        if self._watched:
            await self._hear()
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
                await self._hear()
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
        return _encode(self._message(view, self._together))

    def message(self, view: View) -> bytes:
        """Made once a second, however many ask."""
        if view not in self._messages:
            self._messages[view] = _encode(self._message(view, self._together[-_AGAIN:]))
        return self._messages[view]

    async def _look_up(self, view: View) -> None:
        try:
            self._standing[view] = await standing(self._app, view)
        except Unavailable:  # readiness says so, beside what was seen last
            self._standing.setdefault(view, Standing())

    # ---- sampling ----------------------------------------------------------------------------------------------------

    def _sample(self, now: Instant) -> None:
        decisions, waits = self._app.metrics.calls.tally()
        grown: Grown = Counter()
        for (verdict, code, campaign, _), count in (decisions - self._decisions).items():
            grown[verdict, code, campaign] += count
        took = [after - before for after, before in zip(waits, self._waits, strict=True)]
        self._seconds.append(Second(now, grown, took))
        self._decisions, self._waits = decisions, waits
        self._take()

    def _take(self) -> None:
        """The last few of each of the newest batches."""
        taken = list(self._app.gate.recent)
        self._app.gate.recent.clear()
        for at, batch, answers, codes in taken:
            for asked, answer, code in zip(batch, answers, codes, strict=True):
                if code != REPEATED:
                    self._keep(asked, answer, code, rfc3339(at))

    def _keep(self, request: CallRequest, answer: Answer, code: str, at: str) -> None:
        """Of a campaign that is not the client's only the client is told."""
        line = self._app.config.line_of(request.call.campaign, request.client)
        owner = owner_of(line.controller.id if line else "", request.client.name)
        row = Row(
            id=self._app.registrar.ids.outside(answer.decision_id, owner),
            at=at,
            allow=not code,
            to=masked(answer.to),
            caller_id=request.call.from_ if line and request.call.from_ in line.caller_ids else "",
            campaign=request.call.campaign if line else "",
            code=code,
            client=request.client.name,
        )
        owners = (line.controller.id,) if line else request.client.controllers
        self._rows.setdefault(owners, deque(maxlen=SHOWN)).append(row)

    # ---- several workers ---------------------------------------------------------------------------------------------

    def share(self, since: str) -> bytes:
        """A `Share`, of the seconds after an instant."""
        seconds = [each for each in self._seconds if each.at > int(since)]
        rows = {view: list(each) for view, each in self._rows.items()}
        return _pack(Share(seconds, rows, self._app.gate.readiness()))

    async def _hear(self) -> None:
        if self.others is not None:
            told = await self.others.ask_each(lambda worker: f"board {self._known(worker)}")
            for worker, said in told.items():
                self._heard.setdefault(worker, Heard()).take(said)
            for worker in self._heard.keys() - told.keys():
                self._heard[worker].problems = {}
        self._together = together([self._seconds, *(each.seconds for each in self._heard.values())])

    def _known(self, worker: int) -> Instant:
        heard = self._heard.get(worker)
        return heard.seconds[-1].at if heard and heard.seconds else 0

    def _problems(self) -> dict[str, str]:
        """Of this worker, and of the others by their number."""
        others = {
            f"{name} ({worker})": text
            for worker, heard in self._heard.items()
            for name, text in heard.problems.items()
        }
        return self._app.gate.readiness() | others

    # ---- telling -----------------------------------------------------------------------------------------------------

    def _message(self, view: View, seconds: Sequence[Second]) -> Message:
        config, problems = self._app.config, self._problems()
        own = {name for name, line in config.lines.items() if line.controller.id in view}
        if config.controllers.keys() <= set(view):
            own.add(_OTHER)
        total: Grown = Counter()
        for second in self._together:
            total.update({key: count for key, count in second.grown.items() if key[2] in own})
        return Message(
            at=seconds[-1].at if seconds else self._app.gate.now(),
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
        every = chain(self._rows.items(), *(heard.rows.items() for heard in self._heard.values()))
        found = chain.from_iterable(reversed(rows) for owners, rows in every if seen.issuperset(owners))
        return sorted(found, key=lambda row: row.at, reverse=True)[:SHOWN]


def _told(second: Second, own: set[str]) -> tuple[Instant, int, int, float, float]:
    verdicts: Counter[str] = Counter()
    for (verdict, _, campaign), count in second.grown.items():
        if campaign in own:
            verdicts[verdict] += count
    return (
        second.at,
        verdicts["allow"],
        verdicts["deny"],
        quantile(second.took, 0.5),
        quantile(second.took, 0.99),
    )


def together(workers: Sequence[Sequence[Second]]) -> list[Second]:
    """The last `SECONDS`, added up. The newest second of several is left out: not every worker has told of it yet."""
    if len(workers) == 1:
        return list(workers[0])
    sums: dict[Instant, Second] = {}
    for second in chain.from_iterable(workers):
        begun = second.at - second.at % SECOND
        held = sums.get(begun)
        sums[begun] = Second(begun, second.grown, second.took) if held is None else _sum(held, second)
    return [sums[begun] for begun in sorted(sums)[-SECONDS - 1 : -1]]


def _sum(one: Second, other: Second) -> Second:
    grown = Counter(one.grown)
    grown.update(other.grown)
    return Second(one.at, grown, [a + b for a, b in zip(one.took, other.took, strict=True)])


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
