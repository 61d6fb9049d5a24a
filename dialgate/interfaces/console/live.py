"""The data for the live board: one sample of the gate per second, and one encoded message per set of controllers.

All boards for the same controllers get the same message, and the boards add no work to the call path. A sample compares
two copies of the counters and reads the last few calls of the newest batches, so a board does not list every decision
of a busy second. On a shared store, each gate stores its sample of each second there. The gate that serves a board reads the
other gates' samples and shows the totals, one second late.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import chain
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct, structs

from dialgate.app import App
from dialgate.config.clients import Scope
from dialgate.core.decision_ids import owner_of
from dialgate.core.faults import Unavailable
from dialgate.core.model import SECOND, Instant
from dialgate.core.responses import Answer
from dialgate.crypto.masking import mask_number
from dialgate.gate.admission_queue import QueuedCall
from dialgate.gate.batch import REPEATED
from dialgate.interfaces.console.campaign_day import HourlyDecisions
from dialgate.interfaces.status import ControllerStatus, read_status, tasks_for
from dialgate.observability.metrics import Calls

SECONDS: Final = 300
ROWS: Final = 14
STANDING_SECONDS: Final = 5
_HALF: Final = SECOND // 2
_REPEATED: Final = 3  # seconds in each message, because data from another gate may arrive late
_OTHER: Final = "other"

View: TypeAlias = tuple[str, ...]
Counts: TypeAlias = Counter[tuple[str, str, str]]
_encode: Final = msgspec.json.Encoder().encode
_pack: Final = msgspec.msgpack.Encoder().encode


class BoardRow(Struct, frozen=True, kw_only=True):
    """A decision on the board. `caller_id` and `campaign` are empty if the campaign does not belong to the client."""

    id: str
    at: Instant
    allow: bool
    to: str
    caller_id: str
    campaign: str
    code: str
    client: str
    shadow: bool = False  # only shadow mode permitted the call


class Second(Struct, frozen=True):
    """The decisions made in one second.

    `counts` are keyed by verdict, first reason and campaign. `response_times` counts the responses in each bucket of
    `Calls.BOUNDS`.
    """

    at: Instant
    counts: dict[tuple[str, str, str], int]
    response_times: list[int]


Rows: TypeAlias = dict[
    View, list[BoardRow]
]  # by the controllers that a board must cover to show them; newest last


class BoardShare(Struct, frozen=True):
    """What one gate did in a second, as the boards of other gates read it."""

    second: Second
    rows: Rows
    problems: dict[str, str]


_share_decoder: Final = msgspec.msgpack.Decoder(BoardShare)


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
    rows: list[BoardRow]
    standing: ControllerStatus


class Live:
    """The sampler for the live board. `run` samples until it is cancelled."""

    def __init__(self, app: App) -> None:
        self.closing = False
        self._app = app
        self._decisions, self._response_times = app.metrics.calls.tally()
        self.hourly = HourlyDecisions(app.gate.now())
        self._seconds: deque[Second] = deque(maxlen=SECONDS)
        self._rows: dict[View, deque[BoardRow]] = {}
        self._others: dict[Instant, dict[str, BoardShare]] = {}  # by second and node
        self._total: list[Second] = []
        self._ticked = asyncio.Event()
        self._watched: Counter[View] = Counter()
        self._standing: dict[View, ControllerStatus] = {}
        self._messages: dict[tuple[View, tuple[Scope, ...]], bytes] = {}
        self._ticks = 0

    async def run(self) -> None:
        """Take a sample in the middle of each second, so that all gates sample the same seconds."""
        while True:
            await asyncio.sleep((_HALF - self._app.gate.now() % SECOND) % SECOND / SECOND or 1)
            await self.tick()

    async def tick(self) -> None:
        """Take one sample and wake the boards."""
        share = self._sample(self._app.gate.now())
        await self._publish(share)
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

    def first(self, view: View, scopes: tuple[Scope, ...]) -> bytes:
        """Return a board's first message, with data for the last `SECONDS` seconds."""
        return _encode(self._message(view, scopes, self._total))

    def message(self, view: View, scopes: tuple[Scope, ...]) -> bytes:
        """Return the current message, encoded once per second for all boards that show a view to clients with these scopes."""
        if (view, scopes) not in self._messages:
            message = self._message(view, scopes, self._total[-_REPEATED:])
            self._messages[view, scopes] = _encode(message)
        return self._messages[view, scopes]

    async def _look_up(self, view: View) -> None:
        try:
            self._standing[view] = await read_status(self._app, view)
        except Unavailable:  # readiness reports it; the board keeps the last status
            self._standing.setdefault(view, ControllerStatus())

    # ---- sampling ----------------------------------------------------------------------------------------------------

    def _sample(self, now: Instant) -> BoardShare:
        decisions, response_times = self._app.metrics.calls.tally()
        counts: Counts = Counter()
        for (verdict, code, campaign, _), count in (decisions - self._decisions).items():
            counts[verdict, code, campaign] += count
        grown = [after - before for after, before in zip(response_times, self._response_times, strict=True)]
        second = Second(now, counts, grown)
        self.hourly.add(now, counts)
        self._seconds.append(second)
        self._decisions, self._response_times = decisions, response_times
        return BoardShare(second, self._take_rows(), self._app.gate.readiness())

    def _take_rows(self) -> Rows:
        """Return the rows of the newest decisions since the last call, and keep them for this gate's boards."""
        batches = list(self._app.gate.recent)
        self._app.gate.recent.clear()
        rows: Rows = {}
        for at, batch, answers, codes in batches:
            for request, answer, code in zip(batch, answers, codes, strict=True):
                if code != REPEATED:
                    owners, row = self._row(request, answer, code, at)
                    rows.setdefault(owners, []).append(row)
        for owners, newest in rows.items():
            self._rows.setdefault(owners, deque(maxlen=ROWS)).extend(newest)
        return {owners: newest[-ROWS:] for owners, newest in rows.items()}

    def _row(self, request: QueuedCall, answer: Answer, code: str, at: Instant) -> tuple[View, BoardRow]:
        """Return a row for the boards that cover the campaign's controller, and that controller.

        If the campaign does not belong to the client, a board shows the row only if the board covers all of the
        client's controllers.
        """
        line = self._app.config.line_of(request.call.campaign, request.client)
        owner = owner_of(line.controller.id if line else "", request.client.name)
        shown = answer.from_ or request.call.from_
        row = BoardRow(
            id=self._app.registrar.ids.outside(answer.decision_id, owner),
            at=at,
            allow=not code or answer.would == "deny",
            to=mask_number(answer.to),
            caller_id=shown if line and shown in line.caller_ids else "",
            campaign=request.call.campaign if line else "",
            code=code,
            client=request.client.name,
            shadow=answer.would == "deny",
        )
        owners = (line.controller.id,) if line else request.client.controllers
        return owners, row

    # ---- other gates -------------------------------------------------------------------------------------------------

    async def _publish(self, share: BoardShare) -> None:
        """Store this gate's second for the boards of the other gates, unless nothing happened."""
        store = self._app.shared
        if store is not None and (share.second.counts or share.rows or share.problems):
            with suppress(Unavailable):  # readiness reports it
                await store.share_second(
                    _begin(share.second.at), self._app.config.settings.node, _pack(share)
                )

    async def _fetch(self) -> None:
        """Read what the other gates did since the last reading, and add everything up."""
        store = self._app.shared
        if store is None:
            self._total = list(self._seconds)
            return
        now = _begin(self._app.gate.now())
        oldest = now - SECONDS * SECOND
        self._others = {second: shares for second, shares in self._others.items() if second >= oldest}
        newest = max(self._others, default=oldest)
        seconds = range(max(oldest, newest - _REPEATED * SECOND), now + SECOND, SECOND)
        with suppress(Unavailable, msgspec.DecodeError):  # a gate of another version stores another form
            for second, shares in zip(seconds, await store.shared_seconds(seconds), strict=True):
                shares.pop(self._app.config.settings.node, None)
                self._others[second] = {node: _share_decoder.decode(share) for node, share in shares.items()}
        others = (share.second for shares in self._others.values() for share in shares.values())
        self._total = add_up(chain(self._seconds, others))

    def _problems(self) -> dict[str, str]:
        """Return the problems of all gates. The keys for other gates contain the node's name."""
        recent = sorted(self._others)[-_REPEATED:]
        newest = {node: share.problems for second in recent for node, share in self._others[second].items()}
        others = {f"{name} ({node})": text for node, texts in newest.items() for name, text in texts.items()}
        return self._app.gate.readiness() | others

    # ---- messages ----------------------------------------------------------------------------------------------------

    def _message(self, view: View, scopes: tuple[Scope, ...], seconds: Sequence[Second]) -> Message:
        config, problems = self._app.config, self._problems()
        own = {name for name, line in config.lines.items() if line.controller.id in view}
        if config.controllers.keys() <= set(view):
            own.add(_OTHER)
        else:  # the texts can name files, and so other controllers
            problems = {name.partition(" ")[0]: "" for name in problems}
        counts: Counts = Counter()
        for second in self._total:
            counts.update({key: count for key, count in second.counts.items() if key[2] in own})
        standing = self._standing.get(view) or ControllerStatus()
        return Message(
            at=seconds[-1].at if seconds else self._app.gate.now(),
            ready=not problems,
            problems=problems,
            seconds=[_figures(second, own) for second in seconds],
            reasons=_count_reasons(counts),
            campaigns=_count_campaigns(counts),
            rows=self._select_rows(view),
            standing=structs.replace(standing, tasks=tuple(tasks_for(standing.tasks, scopes))),
        )

    def _select_rows(self, view: View) -> list[BoardRow]:
        controllers = set(view)
        shares = chain.from_iterable(shares.values() for shares in self._others.values())
        every = chain(self._rows.items(), *(share.rows.items() for share in shares))
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


def add_up(seconds: Iterable[Second]) -> list[Second]:
    """Return the totals over all gates for each of the last `SECONDS` seconds.

    The newest second is left out because some gates may not have stored theirs yet.
    """
    sums: dict[Instant, Second] = {}
    for second in seconds:
        begins = _begin(second.at)
        total = sums.get(begins)
        sums[begins] = (
            Second(begins, second.counts, second.response_times) if total is None else _sum(total, second)
        )
    return [sums[begins] for begins in sorted(sums)[-SECONDS - 1 : -1]]


def _begin(at: Instant) -> Instant:
    return at - at % SECOND


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
