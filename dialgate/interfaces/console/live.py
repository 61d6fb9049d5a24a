"""The data for the live board: one sample of the gate per second, and one encoded message per set of controllers.

All boards for the same controllers get the same message, and the boards add no work to the call path. A sample compares
two copies of the counters and reads the last few calls of the newest batches, so a board does not list every decision
of a busy second. If there are several workers, each worker samples only the calls that it handled. The worker that
serves a board fetches the other workers' samples and shows the totals, one second late.
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
from dialgate.interfaces.console.masks import mask_number
from dialgate.interfaces.console.status import Standing, standing
from dialgate.observability.metrics import Calls

SECONDS: Final = 300
ROWS: Final = 14
STANDING_SECONDS: Final = 5
_HALF: Final = SECOND // 2
_REPEATED: Final = 3  # seconds in each message, because data from another worker may arrive late
_OTHER: Final = "other"

View: TypeAlias = tuple[str, ...]
Counts: TypeAlias = Counter[tuple[str, str, str]]
_encode: Final = msgspec.json.Encoder().encode
_pack: Final = msgspec.msgpack.Encoder().encode


class Row(Struct, frozen=True, kw_only=True):
    """A decision on the board. `caller_id` and `campaign` are empty if the campaign does not belong to the client."""

    id: str
    at: str
    allow: bool
    to: str
    caller_id: str
    campaign: str
    code: str
    client: str


# The names sent are those from earlier versions, because workers of two versions run during an upgrade.
class Second(Struct, frozen=True, rename={"counts": "grown", "response_times": "took"}):
    """The decisions made in one second.

    `counts` are keyed by verdict, first reason and campaign. `response_times` counts the responses in each bucket of
    `Calls.BOUNDS`.
    """

    at: Instant
    counts: dict[tuple[str, str, str], int]
    response_times: list[int]


class Share(Struct, frozen=True):
    """The data that one worker sends to another.

    `rows` holds the newest decisions, keyed by controllers. A board shows a decision only if the board covers all
    controllers in the key.
    """

    seconds: list[Second]
    rows: dict[View, list[Row]]
    problems: dict[str, str]


class Siblings(Protocol):
    """The other workers of the node."""

    async def ask_each(self, ask: Callable[[int], str]) -> dict[int, bytes | None]:
        """Send a request to each worker. Return the responses by worker, or None for a worker that did not respond."""


_share_decoder: Final = msgspec.msgpack.Decoder(Share)


class Message(Struct, frozen=True, kw_only=True):
    """A message to a board.

    Each entry of `seconds` holds the instant, the allowed and denied calls, and the p50 and p99 of the response time.
    The first message covers the last `SECONDS` seconds, later ones only the newest few. `reasons` and `campaigns` are
    counts over the last `SECONDS` seconds, highest first.
    """

    at: Instant
    ready: bool
    problems: dict[str, str]
    seconds: list[tuple[Instant, int, int, float, float]]
    reasons: list[tuple[str, int]]
    campaigns: list[tuple[str, int, int]]
    rows: list[Row]
    standing: Standing


class WorkerData(Struct):
    seconds: deque[Second] = field(default_factory=lambda: deque(maxlen=SECONDS))
    rows: dict[View, list[Row]] = {}
    problems: dict[str, str] = {}

    def update(self, response: bytes | None) -> None:
        """Add the data from a response. A missing or invalid response is recorded as a problem."""
        try:
            share = _share_decoder.decode(response or b"")
        except msgspec.DecodeError:
            self.problems = {"worker": "does not answer"}
        else:
            newest = self.seconds[-1].at if self.seconds else 0  # two requests may have overlapped
            self.seconds.extend(second for second in share.seconds if second.at > newest)
            self.rows, self.problems = share.rows, share.problems


class Live:
    """The sampler for the live board. `run` samples until it is cancelled."""

    def __init__(self, app: App) -> None:
        self.closing = False
        self.siblings: Siblings | None = None
        self._app = app
        self._decisions, self._response_times = app.metrics.calls.tally()
        self._seconds: deque[Second] = deque(maxlen=SECONDS)
        self._rows: dict[
            View, deque[Row]
        ] = {}  # the keys are the controllers that a board must cover; the newest row is last
        self._workers: dict[int, WorkerData] = {}
        self._total: list[Second] = []
        self._ticked = asyncio.Event()
        self._watched: Counter[View] = Counter()
        self._standing: dict[View, Standing] = {}
        self._messages: dict[View, bytes] = {}
        self._ticks = 0

    async def run(self) -> None:
        """Take a sample in the middle of each second, so that all workers sample the same seconds."""
        while True:
            await asyncio.sleep((_HALF - self._app.gate.now() % SECOND) % SECOND / SECOND or 1)
            await self.tick()

    async def tick(self) -> None:
        """Take one sample and wake the boards."""
        self._sample(self._app.gate.now())
        self._ticks += 1
        if self._watched:
            await self._fetch()
        for view in list(self._watched):
            if self._ticks % STANDING_SECONDS == 0:
                await self._look_up(view)
        self._messages.clear()
        ticked, self._ticked = self._ticked, asyncio.Event()
        ticked.set()

    def close(self) -> None:
        self.closing = True
        self._ticked.set()

    # ---- boards ------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def watching(self, controllers: View) -> "AsyncIterator[View]":
        """Keep a board's data up to date while the context is open. Yield the view to pass to `first` and `message`."""
        view = tuple(sorted(controllers))
        self._watched[view] += 1
        try:
            if view not in self._standing:
                await self._fetch()
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
        """Wait for the next message, or until `close` is called."""
        await self._ticked.wait()

    def first(self, view: View) -> bytes:
        """Return a board's first message, with data for the last `SECONDS` seconds."""
        return _encode(self._message(view, self._total))

    def message(self, view: View) -> bytes:
        """Return the current message, encoded once per second for all boards that show a view."""
        if view not in self._messages:
            self._messages[view] = _encode(self._message(view, self._total[-_REPEATED:]))
        return self._messages[view]

    async def _look_up(self, view: View) -> None:
        try:
            self._standing[view] = await standing(self._app, view)
        except Unavailable:  # readiness reports it; the board keeps the last status
            self._standing.setdefault(view, Standing())

    # ---- sampling ----------------------------------------------------------------------------------------------------

    def _sample(self, now: Instant) -> None:
        decisions, response_times = self._app.metrics.calls.tally()
        counts: Counts = Counter()
        for (verdict, code, campaign, _), count in (decisions - self._decisions).items():
            counts[verdict, code, campaign] += count
        grown = [after - before for after, before in zip(response_times, self._response_times, strict=True)]
        self._seconds.append(Second(now, counts, grown))
        self._decisions, self._response_times = decisions, response_times
        self._add_rows()

    def _add_rows(self) -> None:
        batches = list(self._app.gate.recent)
        self._app.gate.recent.clear()
        for at, batch, answers, codes in batches:
            for request, answer, code in zip(batch, answers, codes, strict=True):
                if code != REPEATED:
                    self._add_row(request, answer, code, rfc3339(at))

    def _add_row(self, request: CallRequest, answer: Answer, code: str, at: str) -> None:
        """Add a row for the boards that cover the campaign's controller.

        If the campaign does not belong to the client, a board shows the row only if the board covers all of the
        client's controllers.
        """
        line = self._app.config.line_of(request.call.campaign, request.client)
        owner = owner_of(line.controller.id if line else "", request.client.name)
        row = Row(
            id=self._app.registrar.ids.outside(answer.decision_id, owner),
            at=at,
            allow=not code,
            to=mask_number(answer.to),
            caller_id=request.call.from_ if line and request.call.from_ in line.caller_ids else "",
            campaign=request.call.campaign if line else "",
            code=code,
            client=request.client.name,
        )
        owners = (line.controller.id,) if line else request.client.controllers
        self._rows.setdefault(owners, deque(maxlen=ROWS)).append(row)

    # ---- several workers ---------------------------------------------------------------------------------------------

    def share(self, since: str) -> bytes:
        """Return this worker's `Share` in MessagePack format, with only the per-second counts after the instant `since`."""
        seconds = [second for second in self._seconds if second.at > int(since)]
        rows = {view: list(rows) for view, rows in self._rows.items()}
        return _pack(Share(seconds, rows, self._app.gate.readiness()))

    async def _fetch(self) -> None:
        if self.siblings is not None:
            responses = await self.siblings.ask_each(lambda worker: f"board {self._newest(worker)}")
            for worker, response in responses.items():
                self._workers.setdefault(worker, WorkerData()).update(response)
            for worker in self._workers.keys() - responses.keys():
                self._workers[worker].problems = {}
        self._total = add_up([self._seconds, *(data.seconds for data in self._workers.values())])

    def _newest(self, worker: int) -> Instant:
        data = self._workers.get(worker)
        return data.seconds[-1].at if data and data.seconds else 0

    def _problems(self) -> dict[str, str]:
        """Return all workers' problems. The keys for other workers contain the worker number."""
        others = {
            f"{name} ({worker})": text
            for worker, data in self._workers.items()
            for name, text in data.problems.items()
        }
        return self._app.gate.readiness() | others

    # ---- messages ----------------------------------------------------------------------------------------------------

    def _message(self, view: View, seconds: Sequence[Second]) -> Message:
        config, problems = self._app.config, self._problems()
        own = {name for name, line in config.lines.items() if line.controller.id in view}
        if config.controllers.keys() <= set(view):
            own.add(_OTHER)
        else:  # the texts can name files, and so other controllers
            problems = dict.fromkeys(problems, "")
        counts: Counts = Counter()
        for second in self._total:
            counts.update({key: count for key, count in second.counts.items() if key[2] in own})
        return Message(
            at=seconds[-1].at if seconds else self._app.gate.now(),
            ready=not problems,
            problems=problems,
            seconds=[_figures(second, own) for second in seconds],
            reasons=_count_reasons(counts),
            campaigns=_count_campaigns(counts),
            rows=self._select_rows(view),
            standing=self._standing.get(view) or Standing(),
        )

    def _select_rows(self, view: View) -> list[Row]:
        controllers = set(view)
        every = chain(self._rows.items(), *(data.rows.items() for data in self._workers.values()))
        rows = chain.from_iterable(reversed(rows) for owners, rows in every if controllers.issuperset(owners))
        return sorted(rows, key=lambda row: row.at, reverse=True)[:ROWS]


