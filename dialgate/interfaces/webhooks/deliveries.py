"""Delivery of revocations to webhooks, in ledger order, with retries.

The store holds the position of each webhook in the ledger, so a restart loses nothing. A message may be delivered
twice, with the same id. If a message cannot be delivered within the configured time, the delivery is abandoned and
counted. The revocations in the message can still be read from the stream.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import aiohttp
import msgspec
import structlog
from msgspec import Struct, structs

from dialgate.app import App
from dialgate.config import webhook_targets
from dialgate.config.webhook_targets import Hook
from dialgate.core.faults import Unavailable
from dialgate.core.model import HOUR, SECOND, Instant
from dialgate.ledger import dialer_dnc
from dialgate.ledger.suppression_feed import Notice, Notices, behind, failing
from dialgate.store import Delivery

_AT_ONCE: Final = 100  # maximum number of ledger entries in a message
_LOOK_SECONDS: Final = 1.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
_LONGEST_WAIT: Final = 300.0
_RESPONSE_BYTES: Final = 4_096  # bytes read from a dialer's response
_log = structlog.get_logger(__name__)


class Message(Struct, frozen=True):
    """The JSON body of a message."""

    revocations: list[Notice]


async def run(app: App, clock: Callable[[], Instant]) -> None:
    """Deliver until cancelled. Deliveries restart after a configuration change or an unexpected error."""
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        while True:
            tasks = [asyncio.create_task(_wait_for_change(app))]
            tasks += [
                asyncio.create_task(_Deliverer(app, hook, session, clock).run()) for hook in app.config.hooks
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
    """Delivery to one webhook. If gates share a store, only the leader delivers."""

    def __init__(
        self, app: App, hook: Hook, session: aiohttp.ClientSession, clock: Callable[[], Instant]
    ) -> None:
        self._app, self._hook, self._session, self._clock = app, hook, session, clock
        self._state: Delivery | None = None
        self._notices: Notices = app.registrar.notices
        self._name = hook.settings.name

    async def run(self) -> None:
        while True:
            try:
                if not await self._app.roster.leads(f"webhook:{self._name}"):
                    self._state = None  # another gate delivers, and may hand over later
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
        batch, reached = await self._notices.after(state.seq, self._hook.settings.controllers, _AT_ONCE)
        if not batch:
            # The position is not stored: reading these entries again after a restart is cheaper than a write.
            self._state = structs.replace(state, seq=reached)
            if reached == state.seq:
                await self._notices.wait(_LOOK_SECONDS, written)
            return
        problem = await self._deliver(batch)
        metrics.webhook_messages.labels(self._name, "failed" if problem else "delivered").inc()
        if problem:
            await self._failed(state, reached, problem)
        else:
            await self._keep(structs.replace(state, seq=reached, tries=0, failing_since=0))

    async def _keep(self, state: Delivery) -> None:
        await self._notices.delivered(state)
        self._state = state

    async def _deliver(self, batch: list[Notice]) -> str:
        """Deliver a batch. Return the problem, or an empty string."""
        try:
            if self._hook.settings.kind == "webhook":
                return await self._post(batch)
            for notice in batch:
                problem = await self._add(notice) if notice.kind == "revoked" else ""
                if problem:
                    return problem
        except (aiohttp.ClientError, TimeoutError) as error:
            return type(error).__name__
        return ""

    async def _add(self, notice: Notice) -> str:
        settings = self._hook.settings
        form = dialer_dnc.form(self._hook, notice.number, notice.campaign)
        async with self._session.post(settings.url, data=form, allow_redirects=False) as response:
            text = (await response.content.read(_RESPONSE_BYTES)).decode(errors="replace")
            return dialer_dnc.problem(settings.kind, response.status, text)

    async def _post(self, batch: list[Notice]) -> str:
        batch = list(map(self._app.registrar.ids.with_entry_ids, batch))
        body = msgspec.json.encode(Message(batch))
        name = f"{self._name}-{batch[0].seq}-{batch[-1].seq}"
        signed = webhook_targets.headers(self._hook.secret, name, self._clock() // SECOND, body)
        headers = {"Content-Type": "application/json", **signed}
        async with self._session.post(
            self._hook.settings.url, data=body, headers=headers, allow_redirects=False
        ) as response:
            is_accepted = HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES
            return "" if is_accepted else f"it responded with status {response.status}"

    async def _failed(self, state: Delivery, reached: int, problem: str) -> None:
        now = self._clock()
        state = structs.replace(state, tries=state.tries + 1, failing_since=state.failing_since or now)
        if failing(state, now) >= self._hook.settings.give_up_hours * HOUR:
            _log.error("webhook gave up", webhook=self._name, problem=problem, after=state.seq, up_to=reached)
            dead = state.dead + 1
            await self._keep(Delivery(webhook=self._name, seq=reached, dead=dead, dead_after=state.seq))
            return
        _log.warning("webhook failed", webhook=self._name, problem=problem, tries=state.tries)
        await self._keep(state)
        await asyncio.sleep(min(_LONGEST_WAIT, self._hook.settings.retry_seconds * 2 ** (state.tries - 1)))
