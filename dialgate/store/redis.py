"""The shared store: one Redis (or Valkey) for any number of gates. What must be atomic is one script, in `lua/`.

All keys begin with `{NAME}:`, so that on a cluster they lie in one slot, where a script can see them all:

    {dialgate}:seq                 the ledger's newest sequence
    {dialgate}:ledger              a stream, `SEQ-0` to the key of the subject
    {dialgate}:s:<16 bytes>        of a subject, a hash: `v` its version, `n` how many entries of the ledger it has,
                                   `eSEQ` one of them, `aDECISION` an attempt, `rDECISION` its result (`INSTANT RESULT`)
    {dialgate}:d:DECISION          the key of the subject that an attempt was counted for
    {dialgate}:q:<16 bytes>        a remembered answer: `INSTANT DECISION `, then its bytes
    {dialgate}:last:LOG            a sorted set of what a log wrote last, by the decision's sequence
    {dialgate}:positions           a hash, log to sequence
    {dialgate}:fences              a hash, log to a number that grows: a commit with an older one is refused
    {dialgate}:lists               a hash, controller and id to a call list
    {dialgate}:proofs              a hash, controller and caller ID to its newest proof
    {dialgate}:deliveries          a hash, subscriber to how far it has been told
    {dialgate}:copying             there while the store is a copy that is not whole
    {dialgate}:nodes               a hash, node (and worker) to what it was last known to run
    {dialgate}:seen                a hash, configuration or version to when it was first seen
    {dialgate}:lead:TASK           which node does what only one should do

Bodies are JSON of the structs of `dialgate.ledger`, `dialgate.model` and `dialgate.store`, where a new field goes last
with a default. No key or value holds a number in clear. An entry of the ledger is acknowledged when it is on the disk, here
and on as many replicas as the settings ask for (WAITAOF).
"""

import asyncio
from collections.abc import Mapping, Sequence
from hashlib import sha1
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import structs
from redis.exceptions import NoScriptError, RedisError

from dialgate.ledger import Draft, Entry, fold
from dialgate.model import DAY, Attempt, Instant, Known, Result
from dialgate.store import (
    CallerIdProof,
    CallList,
    Delivery,
    Muster,
    Position,
    Presence,
    Reading,
    Remembered,
    Reservation,
    StoreUnavailable,
)
from dialgate.store.redis_server import Server, place

ATTEMPTS_KEPT: Final = 400 * DAY
_AT_ONCE: Final = 512
_NEWEST: Final = 65_536  # attempts and answers of a log that can be taken back
_LUA: Final = Path(__file__).parent / "lua"

encoded = msgspec.json.Encoder().encode
_attempt = msgspec.json.Decoder(Attempt)
_draft = msgspec.json.Decoder(Draft)
_call_list = msgspec.json.Decoder(CallList)
_proof = msgspec.json.Decoder(CallerIdProof)
_delivery = msgspec.json.Decoder(Delivery)
_presence = msgspec.json.Decoder(Presence)


class Seen(Reading, frozen=True, gc=False):
    """And the version of each subject."""

    versions: Mapping[bytes, bytes]


