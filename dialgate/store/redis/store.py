"""The shared store in Redis, and the checks before a gate uses it."""

from collections.abc import Sequence
from typing import Final

from dialgate.core.model import DAY, Instant
from dialgate.store import Generation, StoreUnavailable
from dialgate.store.campaign_counts import oldest_hour
from dialgate.store.documents import (
    CampaignPauses,
    DocumentKind,
    DocumentSwap,
    KeysOfClients,
    OfficerDocuments,
    PersonAccounts,
)
from dialgate.store.redis.attempts import RedisAttempts
from dialgate.store.redis.campaign_counts import RedisCampaignCounts
from dialgate.store.redis.commands import RedisCommands, pairs, texts
from dialgate.store.redis.generations import Generations
from dialgate.store.redis.ledger import RedisLedger
from dialgate.store.redis.membership import RedisMembership
from dialgate.store.redis.results import RedisResults
from dialgate.store.redis.terms import AttemptTerms
from dialgate.store.redis.undo import Undo

LAYOUT: Final = b"3"
_READABLE: Final = (b"2", LAYOUT)  # in layout 2 all attempts are lines (`subject_codec`)
_COUNTS_DROPPED_EVERY: Final = 24  # hours, because it reads all counts


class RedisStore(CampaignPauses, PersonAccounts, KeysOfClients, OfficerDocuments):
    """A store in Redis that several gates share, combined from one part for each topic.

    `patience` limits one round trip, in seconds. A ledger entry is acknowledged once it is on the disks of
    `replicas` replicas. Answers are remembered for `remember` milliseconds.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = "dialgate",
        patience: float = 1.0,
        replicas: int = 0,
        remember: Instant = DAY,
    ) -> None:
        """Parse the options without connecting. Raises `ValueError`."""
        self.commands = commands = RedisCommands(url, name=name, patience=patience, replicas=replicas)
        self.keep_attempts, self.require_seq = commands.keep_attempts, commands.require_seq
        self.claim, self.surplus_replicas = commands.claim, commands.surplus_replicas
        self.close = commands.server.close

        self._generations = generations = Generations(commands)
        terms = AttemptTerms(commands)
        self.undo = undo = Undo(commands, generations, terms, remember)
        self.acknowledge, self.release = generations.acknowledge, undo.release

        self.attempts = attempts = RedisAttempts(commands, generations, terms, undo)
        self.read, self.subjects = attempts.read, attempts.subjects
        self.assume, self.commit = attempts.assume, attempts.commit
        self.note_durable, self.recorded = attempts.note_durable, attempts.recorded
        self.positions = attempts.positions

        self.results = results = RedisResults(commands, generations, terms, undo, attempts)
        self.attempt, self.result = results.attempt, results.result
        self.settle, self.drop_attempts = results.settle, results.drop_attempts
        self.counted_attempts = results.counted_attempts
        self.remembered_answers = attempts.remembered_answers

        self.ledger = ledger = RedisLedger(commands)
        self.append, self.remove, self.since = ledger.append, ledger.remove, ledger.since
        self.history, self.histories = ledger.history, ledger.histories

        self._counts = counts = RedisCampaignCounts(commands)
        self._counts_from = 0  # the hour before which counts were last deleted
        self.counts, self.put_counts = counts.counts, counts.put_counts

        members = RedisMembership(commands, generations)
        self.members, self.dismiss, self.forget = members.members, members.dismiss, members.forget
        self.lead, self.share_second, self.shared_seconds = (
            members.lead,
            members.share_second,
            members.shared_seconds,
        )

    @property
    def generation(self) -> Generation:
        return self._generations.current

    async def _documents(self, kind: DocumentKind) -> dict[str, bytes]:
        documents = pairs(await self.commands.run("HGETALL", self.commands.key(kind)))
        return {key.decode(): body for key, body in documents.items()}

    async def _document(self, kind: DocumentKind, key: str) -> bytes | None:
        body: bytes | None = await self.commands.run("HGET", self.commands.key(kind), key)
        return body

    async def _swap_documents(self, kind: DocumentKind, swaps: Sequence[DocumentSwap]) -> bool:
        values = [value for key, before, after in swaps for value in (key, before or b"", after)]
        return bool(await self.commands.script("documents", [self.commands.key(kind)], values))

    async def _put_document(self, kind: DocumentKind, key: str, body: bytes) -> None:
        await self.commands.run("HSET", self.commands.key(kind), key, body)

    async def refuse_unless_safe(self) -> None:
        """Raise `StoreUnavailable` if the server could lose acknowledged writes.

        The message says what to change.
        """
        required = {
            "appendonly": ("yes",),
            "appendfsync": ("everysec", "always"),
            "maxmemory-policy": ("noeviction",),
        }
        settings = texts(await self.commands.run("CONFIG", "GET", *required))
        for name, good in required.items():
            if settings.get(name) not in good:
                raise StoreUnavailable(
                    f"Redis: `{name}` is {settings.get(name)!r}; set it to {' or '.join(f'`{value}`' for value in good)}"
                )
        if await self.commands.run("GET", self.commands.key("copying")) is not None:
            raise StoreUnavailable(
                "Redis: an import into the store was interrupted: use another `name`, and import again"
            )
        await self._refuse_another_layout()
        if await self.surplus_replicas():
            raise StoreUnavailable(
                "Redis: `replicas` is lower than the number of replicas that can become master, so an"
                f" acknowledged entry could be lost: set `replicas` to {self.commands.replicas}"
            )
        try:
            await self.append([])
        except StoreUnavailable as fault:
            if "unknown command" not in str(fault):
                raise
            raise StoreUnavailable(
                "Redis: this server has no WAITAOF: use Redis 7.2 or newer, or Valkey"
            ) from fault

    async def _refuse_another_layout(self) -> None:
        """Raise `StoreUnavailable` if the keys have a layout that this version cannot read.

        With another layout, this version would not find the stored subjects and could not remove stored attempts.
        """
        commands, of_layout = self.commands, self.commands.of_layout
        if await commands.run("GET", of_layout) is None and not [
            keys async for keys in commands.scan("", 1_000)
        ]:
            await commands.run("SET", of_layout, LAYOUT, "NX")
        if await commands.run("GET", of_layout) in _READABLE:
            # From now on, earlier versions refuse to start on this store.
            await commands.run("SET", of_layout, LAYOUT)
        else:
            raise StoreUnavailable(
                "Redis: another version of dialgate wrote this store. With that version, export it (`dialgate ledger export`; version"
                " 0.2: `dialgate store copy` to `sqlite://…`). With this version, import it into a store with a different `name`"
            )

    async def begin_import(self) -> None:
        mark = ("SET", self.commands.key("copying"), b"1")
        await self.commands.together([mark, ("DEL", self.commands.of_keys)])

    async def end_import(self) -> None:
        await self.commands.run("DEL", self.commands.key("copying"))

    async def ping(self) -> int:
        self.undo.refuse_if_log_is_shared()
        newest = await self._generations.ping()
        if self.attempts.own:  # other users of the store may enter stops meanwhile
            self._generations.refuse_if_waiting()
        return newest

    async def maintain(self, before: Instant) -> None:
        self.attempts.forget_answers(before)
        if oldest_hour(before) >= self._counts_from + _COUNTS_DROPPED_EVERY:
            self._counts_from = oldest_hour(before)
            await self._counts.drop_counts(self._counts_from)
