"""The shared store as source or target of a copy.

The key `{NAME}:copying` marks an incomplete copy, which no gate opens.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

from dialgate.core.decision_ids import log_of
from dialgate.core.ledger_events import Entry
from dialgate.store import (
    AttemptPosition,
    CallerIdProof,
    CallList,
    Delivery,
    HourCount,
    PauseLift,
    Remembered,
    StoreUnavailable,
)
from dialgate.store.copying import CopyRefused, CountedAttempt, Kind, Row
from dialgate.store.redis import sequence_index, subject_codec
from dialgate.store.redis.answers import recalled, seq_of, stored
from dialgate.store.redis.campaign_counts import count_pair
from dialgate.store.redis.commands import encoded
from dialgate.store.redis.ledger import PLACES, SUBJECT_BYTES
from dialgate.store.redis.store import LAYOUT, RedisStore

_AT_ONCE: Final = 1_000
_SILENT: Final = 15_000  # milliseconds


class RedisEnd:
    """A shared store as source or target of a copy.

    `now` is the current time. A gate is considered running if it was seen shortly before `now`.
    """

    def __init__(self, store: RedisStore, now: int) -> None:
        self._store, self._now = store, now

    async def newest(self) -> int:
        return int(await self._store.commands.run("GET", self._store.commands.key("seq")) or 0)

    async def count(self) -> int:
        return await self.newest()

    async def rows(self, kind: Kind, after: int = 0) -> AsyncGenerator[list[Row], None]:
        if kind == "ledger":
            while entries := await self._store.since(after, _AT_ONCE):
                after = entries[-1].seq
                yield list(entries)
        elif kind == "attempts":
            async for keys in self._store.commands.scan("s:", _AT_ONCE):
                yield await self._attempts(keys)
        elif kind == "answers":
            async for keys in self._store.commands.scan("q:", _AT_ONCE):
                yield await self._answers(keys)
        else:
            yield list(await self._few(kind))

    async def _few(self, kind: Kind) -> Sequence[Row]:
        if kind == "positions":
            positions = await self._store.positions()
            return [
                AttemptPosition(log, seq, durable=await self._store.recorded(log))
                for log, seq in positions.items()
            ]
        if kind == "lists":
            return await self._store.lists()
        if kind == "counts":
            return (await self._store.counts())[0]
        if kind == "lifts":
            return await self._store.pause_lifts()
        return await (self._store.proofs() if kind == "proofs" else self._store.deliveries())

    async def _attempts(self, keys: list[bytes]) -> list[Row]:
        prefix = len(self._store.commands.key("s:"))
        return [
            CountedAttempt(key[prefix:], attempt, at)
            for key, value in zip(keys, await self._store.commands.run("MGET", *keys), strict=True)
            if value
            for attempt, at in subject_codec.attempts(value)
        ]

    async def _answers(self, keys: list[bytes]) -> list[Row]:
        prefix = len(self._store.commands.key("q:"))
        values = await self._store.commands.run("MGET", *keys)
        return [recalled(key[prefix:], value) for key, value in zip(keys, values, strict=True) if value]

    async def begin(self) -> None:
        present = (await self._store.members()).present
        if any(self._now - presence.at < _SILENT for presence in present):
            raise CopyRefused("a gate has the target open: stop the gate, or use a different target")
        mark = self._store.commands.key("copying")
        if await self._store.commands.run("GET", mark) is None and (
            await self.newest() or await self._holds_attempts()
        ):
            raise CopyRefused("the target is in use: use an empty store (`?name=…`)")
        # The empty store may have been claimed with keys other than the ones used for the copied data.
        await self._store.commands.together(
            [
                ("SET", mark, b"1"),
                ("SET", self._store.commands.of_layout, LAYOUT),
                ("DEL", self._store.commands.key("keys")),
            ]
        )

    async def _holds_attempts(self) -> bool:
        async for _ in self._store.commands.scan("s:", _AT_ONCE):
            return True
        return False

    async def write(self, kind: Kind, rows: Sequence[Row]) -> None:
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            if kind == "ledger":
                await self._restore([row for row in some if isinstance(row, Entry)])
            elif kind == "attempts":
                await self._recount([row for row in some if isinstance(row, CountedAttempt)])
            else:
                await self._store.commands.together([self._command(row) for row in some])
                for row in some:
                    if isinstance(row, AttemptPosition):
                        await self._store.note_durable(row.log, row.durable)

    async def _restore(self, rows: Sequence[Entry]) -> None:
        """Write entries, except those that an interrupted copy has already written."""
        key = self._store.commands.key
        current = await self._current_values([row.subject for row in rows])
        new = dict(current)
        for row in rows:
            subject = key("s:", row.subject)
            line = subject_codec.entry_line(row, row.seq)
            new[subject] += b"" if line in new[subject] else line
        await self._swap(current, new)
        order: list[tuple[Any, ...]] = []
        for row in rows:
            chunk, at = divmod(row.seq - 1, PLACES)
            order.append(("SETRANGE", key("o:", b"%d" % chunk), at * SUBJECT_BYTES, row.subject))
        await self._store.commands.together([*order, ("SET", key("seq"), rows[-1].seq)])

    async def _recount(self, rows: Sequence[CountedAttempt]) -> None:
        key = self._store.commands.key
        current = await self._current_values([row.subject for row in rows])
        new = dict(current)
        names: list[tuple[Any, ...]] = []
        for row in rows:
            subject, decision = key("s:", row.subject), row.attempt.decision
            lines = subject_codec.attempt_line(row.attempt)
            if row.attempt.result != "pending":
                lines += subject_codec.result_line(decision, row.attempt.result, row.result_at)
            new[subject] = subject_codec.without_attempts(new[subject], {decision}) + lines
            seq = seq_of(decision)
            chunk = self._store.results.of_attempt(log_of(decision), seq)
            names.append(("SETRANGE", chunk, sequence_index.place(seq), row.subject))
            names.append(("PEXPIRE", chunk, self._store.commands.attempts_kept))
        await self._swap(current, new)
        await self._store.commands.together(names)

    async def _current_values(self, subjects: Sequence[bytes]) -> dict[bytes, bytes]:
        keys = [self._store.commands.key("s:", subject) for subject in dict.fromkeys(subjects)]
        values = await self._store.commands.run("MGET", *keys)
        return {key: value or b"" for key, value in zip(keys, values, strict=True)}

    async def _swap(self, current: dict[bytes, bytes], new: dict[bytes, bytes]) -> None:
        swaps = [(key, old, new[key]) for key, old in current.items() if new[key] != old]
        if not await self._store.undo.swap(swaps):
            raise StoreUnavailable(
                "Redis: another program is writing to the target; stop that program and copy again"
            )

    def _command(self, row: Row) -> tuple[Any, ...]:
        key = self._store.commands.key
        match row:
            case Remembered():
                return ("SET", key("q:", row.key), stored(row), "PX", self._store.undo.remembers)
            case AttemptPosition():
                return ("HSET", key("positions"), row.log, row.seq)
            case CallList():
                return ("HSET", key("lists"), f"{row.controller}\0{row.id}", encoded(row))
            case CallerIdProof():
                return ("HSET", key("proofs"), f"{row.controller}\0{row.caller_id}", encoded(row))
            case HourCount():
                return ("HSET", self._store.commands.of_counts, *count_pair(row))
            case PauseLift():
                return ("HSET", key("lifts"), f"{row.campaign}\0{row.at}", encoded(row))
            case Delivery():
                return ("HSET", key("deliveries"), row.webhook, encoded(row))
            case _:
                raise TypeError(type(row))

    async def finish(self, newest: int) -> None:
        await self._store.commands.script(
            "whole", [self._store.commands.key("seq"), self._store.commands.key("copying")], [newest]
        )

    async def close(self) -> None:
        await self._store.close()
