"""Delivery of revocations and other changes to subscribers, in ledger order, with retries.

The store holds the position of each subscriber in the ledger, so a restart loses nothing. A message may be delivered
twice, with the same id. If a message cannot be delivered within the configured time, the delivery is abandoned and
counted. The revocations in the message can still be read from the stream.

A dialer gets one number in a message. If it rejects a number, later numbers are sent meanwhile. Many rejections mean
that the dialer rejects every number, for example because of a changed password, so delivery then stops.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Final, NamedTuple, TypeAlias

import aiohttp
import msgspec
import structlog
from msgspec import Struct, structs

from dialgate.app import App
from dialgate.config import webhook_targets
from dialgate.config.webhook_targets import SubscriberAccess
from dialgate.core.faults import Unavailable
from dialgate.core.model import DAY, HOUR, SECOND, Instant
from dialgate.ledger import dialer_dnc
from dialgate.ledger.change_events import ChangeEvent, ChangeFeed
from dialgate.ledger.judge import AnswersUnusable
from dialgate.ledger.suppression_feed import Notice, Notices, behind, failing
from dialgate.lists.number_set import DamagedFile
from dialgate.store import Delivery, Rejection

_AT_ONCE: Final = 100  # maximum number of ledger entries in a message
_MOST_REJECTED: Final = 100
_LOOK_SECONDS: Final = 1.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
_LONGEST_WAIT: Final = 300.0
_RESPONSE_BYTES: Final = 4_096  # bytes read from a dialer's response
_log = structlog.get_logger(__name__)


class DeliveryMessage(Struct, frozen=True):
    """The JSON body of a message."""

    revocations: list[Notice]


class EventMessage(Struct, frozen=True):
    """The JSON body of a message to a subscriber with `events`."""

    events: list[ChangeEvent]


_Batch: TypeAlias = list[Notice] | list[ChangeEvent]


class _Problem(NamedTuple):
    text: str
    is_rejection: bool = False  # the dialer works, but did not add this number


async def run(app: App, clock: Callable[[], Instant]) -> None:
    """Deliver until cancelled. Deliveries restart after a configuration change or an unexpected error."""
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        while True:
            tasks = [asyncio.create_task(_wait_for_change(app))]
            tasks += [
                asyncio.create_task(_Deliverer(app, subscriber, session, clock).run())
                for subscriber in app.config.subscribers
            ]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            for task in done:
                if task.exception() is not None:
                    _log.error("webhooks failed", exc_info=task.exception())
                    await asyncio.sleep(_LOOK_SECONDS)


async def _wait_for_change(app: App) -> None:
    config = app.config
    while app.config is config:
        await app.registrar.notices.wait(_LOOK_SECONDS)


class _Deliverer:
    """Delivery to one subscriber. If gates share a store, only the leader delivers."""

    def __init__(
        self,
        app: App,
        subscriber: SubscriberAccess,
        session: aiohttp.ClientSession,
        clock: Callable[[], Instant],
    ) -> None:
        self._app, self._subscriber, self._session, self._clock = app, subscriber, session, clock
        self._state: Delivery | None = None
        self._notices: Notices = app.registrar.notices
        self._changes = ChangeFeed(app.registrar.access.store, app.registrar.access.keys)
        self._sweeping: AsyncIterator[tuple[str, list[ChangeEvent]]] | None = None
        self._name = subscriber.settings.name
        # Of rejected numbers for a dialer, of `_sweep` for a webhook.
        self._retries = 0
        self._retry_at = 0.0  # in the event loop's time

    async def run(self) -> None:
        while True:
            try:
                if not await self._app.roster.leads(f"webhook:{self._name}"):
                    self._state = self._sweeping = None  # another gate delivers, and may hand over later
                    await self._notices.wait(_LOOK_SECONDS)
                    continue
                await self._round(self._state or await self._notices.delivery(self._name))
            except Unavailable as fault:
                _log.warning("webhook waits", webhook=self._name, problem=str(fault))
                await self._notices.wait(_LOOK_SECONDS)

    async def _round(self, state: Delivery) -> None:
        metrics, written = self._app.metrics, self._notices.written
        metrics.webhook_behind.labels(self._name).set(behind(state, await self._notices.head()))
        metrics.webhook_dead.labels(self._name).set(state.dead)
        if state.rejected and asyncio.get_running_loop().time() >= self._retry_at:
            state = await self._retry_rejected(state)
        batch, reached = await self._next_batch(state)
        if not batch:
            # The position is not stored: reading these entries again after a restart is cheaper than a write.
            self._state = structs.replace(state, seq=reached)
            if reached == state.seq and not await self._sweep():
                await self._notices.wait(_LOOK_SECONDS, written)
            return
        problem = await self._deliver(batch)
        metrics.webhook_messages.labels(self._name, "failed" if problem else "delivered").inc()
        if problem and problem.is_rejection and len(state.rejected) < _MOST_REJECTED:
            _log.warning("dialer rejected a number", webhook=self._name, problem=problem.text, seq=reached)
            self._retries = 0
            self._retry_at = asyncio.get_running_loop().time() + self._delay(0)
            state = structs.replace(state, rejected=(*state.rejected, Rejection(reached, self._clock())))
        elif problem:
            await self._failed(state, reached, problem.text)
            return
        await self._keep(structs.replace(state, seq=reached, tries=0, failing_since=0))

    async def _next_batch(self, state: Delivery) -> tuple[_Batch, int]:
        """Return what comes next in the ledger, and the sequence number up to which it was read."""
        settings = self._subscriber.settings
        if settings.events:
            return await self._changes.after(state.seq, settings.controllers, settings.events, _AT_ONCE)
        batch, reached = await self._notices.after(state.seq, settings.controllers, _AT_ONCE)
        if batch and settings.kind != "webhook":
            batch, reached = batch[:1], batch[0].seq
        return batch, reached

    async def _sweep(self) -> bool:
        """Send one message with changes that no ledger entry shows. Return whether there was one.

        Ledger entries are sent in between. After a failure, all these changes are sent again, with the same ids.
        """
        clock = asyncio.get_running_loop().time
        if clock() < self._retry_at:
            return False
        self._sweeping = self._sweeping or self._swept()
        problem = None
        try:
            name, changes = await anext(self._sweeping)
            problem = await self._send(name, EventMessage(changes))
        except StopAsyncIteration:
            self._sweeping, self._retries = None, 0
            return False
        except (aiohttp.ClientError, TimeoutError, AnswersUnusable, DamagedFile, ValueError) as error:
            problem = _Problem(type(error).__name__)  # a ValueError: the snapshot was replaced and closed
        self._app.metrics.webhook_messages.labels(self._name, "failed" if problem else "delivered").inc()
        if problem:
            _log.warning("webhook failed", webhook=self._name, problem=problem.text)
            self._sweeping, self._retry_at = None, clock() + self._delay(self._retries)
            self._retries += 1
        return problem is None

    async def _swept(self) -> AsyncIterator[tuple[str, list[ChangeEvent]]]:
        """Yield each message with its id, and keep the position once the last one of its kind was delivered."""
        settings, now, snapshot = self._subscriber.settings, self._clock(), self._app.gate.snapshot
        state = self._state or await self._notices.delivery(self._name)
        if "consent_expired" in settings.events and now - state.expired_until >= DAY:
            begin, at = state.expired_until or now, 0  # a new subscriber gets those from now on
            async for changes in self._changes.expired(settings.controllers, begin, now):
                at += 1
                yield f"{self._name}-expired-{begin}-{at}", changes
            await self._keep(structs.replace(self._state or state, expired_until=now))
        if "listed" in settings.events and snapshot and snapshot.published_at > state.listed_until:
            since, at = state.listed_until or snapshot.published_at, 0
            folder = self._app.config.data / "lists"
            async for changes in self._changes.listed(settings.controllers, snapshot, since, folder):
                at += 1
                yield f"{self._name}-listed-{snapshot.version}-{at}", changes
            await self._keep(structs.replace(self._state or state, listed_until=snapshot.published_at))

    async def _retry_rejected(self, state: Delivery) -> Delivery:
        """Send rejected numbers again, and give up those that have been rejected for the configured time."""
        kept, now = list(state.rejected), self._clock()
        for rejection in state.rejected:
            after = rejection.seq - 1
            batch, _ = await self._notices.after(after, self._subscriber.settings.controllers, 1)
            is_there = bool(batch) and batch[0].seq == rejection.seq
            problem = await self._deliver(batch) if is_there else None
            if problem and now - rejection.since < self._subscriber.settings.give_up_hours * HOUR:
                if problem.is_rejection:
                    continue
                break  # the dialer does not respond
            kept.remove(rejection)
            if problem:
                _log.error("webhook gave up", webhook=self._name, problem=problem.text, seq=rejection.seq)
                state = structs.replace(state, dead=state.dead + 1, dead_after=after)
        self._retries += 1
        self._retry_at = asyncio.get_running_loop().time() + self._delay(self._retries)
        state = structs.replace(state, rejected=tuple(kept))
        await self._keep(state)
        return state

    def _delay(self, retries: int) -> float:
        return min(_LONGEST_WAIT, self._subscriber.settings.retry_seconds * 2.0 ** min(retries, 30))

    async def _keep(self, state: Delivery) -> None:
        await self._notices.delivered(state)
        self._state = state

    async def _deliver(self, batch: _Batch) -> _Problem | None:
        try:
            if self._subscriber.settings.kind == "webhook":
                return await self._post(batch)
            (notice,) = batch
            is_stop = isinstance(notice, Notice) and notice.kind == "revoked"
            return await self._add(notice.number, notice.campaign) if is_stop else None
        except (aiohttp.ClientError, TimeoutError) as error:
            return _Problem(type(error).__name__)

    async def _add(self, number: str, campaign: str) -> _Problem | None:
        settings = self._subscriber.settings
        form = dialer_dnc.form(self._subscriber, number, campaign)
        async with self._session.post(settings.url, data=form, allow_redirects=False) as response:
            text = (await response.content.read(_RESPONSE_BYTES)).decode(errors="replace")
            if response.status != HTTPStatus.OK:
                return _Problem(f"the dialer returned status {response.status}")
            problem = dialer_dnc.problem(settings.kind, text)
            return _Problem(problem, is_rejection=True) if problem else None

    async def _post(self, batch: _Batch) -> _Problem | None:
        with_ids = self._app.registrar.ids.with_entry_ids
        notices = [with_ids(item) for item in batch if isinstance(item, Notice)]
        changes = [with_ids(item) for item in batch if isinstance(item, ChangeEvent)]
        ends = changes or notices
        message = EventMessage(changes) if changes else DeliveryMessage(notices)
        return await self._send(f"{self._name}-{ends[0].seq}-{ends[-1].seq}", message)

    async def _send(self, name: str, message: DeliveryMessage | EventMessage) -> _Problem | None:
        body = msgspec.json.encode(message)
        signed = webhook_targets.headers(self._subscriber.secret, name, self._clock() // SECOND, body)
        headers = {"Content-Type": "application/json", **signed}
        async with self._session.post(
            self._subscriber.settings.url, data=body, headers=headers, allow_redirects=False
        ) as response:
            is_accepted = HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES
            return None if is_accepted else _Problem(f"it responded with status {response.status}")

    async def _failed(self, state: Delivery, reached: int, problem: str) -> None:
        now = self._clock()
        state = structs.replace(state, tries=state.tries + 1, failing_since=state.failing_since or now)
        if failing(state, now) >= self._subscriber.settings.give_up_hours * HOUR:
            _log.error("webhook gave up", webhook=self._name, problem=problem, after=state.seq, up_to=reached)
            dead = state.dead + 1
            fresh = structs.replace(state, seq=reached, tries=0, failing_since=0)
            await self._keep(structs.replace(fresh, dead=dead, dead_after=state.seq))
            return
        _log.warning("webhook failed", webhook=self._name, problem=problem, tries=state.tries)
        await self._keep(state)
        await asyncio.sleep(self._delay(state.tries - 1))