class RedisStore:
    """`patience`: seconds for which one round trip may last; `replicas`: how many must have a ledger entry on their
    disks before it is acknowledged; `remember`: milliseconds for which an answer is remembered."""

    def __init__(
        self,
        url: str,
        *,
        name: str = "dialgate",
        patience: float = 1.0,
        replicas: int = 0,
        remember: Instant = DAY,
    ) -> None:
        self._name = f"{{{name}}}:".encode()
        self._patience, self._replicas, self.remembers = patience, replicas, remember
        self._since: Instant = 0
        self._nothing = Known()  # the same object for as long as it says the same
        self._server = Server(place(url, patience, self._name), patience)
        self._settling = asyncio.Lock()
        self._fences: dict[str, int] = {}
        self._doubtful: dict[str, int] = {}  # the lowest sequence of a log that was committed, or was not
        sources = {path.stem: path.read_bytes() for path in _LUA.glob("*.lua")}
        self._scripts = {name: (source, sha1(source).hexdigest()) for name, source in sources.items()}  # noqa: S324 - Redis names scripts so

    async def refuse_unless_safe(self) -> None:
        """Raises `StoreUnavailable` where the server could forget what it has acknowledged, with what to change."""
        wanted = {
            "appendonly": ("yes",),
            "appendfsync": ("always", "everysec"),
            "maxmemory-policy": ("noeviction",),
        }
        told = _texts(await self.run("CONFIG GET", *wanted))
        for name, good in wanted.items():
            if told.get(name) not in good:
                raise StoreUnavailable(f"Redis: `{name}` is {told.get(name)!r}; set it to `{good[0]}`")
        if await self.run("GET", self.key("copying")) is not None:
            raise StoreUnavailable("Redis: holds a copy that is not whole; run `dialgate store copy` again")
        could = await self._replaceable()
        if could > self._replicas:
            raise StoreUnavailable(
                f"Redis: {could} replicas can take the master's place, and one that lacks an acknowledged entry would"
                f" lose it; set `replicas` to {could}"
            )
        (answer,) = await self.together([self._durably()], waits=True)
        self._refuse_unless_durable(*answer)

    async def _replaceable(self) -> int:
        try:
            return await self._server.where.replicas()
        except (RedisError, OSError) as fault:
            raise StoreUnavailable(f"Redis: {fault}") from fault

    def key(self, kind: str, of: bytes = b"") -> bytes:
        return self._name + kind.encode() + of

    def _subject(self, subject: bytes) -> bytes:
        return self.key("s:", subject)

    async def script(
        self, name: str, keys: Sequence[bytes], values: Sequence[Any], *, durably: bool = False
    ) -> Any:
        """One round trip; more where the server does not know the script yet."""
        commands = [self._call(name, keys, values)]
        if durably:
            commands.append(self._durably())
        answers = await self.together(commands, waits=durably)
        if durably:
            self._refuse_unless_durable(*answers[-1])
        return answers[0]

    def _call(self, name: str, keys: Sequence[bytes], values: Sequence[Any]) -> tuple[Any, ...]:
        return ("EVALSHA", self._scripts[name][1], len(keys), *keys, *values)

    def _durably(self) -> tuple[Any, ...]:
        return ("WAITAOF", 1, self._replicas, int(self._patience * 1000))

    async def together(self, commands: Sequence[tuple[Any, ...]], *, waits: bool = False) -> list[Any]:
        """In one round trip, on one connection. `waits`: so may the server, for its disk and its replicas."""
        slack = self._patience if waits else 0
        try:
            return await self._server.ask(commands, slack=slack)
        except NoScriptError:  # it has been restarted, or is another
            await self._server.ask([("SCRIPT", "LOAD", source) for source, _ in self._scripts.values()])
        try:
            return await self._server.ask(commands, slack=slack)
        except NoScriptError as fault:
            raise StoreUnavailable(f"Redis: {fault}") from fault

    def _refuse_unless_durable(self, here: int, replicas: int) -> None:
        if here < 1 or replicas < self._replicas:
            raise StoreUnavailable(
                f"Redis: written, but not on the disk in time ({here} here, {replicas} of {self._replicas} replicas)"
            )

    async def _seen_by_replicas(self, commands: Sequence[tuple[Any, ...]]) -> Any:
        """The first answer, once every replica has what was written: so whoever takes the master's place has it too, and a
        master that has been replaced, whose replicas have left it, is found out."""
        if not self._replicas:
            return (await self.together(commands))[0]
        wait = ("WAIT", self._replicas, int(self._patience * 1000))
        answers = await self.together([*commands, wait], waits=True)
        if answers[-1] < self._replicas:
            raise StoreUnavailable(
                f"Redis: {answers[-1]} of {self._replicas} replicas have it; it may no longer be the master"
            )
        return answers[0]

    async def run(self, *command: Any) -> Any:
        return (await self.together([command]))[0]

    # ---- in the path of every call -----------------------------------------------------------------------------------

    async def read(
        self, subjects: Sequence[bytes], keys: Sequence[bytes] = (), since: Instant = 0
    ) -> Reading:
        if self._doubtful:
            await self._settle_doubts()
        different = list(dict.fromkeys(subjects))
        asked = [self.key("seq"), *map(self._subject, different), *(self.key("q:", key) for key in keys)]
        seq, held, answers = await self.script("read", asked, [len(different)])
        fields = {subject: pairs(flat) for subject, flat in zip(different, held, strict=True)}
        if any(
            each is not None for each in answers
        ):  # they are given again without a commit, which would show it
            await self._seen_by_replicas([("SET", self.key("ping"), b"")])
        if self._nothing.seq != seq:
            self._nothing = Known(seq=seq)
        known = {subject: _known(each, seq) if each else self._nothing for subject, each in fields.items()}
        found = [remembered(key, value) for key, value in zip(keys, answers, strict=True)]
        return Seen(
            subjects=subjects,
            known=[known[subject] for subject in subjects],
            answers=[
                each if each is not None and each.at >= max(since, self._since) else None for each in found
            ],
            versions={subject: each.get(b"v", b"0") for subject, each in fields.items()},
        )

    async def commit(
        self,
        reading: Reading,
        reservations: Sequence[Reservation],
        remembered: Sequence[Remembered],
        position: Position,
    ) -> list[int]:
        versions = reading.versions if isinstance(reading, Seen) else {}
        watched = list(dict.fromkeys(chain.from_iterable(each.watch for each in reservations)))
        watched += dict.fromkeys(each.subject for each in reservations if each.subject not in watched)
        places = {subject: place for place, subject in enumerate(watched)}
        keys = [
            self.key("positions"),
            self.key("last:", position.log.encode()),
            self.key("fences"),
            *map(self._subject, watched),
        ]
        values: list[Any] = [
            position.log,
            position.seq,
            _NEWEST,
            self._fences.get(position.log, ""),
            len(watched),
        ]
        values += [versions[subject] for subject in watched]
        values.append(len(reservations))
        for each in reservations:
            decision = each.attempt.decision
            keys.append(self.key("d:", decision.encode()))
            values += (
                places[each.subject],
                decision,
                seq_of(decision),
                encoded(each.attempt),
                ATTEMPTS_KEPT,
            )
        values.append(len(remembered))
        for answer in remembered:
            keys.append(self.key("q:", answer.key))
            values += (answer.at, stored(answer), seq_of(answer.decision), self.remembers)
        decisions = [each.attempt.decision for each in reservations] + [each.decision for each in remembered]
        try:
            stale = set(await self._seen_by_replicas([self._call("commit", keys, values)]))
        except StoreUnavailable:
            self._doubt(decisions or [f"{position.log}-{position.seq + 1}"])
            raise
        return [
            place
            for place, each in enumerate(reservations)
            if stale & {places[subject] for subject in each.watch}
        ]

    async def release(self, decisions: Sequence[str], position: Position) -> None:
        for log, lowest, highest in _spans(decisions):
            try:
                await self._drop(log, position.seq, lowest, highest)
            except StoreUnavailable:
                self._doubt(decisions)
                raise

    async def _drop(self, log: str, position: int, lowest: int | str, highest: int | str) -> None:
        keys = [self.key("positions"), self.key("last:", log.encode())]
        await self.script("drop", keys, [log, position, lowest, highest])

    def _doubt(self, decisions: Sequence[str]) -> None:
        """Nobody knows whether these were committed. They will not be recorded, and others will be given their names."""
        for log, lowest, _ in _spans(decisions):
            self._doubtful[log] = min(lowest, self._doubtful.get(log, lowest))

    async def _settle_doubts(self) -> None:
        """Before anything is read: else an answer that was never recorded could be given again."""
        async with self._settling:
            for log, lowest in list(self._doubtful.items()):
                await self._fence(log)
                await self._drop(log, lowest - 1, lowest, "+inf")
                del self._doubtful[log]

    async def _fence(self, log: str) -> None:
        """From here on no commit that is still under way, from before, can arrive."""
        fence = await self._seen_by_replicas([("HINCRBY", self.key("fences"), log, 1)])
        self._fences[log] = int(fence)

    # ---- the ledger --------------------------------------------------------------------------------------------------

    async def append(self, drafts: Sequence[Draft]) -> list[int]:
        if not drafts:
            return []
        bodies = [encoded(draft) for draft in drafts]
        keys = [self.key("seq"), self.key("ledger"), *(self._subject(draft.subject) for draft in drafts)]
        first = await self.script("append", keys, bodies, durably=True)
        return list(range(first, first + len(drafts)))

    async def remove(self, seqs: Sequence[int], drafts: Sequence[Draft] = ()) -> list[int]:
        """The append-only file keeps the bytes until Redis next rewrites it."""
        found = await self.together(
            [("XRANGE", self.key("ledger"), f"{seq}-0", f"{seq}-0") for seq in seqs] or [("PING",)]
        )
        subjects = {seq: rows[0][1][b"s"] for seq, rows in zip(seqs, found, strict=False) if rows}
        comes = [self._subject(draft.subject) for draft in drafts]
        keys = [self.key("seq"), self.key("ledger"), *subjects.values(), *comes]
        bodies = [encoded(draft) for draft in drafts]
        values = [ATTEMPTS_KEPT, len(subjects), *subjects, *bodies]
        first = await self.script("remove", keys, values, durably=True)
        return list(range(first, first + len(drafts)))

    async def history(self, subject: bytes) -> list[Entry]:
        return _entries(pairs(await self.run("HGETALL", self._subject(subject))))

    async def since(self, seq: int, limit: int) -> list[Entry]:
        ordered = await self.run("XRANGE", self.key("ledger"), f"{seq + 1}-0", "+", "COUNT", limit)
        wanted = {int(name.partition(b"-")[0]): fields[b"s"] for name, fields in ordered}
        if not wanted:
            return []
        bodies = await self.together([("HGET", subject, f"e{number}") for number, subject in wanted.items()])
        return [_entry(number, body) for number, body in zip(wanted, bodies, strict=True) if body is not None]

    # ---- attempts and their results ----------------------------------------------------------------------------------

    async def attempt(self, decision: str) -> tuple[bytes, Attempt] | None:
        key = await self.run("GET", self.key("d:", decision.encode()))
        if key is None:
            return None
        body, result = await self.run("HMGET", key, f"a{decision}", f"r{decision}")
        return None if body is None else (key[len(self.key("s:")) :], _counted(body, result))

    async def drop_attempts(self, before: Instant, *, drop: bool) -> int:
        """Those of a subject with entries in the ledger never expire by themselves."""
        found: dict[bytes, int] = {}  # a scan may come by a key twice
        cursor = 0
        while True:
            scanned = await self.run("SCAN", cursor, "MATCH", self.key("s:", b"*"), "COUNT", _AT_ONCE)
            cursor, subjects = int(scanned[0]), scanned[1]
            held = await self.together([("HGETALL", subject) for subject in subjects])
            for subject, flat in zip(subjects, held, strict=True):
                old = [each.decision for each in _attempts(pairs(flat)) if each.at < before]
                if old:
                    found[subject] = found.get(subject, 0) + len(old) if drop else len(old)
                if drop and old:
                    names = [self.key("d:", decision.encode()) for decision in old]
                    await self.script("forget", [subject, *names], old)
            if not cursor:
                return sum(found.values())

    async def result(self, decision: str, result: Result, at: Instant) -> bool:
        keys = [self.key("d:", decision.encode())]
        return bool(await self.script("result", keys, [decision, at, result], durably=True))

    async def settle(
        self, log: str, head: int, attempts: Sequence[tuple[bytes, Attempt]], answers: Sequence[Remembered]
    ) -> None:
        await self._fence(log)
        await self._drop(log, head, f"({head}", "+inf")
        self._doubtful.pop(log, None)
        for start in range(0, max(len(attempts), len(answers)), _AT_ONCE):
            some = attempts[start : start + _AT_ONCE]
            reading = await self.read([subject for subject, _ in some])
            counted = {each.decision for known in reading.known for each in known.attempts}
            wanted = [
                Reservation(subject, attempt, (subject,))
                for subject, attempt in some
                if attempt.decision not in counted
            ]
            if await self.commit(reading, wanted, answers[start : start + _AT_ONCE], Position(log, head)):
                raise StoreUnavailable("Redis: what is known of a number kept changing; start again")

    async def positions(self) -> dict[str, int]:
        held = pairs(await self.run("HGETALL", self.key("positions")))
        return {log.decode(): int(seq) for log, seq in held.items()}

    # ---- call lists and proofs ---------------------------------------------------------------------------------------

    async def lists(self) -> list[CallList]:
        held = pairs(await self.run("HGETALL", self.key("lists")))
        return [_call_list.decode(held[field]) for field in sorted(held)]

    async def add_list(self, call_list: CallList) -> bool:
        field = f"{call_list.controller}\0{call_list.id}"
        return bool(await self.run("HSETNX", self.key("lists"), field, encoded(call_list)))

    async def replace_list(self, call_list: CallList, sha256: str) -> bool:
        key, field = self.key("lists"), f"{call_list.controller}\0{call_list.id}"
        while True:  # what else of the list changes meanwhile, such as its retirement, is no matter
            body = await self.run("HGET", key, field)
            if body is None or _call_list.decode(body).sha256 != sha256:
                return False
            if await self.script("retire", [key], [field, body, encoded(call_list)], durably=True):
                return True

    async def retire_list(self, controller: str, name: str, at: Instant) -> CallList | None:
        key, field = self.key("lists"), f"{controller}\0{name}"
        while True:
            body = await self.run("HGET", key, field)
            if body is None:
                return None
            held = _call_list.decode(body)
            retired = structs.replace(held, retired_at=held.retired_at or at)
            if await self.script("retire", [key], [field, body, encoded(retired)], durably=True):
                return retired

    async def proofs(self) -> list[CallerIdProof]:
        held = pairs(await self.run("HGETALL", self.key("proofs")))
        return [_proof.decode(body) for body in held.values()]

    async def put_proof(self, proof: CallerIdProof) -> None:
        """Of two the later stands; of two of one instant, the one that came last."""
        key, field = self.key("proofs"), f"{proof.controller}\0{proof.caller_id}"
        while True:
            body = await self.run("HGET", key, field)
            if body is None and await self.run("HSETNX", key, field, encoded(proof)):
                return
            if body is not None and (
                _proof.decode(body).at > proof.at
                or await self.script("retire", [key], [field, body, encoded(proof)])
            ):
                return

    async def deliveries(self) -> list[Delivery]:
        held = pairs(await self.run("HGETALL", self.key("deliveries")))
        return [_delivery.decode(body) for body in held.values()]

    async def put_delivery(self, delivery: Delivery) -> None:
        await self.run("HSET", self.key("deliveries"), delivery.webhook, encoded(delivery))

    # ---- who shares it ------------------------------------------------------------------------------------------------

    async def muster(self, presence: Presence | None = None) -> Muster:
        nodes, seen = self.key("nodes"), self.key("seen")
        noted: list[tuple[Any, ...]] = []
        if presence is not None:
            noted = [
                ("HSETNX", seen, f"config:{presence.config}", presence.at),
                ("HSETNX", seen, f"version:{presence.version}", presence.at),
                ("HSET", nodes, presence.node, encoded(presence)),
            ]
        *_, present, instants = await self.together([*noted, ("HGETALL", nodes), ("HGETALL", seen)])
        found = [_presence.decode(body) for body in pairs(present).values()]
        return Muster(
            sorted(found, key=lambda each: each.node),
            {name: int(at) for name, at in _texts(instants).items()},
        )

    async def dismiss(self, node: str) -> None:
        await self.run("HDEL", self.key("nodes"), node)

    async def lead(self, task: str, node: str, span: Instant) -> bool:
        key = self.key("lead:", task.encode())
        _, holder = await self.together([("SET", key, node, "NX", "PX", span), ("GET", key)])
        if holder is None or holder.decode() != node:
            return False
        return bool(await self.run("PEXPIRE", key, span))

    # ---- upkeep ------------------------------------------------------------------------------------------------------

    async def ping(self) -> None:
        await self.run("SET", self.key("ping"), b"")

    async def maintain(self, before: Instant) -> None:
        """Redis drops by itself what ages, a little later."""
        self._since = before

    async def close(self) -> None:
        await self._server.close()


