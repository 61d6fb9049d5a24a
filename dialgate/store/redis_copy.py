"""The shared store as an end of a copy. While it is being written, `{NAME}:copying` stands in it, and no gate opens it."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Final

from msgspec import structs

from dialgate.ledger import Draft, Entry
from dialgate.store import CallerIdProof, CallList, Delivery, Position, Remembered
from dialgate.store.copying import CopyRefused, Counted, Kind, Row
from dialgate.store.redis import (
    ATTEMPTS_KEPT,
    RedisStore,
    encoded,
    pairs,
    remembered,
    seq_of,
    stored,
    with_results,
)

_AT_ONCE: Final = 1_000
_SILENT: Final = 15_000  # milliseconds


class RedisEnd:
    """`now`: an instant; who was heard of shortly before is taken to be alive."""

    def __init__(self, store: RedisStore, now: int) -> None:
        self._store, self._now = store, now

    async def newest(self) -> int:
        return int(await self._store.run("GET", self._store.key("seq")) or 0)

    async def count(self) -> int:
        return int(await self._store.run("XLEN", self._store.key("ledger")))

    async def rows(self, kind: Kind, after: int = 0) -> AsyncGenerator[list[Row], None]:
        if kind == "ledger":
            while entries := await self._store.since(after, _AT_ONCE):
                after = entries[-1].seq
                yield list(entries)
        elif kind in {"attempts", "answers"}:
            pattern = "s:" if kind == "attempts" else "q:"
            async for keys in self._scan(pattern):
                yield await (self._attempts(keys) if kind == "attempts" else self._answers(keys))
        else:
            yield list(await self._few(kind))

    async def _few(self, kind: Kind) -> Sequence[Row]:
        if kind == "positions":
            return [Position(log, seq) for log, seq in (await self._store.positions()).items()]
        if kind == "lists":
            return await self._store.lists()
        return await (self._store.proofs() if kind == "proofs" else self._store.deliveries())

    async def _scan(self, kind: str) -> AsyncIterator[list[bytes]]:
        cursor = 0
        while True:
            pattern = self._store.key(kind, b"*")
            told = await self._store.run("SCAN", cursor, "MATCH", pattern, "COUNT", _AT_ONCE)
            cursor = int(told[0])
            if told[1]:
                yield list(told[1])
            if not cursor:
                return

    async def _attempts(self, keys: list[bytes]) -> list[Row]:
        held = await self._store.together([("HGETALL", key) for key in keys])
        prefix = len(self._store.key("s:"))
        return [
            Counted(key[prefix:], attempt, at)
            for key, flat in zip(keys, held, strict=True)
            for attempt, at in with_results(pairs(flat))
        ]

    async def _answers(self, keys: list[bytes]) -> list[Row]:
        held = await self._store.together([("GET", key) for key in keys])
        prefix = len(self._store.key("q:"))
        found = [remembered(key[prefix:], value) for key, value in zip(keys, held, strict=True)]
        return [each for each in found if each is not None]

    async def begin(self) -> None:
        present = (await self._store.muster()).present
        if any(self._now - each.at < _SILENT for each in present):
            raise CopyRefused("a gate has the target open: stop it, or name another")
        mark = self._store.key("copying")
        if await self._store.run("GET", mark) is None and (
            await self.newest() or await self._holds_attempts()
        ):
            raise CopyRefused("the target is in use: name an empty store (`?name=…`)")
        await self._store.run("SET", mark, b"1")

    async def _holds_attempts(self) -> bool:
        async for _ in self._scan("s:"):
            return True
        return False

    async def write(self, kind: Kind, rows: Sequence[Row]) -> None:
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            if kind == "ledger":
                await self._restore([row for row in some if isinstance(row, Entry)])
            elif kind == "attempts":
                await self._recount([row for row in some if isinstance(row, Counted)])
            else:
                await self._store.together([self._command(row) for row in some])

    async def _restore(self, rows: Sequence[Entry]) -> None:
        key = self._store.key
        keys = [key("seq"), key("ledger"), *(key("s:", row.subject) for row in rows)]
        values: list[Any] = []
        for row in rows:
            draft = Draft(**{name: getattr(row, name) for name in Draft.__struct_fields__})
            values += (row.seq, encoded(draft))
        if rows:
            await self._store.script("restore", keys, values, durably=True)

    async def _recount(self, rows: Sequence[Counted]) -> None:
        keys: list[bytes] = []
        values: list[Any] = [ATTEMPTS_KEPT]
        for row in rows:
            decision = row.attempt.decision
            log = decision.rpartition("-")[0].encode()
            key = self._store.key
            keys += (key("last:", log), key("s:", row.subject), key("d:", decision.encode()))
            plain = structs.replace(row.attempt, result="pending")
            result = f"{row.result_at} {row.attempt.result}" if row.attempt.result != "pending" else ""
            values += (decision, seq_of(decision), encoded(plain), result)
        if rows:
            await self._store.script("recount", keys, values, durably=True)

    def _command(self, row: Row) -> tuple[Any, ...]:
        key = self._store.key
        match row:
            case Remembered():
                return ("SET", key("q:", row.key), stored(row), "PX", self._store.remembers)
            case Position():
                return ("HSET", key("positions"), row.log, row.seq)
            case CallList():
                return ("HSET", key("lists"), f"{row.controller}\0{row.id}", encoded(row))
            case CallerIdProof():
                return ("HSET", key("proofs"), f"{row.controller}\0{row.caller_id}", encoded(row))
            case Delivery():
                return ("HSET", key("deliveries"), row.webhook, encoded(row))
            case _:
                raise TypeError(type(row))

    async def finish(self, newest: int) -> None:
        await self._store.script(
            "whole", [self._store.key("seq"), self._store.key("copying")], [newest], durably=True
        )

    async def close(self) -> None:
        await self._store.close()