def _figures(second: Second, own: set[str]) -> tuple[Instant, int, int, float, float]:
    verdicts: Counter[str] = Counter()
    for (verdict, _, campaign), count in second.counts.items():
        if campaign in own:
            verdicts[verdict] += count
    # The response times are those of all controllers. Without own calls, they would show that another one is calling.
    times = second.response_times if verdicts else ()
    return second.at, verdicts["allow"], verdicts["deny"], quantile(times, 0.5), quantile(times, 0.99)


def add_up(workers: Sequence[Sequence[Second]]) -> list[Second]:
    """Return the totals over all workers for each of the last `SECONDS` seconds.

    With several workers, the newest second is left out because some workers may not have reported it yet.
    """
    if len(workers) == 1:
        return list(workers[0])
    sums: dict[Instant, Second] = {}
    for second in chain.from_iterable(workers):
        begins = second.at - second.at % SECOND
        total = sums.get(begins)
        sums[begins] = (
            Second(begins, second.counts, second.response_times) if total is None else _sum(total, second)
        )
    return [sums[begins] for begins in sorted(sums)[-SECONDS - 1 : -1]]


def _sum(one: Second, other: Second) -> Second:
    counts = Counter(one.counts)
    counts.update(other.counts)
    times = [a + b for a, b in zip(one.response_times, other.response_times, strict=True)]
    return Second(one.at, counts, times)


def _count_reasons(counts: Counts) -> list[tuple[str, int]]:
    codes: Counter[str] = Counter()
    for (_, code, _), count in counts.items():
        if code:
            codes[code] += count
    return codes.most_common()


def _count_campaigns(counts: Counts) -> list[tuple[str, int, int]]:
    every: Counter[str] = Counter()
    denied: Counter[str] = Counter()
    for (verdict, _, campaign), count in counts.items():
        every[campaign] += count
        denied[campaign] += count if verdict == "deny" else 0
    return [(campaign, count - denied[campaign], denied[campaign]) for campaign, count in every.most_common()]


def quantile(counts: Sequence[int], share: float) -> float:
    """Return a quantile in ms, interpolated within its bucket, or -1 if all counts are 0."""
    wanted = sum(counts) * share
    if not wanted:
        return -1.0
    before, low = 0, 0.0
    for count, high in zip(counts, (*Calls.BOUNDS, Calls.BOUNDS[-1]), strict=True):
        if before + count >= wanted:
            return round((low + (high - low) * (wanted - before) / count) * 1000, 3)
        before, low = before + count, high
    return round(low * 1000, 3)