def seq_of(decision: str) -> int:
    return int(decision.rpartition("-")[2])


def _spans(decisions: Sequence[str]) -> list[tuple[str, int, int]]:
    """Of each log the lowest and the highest sequence: a batch's are neighbours."""
    found: dict[str, list[int]] = {}
    for decision in decisions:
        found.setdefault(decision.rpartition("-")[0], []).append(seq_of(decision))
    return [(log, min(seqs), max(seqs)) for log, seqs in found.items()]


def pairs(flat: Any) -> dict[bytes, bytes]:
    return flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))


def _texts(flat: Any) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in pairs(flat).items()}


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()


def stored(answer: Remembered) -> bytes:
    return b"%d %b %b" % (answer.at, answer.decision.encode(), answer.answer)


def remembered(key: bytes, value: bytes | None) -> Remembered | None:
    if value is None:
        return None
    at, decision, answer = value.split(b" ", 2)
    return Remembered(key, int(at), answer, decision.decode())


def _counted(body: bytes, result: bytes | None) -> Attempt:
    attempt = _attempt.decode(body)
    return structs.replace(attempt, result=result.partition(b" ")[2].decode()) if result else attempt


def with_results(fields: Mapping[bytes, bytes]) -> list[tuple[Attempt, Instant]]:
    """Each attempt of a subject, and the instant of its result; 0 without one."""
    return [
        (attempt, int(fields.get(b"r" + attempt.decision.encode(), b"0").partition(b" ")[0]))
        for attempt in _attempts(fields)
    ]


def _known(fields: Mapping[bytes, bytes], seq: int) -> Known:
    attempts = sorted(_attempts(fields), key=lambda attempt: (attempt.at, attempt.decision))
    return structs.replace(fold(_entries(fields)), seq=seq, attempts=tuple(attempts))


def _attempts(fields: Mapping[bytes, bytes]) -> list[Attempt]:
    return [
        _counted(body, fields.get(b"r" + name[1:])) for name, body in fields.items() if name.startswith(b"a")
    ]


def _entries(fields: Mapping[bytes, bytes]) -> list[Entry]:
    found = [(int(name[1:]), body) for name, body in fields.items() if name.startswith(b"e")]
    return [_entry(seq, body) for seq, body in sorted(found)]


def _entry(seq: int, body: bytes) -> Entry:
    draft = _draft.decode(body)
    return Entry(seq=seq, **{name: getattr(draft, name) for name in Draft.__struct_fields__})
