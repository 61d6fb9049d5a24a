"""The shared store: one Redis (or Valkey) for any number of gates. What must be atomic is one script, in `lua/`.

All keys begin with `{NAME}:`, so that on a cluster they lie in one slot, where a script can see them all:

    {dialgate}:seq                 the ledger's newest sequence
    {dialgate}:o:N                 the subjects of its entries in their order, 16 bytes each; of those taken out, zeros
    {dialgate}:s:<16 bytes>        what is known of a subject, as lines (`redis_lines`)
    {dialgate}:a:LOG:N             of decisions in their order the subject that an attempt was counted for (`redis_names`)
    {dialgate}:q:<16 bytes>        a remembered answer: `INSTANT DECISION `, then its bytes
    {dialgate}:g:LOG:N             of decisions in their order the key of the answer that was given
    {dialgate}:positions           a hash: of each LOG its position, `LOG top` the highest sequence ever written, and `LOG fence`,
                                   which grows: a commit with an older one is refused
    {dialgate}:recorded            a hash: of each LOG a sequence up to which its entries are on its disk
    {dialgate}:lists               a hash, controller and id to a call list
    {dialgate}:proofs              a hash, controller and caller ID to its newest proof
    {dialgate}:deliveries          a hash, subscriber to how far it has been told
    {dialgate}:layout              the version of all this
    {dialgate}:copying             there while the store is a copy that is not whole
    {dialgate}:keys                the mark of the keys under which all of it was written
    {dialgate}:nodes               a hash, node (and worker) to what it was last known to run
    {dialgate}:seen                a hash, configuration or version to when it was first seen
    {dialgate}:lead:TASK           which node does what only one should do

A batch is read by one MGET. A commit sends back what was read, and writes where that still holds; an unknown subject
is an empty value. Bodies are JSON of the structs of `dialgate.core.model` and `dialgate.store`, where a new field goes last with a
default. No key or value holds a number in clear. An entry of the ledger is acknowledged when it is on the disk, here and on as
many replicas as the settings ask for (WAITAOF).
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha1
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import structs
from redis.exceptions import NoScriptError

from dialgate.core.ledger_events import Draft, Entry
from dialgate.core.model import DAY, Attempt, Instant, Known, Result
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
    cut_short,
    redis_sequence_index,
    redis_subject_codec,
    refuse_if_short,
)
from dialgate.store.redis_server import Server

LAYOUT: Final = b"2"
ATTEMPTS_KEPT: Final = 400 * DAY
PLACES: Final = 4_096  # subjects in one piece of the ledger's order
SUBJECT_BYTES: Final = 16
_AT_ONCE: Final = 512
_NONE: Final = (0, b"")
_TAKEN: Final = [-1]
_FENCED: Final = -2
_SYNC_SECONDS: Final = 2.0  # within which a server that syncs every second has done so
_READS: Final = frozenset({"GET", "MGET", "GETRANGE", "HGET", "HGETALL", "HMGET", "SCAN"})
_LUA: Final = Path(__file__).parent / "lua"

encoded = msgspec.json.Encoder().encode
_call_list = msgspec.json.Decoder(CallList)
_proof = msgspec.json.Decoder(CallerIdProof)
_delivery = msgspec.json.Decoder(Delivery)
_presence = msgspec.json.Decoder(Presence)


class Seen(Reading, frozen=True, gc=False, kw_only=True):
    """A reading with the value of each subject and the ledger's newest sequence."""

    values: Mapping[bytes, bytes]
    seq: int


_UNREAD: Final = Seen((), (), (), values={}, seq=0)


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
        self._of_subject, self._of_answer = self._name + b"s:", self._name + b"q:"
        self._of_ledger, self._of_keys = self._name + b"seq", self._name + b"keys"
        self._of_positions, self.of_layout = self._name + b"positions", self._name + b"layout"
        self._of_recorded = self._name + b"recorded"
        self._none = self._name + b"none"  # never there
        self._patience, self.remembers = patience, remember
        self._asked_for = self._replicas = replicas  # what is waited for is never less than what is asked for
        self._disk = patience + _SYNC_SECONDS
        self._since: Instant = 0
        self._nothing = Known()  # the same object for as long as it says the same
        self._server = Server(url, patience, self._name)
        self._settling = asyncio.Lock()
        self._fences: dict[str, int] = {}
        self._own: set[str] = set()  # the logs that this process writes
        # How high they can be by what this gate has done; on an elder copy they are lower.
        self._ceilings: dict[str, int] = {}
        self._overtaken = ""  # the log that another gate writes too
        self._durable = 0  # an entry of the ledger that cannot be lost
        self._mark: bytes | None = None  # what was claimed
        self._doubtful: dict[str, int] = {}  # the lowest sequence of a log that was committed, or was not
        sources = {path.stem: path.read_bytes() for path in _LUA.glob("*.lua")}
        self._scripts = {name: (source, sha1(source).hexdigest()) for name, source in sources.items()}  # noqa: S324 - Redis names scripts so

    async def refuse_unless_safe(self) -> None:
        """Raises `StoreUnavailable` where the server could forget what it has acknowledged, with what to change."""
        wanted = {
            "appendonly": ("yes",),
            "appendfsync": ("everysec", "always"),
            "maxmemory-policy": ("noeviction",),
        }
        told = _texts(await self.run("CONFIG", "GET", *wanted))
        for name, good in wanted.items():
            if told.get(name) not in good:
                raise StoreUnavailable(
                    f"Redis: `{name}` is {told.get(name)!r}; set it to {' or '.join(f'`{each}`' for each in good)}"
                )
        if await self.run("GET", self.key("copying")) is not None:
            raise StoreUnavailable("Redis: holds a copy that is not whole; run `dialgate store copy` again")
        await self._refuse_another_layout()
        if await self.unasked():
            raise StoreUnavailable(
                f"Redis: {self._replicas} replicas can take the master's place, and one that lacks an acknowledged entry"
                f" would lose it; set `replicas` to {self._replicas}"
            )
        try:
            await self.append([])
        except StoreUnavailable as fault:
            if "unknown command" not in str(fault):
                raise
            raise StoreUnavailable(
                "Redis: needs version 7.2 or newer, or a Valkey: this one has no WAITAOF"
            ) from fault

    async def _refuse_another_layout(self) -> None:
        """A subject of an early version would be taken for one that nobody knows, and what it has counted could not be taken back."""
        held = await self.run("GET", self.of_layout)
        if held is None and not await self._is_early():
            await self.run("SET", self.of_layout, LAYOUT, "NX")
        elif held != LAYOUT:
            raise StoreUnavailable(
                "Redis: the store was written by another version; copy it with that to `sqlite://…`, and from there"
                " with this one to a store of another `name`"
            )

    async def _is_early(self) -> bool:
        try:
            await self.run("GET", self.key("ledger"))
        except StoreUnavailable as fault:
            if "WRONGTYPE" not in str(fault):
                raise
            return True
        return bool(await self.positions())

    async def unasked(self) -> int:
        self._replicas = max(await self._server.replicas(), self._asked_for)
        return self._replicas - self._asked_for

    def key(self, kind: str, of: bytes = b"") -> bytes:
        return self._name + kind.encode() + of

    def _subject(self, subject: bytes) -> bytes:
        return self._of_subject + subject

    async def script(
        self, name: str, keys: Sequence[bytes], values: Sequence[Any], *, durably: bool = False
    ) -> Any:
        """One round trip; more where the server does not know the script yet."""
        commands = [self._call(name, keys, values)]
        if durably:
            commands.append(self._durably())
        answers = await self.together(commands, waits=self._disk if durably else 0)
        if durably:
            self._refuse_unless_durable(*answers[-1])
        return answers[0]

    def _call(self, name: str, keys: Sequence[bytes], values: Sequence[Any]) -> tuple[Any, ...]:
        return ("EVALSHA", self._scripts[name][1], len(keys), *keys, *values)

    def _durably(self) -> tuple[Any, ...]:
        return ("WAITAOF", 1, self._replicas, int(self._disk * 1000))

    async def together(self, commands: list[tuple[Any, ...]], *, waits: float = 0) -> list[Any]:
        """In one round trip, on one connection, by a master. Those that write stand before those that read. `waits`: seconds
        for which the server may, for its disk or its replicas."""
        if commands[0][0] not in _READS:
            return await self._asked(commands, waits)
        # DEL changes nothing here, but only a master does it: what a replica knows may be old.
        return (await self._asked([*commands, ("DEL", self._none)], waits))[:-1]

    async def _asked(self, commands: list[tuple[Any, ...]], slack: float) -> list[Any]:
        try:
            return await self._server.ask(commands, slack=slack)
        except NoScriptError:  # it does not know the script: it has been restarted, or is another
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

    async def _seen_by_replicas(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Their answers, once every replica has what was written: so whoever takes the master's place has it too, and a
        master that has been replaced, whose replicas have left it, is found out."""
        if not self._replicas:
            return await self.together(commands)
        wait = ("WAIT", self._replicas, int(self._patience * 1000))
        answers = await self.together([*commands, wait], waits=self._patience)
        if answers[-1] < self._replicas:
            raise StoreUnavailable(
                f"Redis: {answers[-1]} of {self._replicas} replicas have it; it may no longer be the master"
            )
        return answers[:-1]

    async def run(self, *command: Any) -> Any:
        return (await self.together([command]))[0]

    # ---- in the path of every call -----------------------------------------------------------------------------------

    async def read(
        self, subjects: Sequence[bytes], keys: Sequence[bytes] = (), since: Instant = 0
    ) -> Reading:
        if self._doubtful:
            await self._settle_doubts()
        durable = self._durable  # what is acknowledged meanwhile, the answer need not hold
        different = list(dict.fromkeys(subjects))
        asked = (
            "MGET",
            self._of_ledger,
            self._of_keys,
            *[self._of_subject + subject for subject in different],
            *[self._of_answer + key for key in keys],
        )
        told = await self.run(*asked)
        durable_logs: dict[str, int] = {}
        if any(each is not None for each in told[2 + len(different) :]):
            told, durable_logs = await self._read_again(asked, told, 2 + len(different))
        reading = self._reading(subjects, different, keys, max(since, self._since), told, durable_logs)
        self._refuse_unless_claimed(told[1])
        refuse_if_short(reading.seq, durable)
        return reading

    async def _read_again(
        self, asked: tuple[Any, ...], told: Sequence[bytes | None], answers: int
    ) -> tuple[Sequence[bytes | None], dict[str, int]]:
        """Read once more if remembered answers, which begin at place `answers`, need it. Return also how far the logs of others are
        durable.

        That bound is read before the answers: a log removes what it could not record before it reuses the sequences, so an
        answer that is read later and lies within the bound is the recorded one."""
        logs = sorted({log_of(_decision(value)) for value in told[answers:] if value is not None} - self._own)
        commands: list[tuple[Any, ...]] = [asked]
        if logs:
            commands.insert(0, ("HMGET", self._of_recorded, *logs))
        if self._replicas:
            # A repeated answer needs no commit, which would show whether this server is still the master.
            commands.insert(0, self._ping())
        if len(commands) == 1:
            return told, {}
        replies = await self._seen_by_replicas(commands)
        durable = replies[-2] if logs else ()
        return replies[-1], {log: int(seq or 0) for log, seq in zip(logs, durable, strict=True)}

    def _refuse_unless_claimed(self, held: bytes | None) -> None:
        if self._mark is not None and held != self._mark:
            raise StoreUnavailable(
                "Redis: it does not hold what this gate found there when it started: it was emptied, or another has taken its"
                " place; bring back what it held"
            )

    def _reading(
        self,
        subjects: Sequence[bytes],
        different: Sequence[bytes],
        keys: Sequence[bytes],
        since: Instant,
        told: Sequence[bytes | None],
        durable_logs: Mapping[str, int],
    ) -> Seen:
        seq = int(told[0] or 0)
        if self._nothing.seq != seq:
            self._nothing = Known(seq=seq)
        if not any(told[2:]):  # as it is of most
            return Seen(
                subjects=subjects,
                known=[self._nothing] * len(subjects),
                answers=[None] * len(keys),
                values=dict.fromkeys(different, b""),
                seq=seq,
            )
        values: dict[bytes, bytes] = {}
        known = dict.fromkeys(different, self._nothing)
        for subject, value in zip(different, told[2:], strict=False):
            if value is None:
                values[subject] = b""
            else:
                values[subject] = value
                known[subject] = redis_subject_codec.known(value, seq)
        answers: list[Remembered | None] = [None] * len(keys)
        for at, value in enumerate(told[2 + len(different) :]):
            if value is not None:
                answer = recalled(keys[at], value)
                if answer.at >= since and self._is_recorded(answer.decision, durable_logs):
                    answers[at] = answer
        return Seen(
            subjects=subjects,
            known=[known[subject] for subject in subjects],
            answers=answers,
            values=values,
            seq=seq,
        )

    def _is_recorded(self, decision: str, durable_logs: Mapping[str, int]) -> bool:
        """Return whether a remembered decision is in its log. What an own log could not record was removed before this reading."""
        log = log_of(decision)
        return log in self._own or seq_of(decision) <= durable_logs.get(log, 0)

    async def commit(
        self,
        reading: Reading,
        reservations: Sequence[Reservation],
        remembered: Sequence[Remembered],
        position: Position,
    ) -> bool:
        seen = reading if isinstance(reading, Seen) else _UNREAD
        self._own.add(position.log)
        command = self._commit(seen, reservations, remembered, position)
        try:
            told = await self._committed(position.log, command)
            while told == _TAKEN:  # by what was never recorded: its name was free to be given again
                names = [each.attempt.decision for each in reservations] + [
                    each.decision for each in remembered
                ]
                await self._uncount(position.log, map(seq_of, names))
                told = await self._committed(position.log, command)
        except StoreUnavailable:
            self._doubt(position)
            raise
        if not told and self._replicas:
            self._durable = max(self._durable, seen.seq)
        return not told

    async def _committed(self, log: str, command: tuple[Any, ...]) -> list[int]:
        told: list[int] = (await self._seen_by_replicas([command]))[0]
        if told[:1] == [_FENCED]:
            self._refuse_if_overtaken(log, told[1])
            raise StoreUnavailable("Redis: a commit came too late")
        return told

    def _commit(
        self,
        seen: Seen,
        reservations: Sequence[Reservation],
        remembered: Sequence[Remembered],
        position: Position,
    ) -> tuple[Any, ...]:
        log, values = position.log, seen.values
        lines = _lines(values, reservations)
        subjects = [each.subject for each in reservations]
        watched = list(dict.fromkeys(chain(lines, subjects, *[each.watch for each in reservations])))
        counted = [(seq_of(each.attempt.decision), each.subject) for each in reservations]
        given = [(seq_of(each.decision), each.key) for each in remembered]
        attempts, answers = redis_sequence_index.runs(counted), redis_sequence_index.runs(given)
        lasting = _newest(remembered)
        highest = max(max(counted, default=_NONE)[0], max(given, default=_NONE)[0], position.seq)
        known = [(at, values[subject]) for at, subject in enumerate(watched) if values[subject]]
        attempt_names, answer_names = self._names("a:", log), self._names("g:", log)
        keys = [
            self._of_positions,
            *[self._of_subject + subject for subject in watched],
            *[attempt_names + run.piece for run in attempts],
            *[answer_names + run.piece for run in answers],
            *[self._of_answer + answer.key for answer in lasting],
            self._of_recorded,
        ]
        words = [
            log, position.seq, highest, min(counted)[0] if counted else "",
            self._fences.get(log, ""), position.durable, ATTEMPTS_KEPT, self.remembers,
            len(lines), len(watched), len(attempts), len(answers), len(known),
            *[word for at, value in known for word in (at, value, int(at < len(lines) and redis_subject_codec.mortal(value)))],
            *lines.values(),
            *[word for run in (*attempts, *answers) for word in (run.begins, run.names)],
            *map(stored, lasting),
        ]  # fmt: skip
        return self._call("commit", keys, words)

    def _names(self, kind: str, log: str) -> bytes:
        """What the keys of its names begin with."""
        return self.key(kind, log.encode() + b":")

    async def release(self, decisions: Sequence[str], position: Position) -> None:
        try:
            for log, seqs in _by_log(decisions).items():
                await self._uncount(log, seqs)
            await self._note(position)
        except StoreUnavailable:
            self._doubt(position)
            raise

    async def _note(self, position: Position) -> None:
        await self._seen_by_replicas([("HSET", self._of_positions, position.log, position.seq)])

    async def note_durable(self, log: str, seq: int) -> None:
        await self.run("HSET", self._of_recorded, log, seq)

    async def _uncount(self, log: str, seqs: Iterable[int]) -> None:
        """Attempts and answers of these decisions, whatever subject and question they were of."""
        for piece, some in redis_sequence_index.pieces(seqs).items():
            names, keys = self._names("a:", log) + piece, self._names("g:", log) + piece
            subjects, answers = await self.together([("GET", names), ("GET", keys)])
            dropped = {f"{log}-{seq}" for seq in some}
            while not await self._swapped(
                {self._of_subject + each for each in redis_sequence_index.read(subjects, some)},
                {self._of_answer + each for each in redis_sequence_index.read(answers, some)},
                dropped,
                {names: some, keys: some},
            ):
                pass

    async def _swapped(
        self,
        subjects: Collection[bytes],
        answers: Collection[bytes],
        dropped: Collection[str],
        names: Mapping[bytes, Sequence[int]],
    ) -> bool:
        """Whether nothing of them has changed meanwhile; `subjects` and `answers` are keys."""
        asked = [*subjects, *answers]
        values = (await self.run("MGET", *asked)) if asked else []
        swaps: list[tuple[bytes, bytes, bytes]] = []
        for key, value in zip(asked, values, strict=True):
            if value is None:
                continue
            if key in subjects:
                swaps.append((key, value, redis_subject_codec.uncounted(value, dropped)))
            elif recalled(key, value).decision in dropped:
                swaps.append((key, value, b""))
        return await self.swap(swaps, names)

    async def swap(
        self, swaps: Sequence[tuple[bytes, bytes, bytes]], names: Mapping[bytes, Sequence[int]] = {}
    ) -> bool:
        """Of each key what was read, and what is to be there instead; of each piece of names the sequences that name nothing any
        more. False, and nothing is written, where one is not what was read."""
        return bool((await self._seen_by_replicas([self._swap(swaps, names)]))[0])

    def _swap(
        self, swaps: Sequence[tuple[bytes, bytes, bytes]], names: Mapping[bytes, Sequence[int]]
    ) -> tuple[Any, ...]:
        words: list[Any] = [len(swaps)]
        for _, old, new in swaps:
            words += (old, new, _life(new))
        for gone in names.values():
            words += (len(gone), *map(redis_sequence_index.place, gone))
        return self._call("swap", [*(key for key, _, _ in swaps), *names], words)

    async def _drop(self, log: str, lowest: int, position: int) -> None:
        """Everything of the log from a sequence on."""
        top = await self.run("HGET", self._of_positions, f"{log} top")
        for start in range(lowest, int(top or 0) + 1, _AT_ONCE):
            await self._uncount(log, range(start, min(start + _AT_ONCE, int(top) + 1)))
        await self._note(Position(log, position))

    def _doubt(self, position: Position) -> None:
        """Nobody knows whether what begins there was committed. It will not be recorded, and others will be given its names."""
        first = position.first or position.seq + 1
        self._doubtful[position.log] = min(first, self._doubtful.get(position.log, first))

    async def _settle_doubts(self) -> None:
        """Before anything is read: else an answer that was never recorded could be given again."""
        async with self._settling:
            if self._doubtful:  # nothing is put right on another server than that where it went wrong
                self._refuse_unless_claimed(await self.run("GET", self._of_keys))
            for log, lowest in list(self._doubtful.items()):
                await self._fence(log)
                await self._drop(log, lowest, lowest - 1)
                del self._doubtful[log]

    async def _fence(self, log: str) -> None:
        """From here on no commit that is still under way, from before, can arrive."""
        key, field = self._of_positions, f"{log} fence"
        self._refuse_if_overtaken(log, int(await self.run("HGET", key, field) or 0))
        if log in self._ceilings:
            self._ceilings[log] += 1
        raised = int((await self._seen_by_replicas([("HINCRBY", key, field, 1)]))[0])
        self._refuse_if_overtaken(log, raised)
        self._fences[log] = raised
        self._ceilings.setdefault(log, raised)

    def _refuse_if_overtaken(self, log: str, fence: int) -> None:
        """Whoever opens a log raises its fence. Where others did so since this gate has, each would undo the attempts that the
        other counts: who was first gives up, until it is started again."""
        if fence > self._ceilings.get(log, fence):
            self._overtaken = log
        self._refuse_overtaken()

    def _refuse_overtaken(self) -> None:
        if self._overtaken:
            raise StoreUnavailable(
                f"another gate writes a log of this name, {self._overtaken}: one data folder was copied from the other. Stop both;"
                " let one begin with an empty folder, and in it a copy of `keys.json` without `log` and `months`"
            )

    # ---- the ledger --------------------------------------------------------------------------------------------------

    async def append(self, drafts: Sequence[Draft]) -> list[int]:
        if not drafts:
            self._refuse_unless_durable(
                *(await self.together([self._ping(), self._durably()], waits=self._disk))[1]
            )
            return []
        return await self._write(drafts, {}, ()) or []

    async def remove(self, seqs: Sequence[int], drafts: Sequence[Draft] = ()) -> list[int]:
        """The append-only file keeps the bytes until Redis next rewrites it."""
        while True:
            found = await self._ordered(seqs)
            subjects = list(dict.fromkeys(found.values()))
            held = await self._values(subjects)
            swaps = {
                subject: (value, redis_subject_codec.erased(value, found.keys()))
                for subject, value in zip(subjects, held, strict=True)
            }
            written = await self._write(drafts, swaps, list(found))
            if written is not None:
                return written

    async def _write(
        self, drafts: Sequence[Draft], swaps: Mapping[bytes, tuple[bytes, bytes]], gone: Sequence[int]
    ) -> list[int] | None:
        """None, and nothing is written, where a value is not what was read."""
        if any(len(draft.subject) != SUBJECT_BYTES for draft in drafts):
            raise ValueError(f"a subject of the ledger has {SUBJECT_BYTES} bytes")
        keys = [
            self._of_ledger,
            self._of_keys,
            *map(self._subject, chain((draft.subject for draft in drafts), swaps)),
        ]
        known = self._durable
        values: list[Any] = [
            self._mark or b"",
            known,
            self.key("o:"),
            PLACES,
            len(drafts),
            *map(redis_subject_codec.unnumbered, drafts),
        ]
        for old, new in swaps.values():
            values += (old, new, _life(new))
        first = await self.script("ledger", keys, [*values, *gone], durably=True)
        if first is None:
            return None
        if isinstance(first, list):
            raise cut_short(first[0], known)
        self._durable = max(self._durable, first + len(drafts) - 1)
        return list(range(first, first + len(drafts)))

    async def _values(self, subjects: Sequence[bytes]) -> list[bytes]:
        if not subjects:
            return []
        return [value or b"" for value in await self.run("MGET", *map(self._subject, subjects))]

    async def _ordered(self, seqs: Sequence[int]) -> dict[int, bytes]:
        """The subject of each entry that is there."""
        asked = [(seq, *divmod(seq - 1, PLACES)) for seq in seqs if seq > 0]
        pieces = await self.together(
            [
                ("GETRANGE", self.key("o:", b"%d" % piece), at * SUBJECT_BYTES, (at + 1) * SUBJECT_BYTES - 1)
                for _, piece, at in asked
            ]
            or [("PING",)]
        )
        return {
            seq: subject for (seq, _, _), subject in zip(asked, pieces, strict=False) if subject.strip(b"\0")
        }

    async def entered(self, subjects: Sequence[bytes]) -> set[bytes]:
        found: set[bytes] = set()
        for start in range(0, len(subjects), _AT_ONCE):
            some = subjects[start : start + _AT_ONCE]
            told = zip(some, await self._values(some), strict=True)
            found.update(subject for subject, value in told if redis_subject_codec.entries(value, subject))
        return found

    async def history(self, subject: bytes) -> list[Entry]:
        (value,) = await self._values([subject])
        return redis_subject_codec.entries(value, subject)

    async def since(self, seq: int, limit: int) -> list[Entry]:
        newest, found = int(await self.run("GET", self.key("seq")) or 0), list[Entry]()
        seq = max(seq, 0)
        while seq < newest and len(found) < limit:
            piece, at = divmod(seq, PLACES)
            span = min(PLACES - at, newest - seq, max(limit - len(found), _AT_ONCE))
            first, last = at * SUBJECT_BYTES, (at + span) * SUBJECT_BYTES - 1
            found += await self._named(
                seq + 1, await self.run("GETRANGE", self.key("o:", b"%d" % piece), first, last)
            )
            seq += span
        return found[:limit]

    async def _named(self, first: int, raw: bytes) -> list[Entry]:
        """The entries of subjects that stand one after the other."""
        subjects = [raw[at : at + SUBJECT_BYTES] for at in range(0, len(raw), SUBJECT_BYTES)]
        there = {seq: subject for seq, subject in enumerate(subjects, first) if subject.strip(b"\0")}
        different = list(dict.fromkeys(there.values()))
        found: dict[int, Entry] = {}
        for subject, value in zip(different, await self._values(different), strict=True):
            found |= {entry.seq: entry for entry in redis_subject_codec.entries(value, subject)}
        return [found[seq] for seq in there if seq in found]

    # ---- attempts and their results ----------------------------------------------------------------------------------

    async def attempt(self, decision: str) -> tuple[bytes, Attempt] | None:
        log, seq = log_of(decision), seq_of(decision)
        begins = redis_sequence_index.place(seq)
        subject = await self.run(
            "GETRANGE", self.of_attempt(log, seq), begins, begins + redis_sequence_index.BYTES - 1
        )
        if not subject.strip(b"\0"):
            return None
        (value,) = await self._values([subject])
        held = {attempt.decision: attempt for attempt, _ in redis_subject_codec.attempts(value)}
        return (subject, held[decision]) if decision in held else None

    def of_attempt(self, log: str, seq: int) -> bytes:
        """The key of the piece that holds its name."""
        return self._names("a:", log) + redis_sequence_index.piece(seq)

    async def drop_attempts(self, before: Instant, *, drop: bool) -> int:
        """Those of a subject with entries in the ledger never expire by themselves."""
        found: dict[bytes, int] = {}  # a scan may come by a key twice
        cursor = 0
        while True:
            scanned = await self.run("SCAN", cursor, "MATCH", self.key("s:", b"*"), "COUNT", _AT_ONCE)
            cursor, left = int(scanned[0]), list(scanned[1])
            while left:
                values = await self.run("MGET", *left)
                old = {
                    key: (value, names)
                    for key, value in zip(left, values, strict=True)
                    if value and (names := redis_subject_codec.droppable(value, before))
                }
                for key, (_, names) in old.items():
                    found[key] = found.get(key, 0) + len(names) if drop else len(names)
                left = await self._forgotten(old) if drop and old else []
                for key in left:
                    found[key] -= len(old[key][1])
            if not cursor:
                return sum(found.values())

    async def _forgotten(self, old: Mapping[bytes, tuple[bytes, list[str]]]) -> list[bytes]:
        """The keys whose value has changed meanwhile."""
        swaps = []
        for key, (value, decisions) in old.items():
            names = {
                self._names("a:", log) + piece: some
                for log, seqs in _by_log(decisions).items()
                for piece, some in redis_sequence_index.pieces(seqs).items()
            }
            swaps.append(self._swap([(key, value, redis_subject_codec.uncounted(value, decisions))], names))
        done = await self.together(swaps)
        return [key for key, swapped in zip(old, done, strict=True) if not swapped]

    async def result(self, decision: str, result: Result, at: Instant) -> bool:
        log, seq = log_of(decision), seq_of(decision)
        values = [
            redis_sequence_index.place(seq),
            self._of_subject,
            redis_subject_codec.named(decision),
            redis_subject_codec.result_line(decision, result, at),
            int(result == "abandoned"),
        ]
        return bool(await self.script("result", [self.of_attempt(log, seq)], values, durably=True))

    async def settle(
        self, log: str, head: int, attempts: Sequence[tuple[bytes, Attempt]], answers: Sequence[Remembered]
    ) -> None:
        await self._fence(log)
        self._own.add(log)
        await self.note_durable(log, head)  # a log that was restored may end before
        await self._drop(log, head + 1, head)
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
            if not await self.commit(reading, wanted, answers[start : start + _AT_ONCE], Position(log, head)):
                raise StoreUnavailable("Redis: what is known of a number kept changing; start again")

    async def positions(self) -> dict[str, int]:
        held = pairs(await self.run("HGETALL", self._of_positions))
        return {log.decode(): int(seq) for log, seq in held.items() if b" " not in log}

    # ---- call lists and proofs ---------------------------------------------------------------------------------------

    async def lists(self) -> list[CallList]:
        held = pairs(await self.run("HGETALL", self.key("lists")))
        return [_call_list.decode(held[field]) for field in sorted(held)]

    async def add_list(self, call_list: CallList) -> bool:
        field = f"{call_list.controller}\0{call_list.id}"
        return bool(await self.run("HSETNX", self.key("lists"), field, encoded(call_list)))

    async def replace_list(self, call_list: CallList, sha256: str) -> bool:
        key, field = self.key("lists"), f"{call_list.controller}\0{call_list.id}"
        while True:
            body = await self.run("HGET", key, field)
            if body is None or (held := _call_list.decode(body)).sha256 != sha256:
                return False
            # What else became of the list meanwhile, such as its retirement, stays.
            fresh = structs.replace(
                held, file=call_list.file, sha256=call_list.sha256, numbers=call_list.numbers
            )
            if await self.script("retire", [key], [field, body, encoded(fresh)], durably=True):
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
                ("HSETNX", seen, f"node:{presence.gate}", presence.at),
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

    async def forget(self, gate: str) -> None:
        present = (each.node for each in (await self.muster()).present if each.gate == gate)
        for node in present:
            await self.dismiss(node)
        await self.run("HDEL", self.key("seen"), f"node:{gate}")

    async def claim(self, mark: str) -> bool:
        asked = [("SET", self._of_keys, mark, "NX"), ("GET", self._of_keys), self._durably()]
        _, held, durable = await self.together(asked, waits=self._disk)
        self._refuse_unless_durable(*durable)
        if held != mark.encode():
            return False
        self._mark = held
        return True

    async def lead(self, task: str, node: str, span: Instant) -> bool:
        key = self.key("lead:", task.encode())
        _, holder = await self.together([("SET", key, node, "NX", "PX", span), ("GET", key)])
        if holder is None or holder.decode() != node:
            return False
        return bool(await self.run("PEXPIRE", key, span))

    # ---- upkeep ------------------------------------------------------------------------------------------------------

    async def ping(self) -> int:
        """By as many replicas as an attempt waits for: one that is missing is told before a call is refused for it."""
        self._refuse_overtaken()
        durable = self._durable  # as in `read`
        _, (seq, held) = await self._seen_by_replicas(
            [self._ping(), ("MGET", self._of_ledger, self._of_keys)]
        )
        self._refuse_unless_claimed(held)
        newest = int(seq or 0)
        refuse_if_short(newest, durable)
        return newest

    def hold_to(self, seq: int) -> None:
        self._durable = max(self._durable, seq)

    def _ping(self) -> tuple[Any, ...]:
        return ("SET", self.key("ping"), b"")

    async def maintain(self, before: Instant) -> None:
        """Redis drops by itself what ages, a little later."""
        self._since = before

    async def close(self) -> None:
        await self._server.close()


def seq_of(decision: str) -> int:
    return int(decision.rpartition("-")[2])


def log_of(decision: str) -> str:
    return decision.rpartition("-")[0]


def _by_log(decisions: Iterable[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for decision in decisions:
        found.setdefault(log_of(decision), []).append(seq_of(decision))
    return found


def pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _texts(flat: Sequence[bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in pairs(flat).items()}


def _newest(remembered: Sequence[Remembered]) -> Collection[Remembered]:
    """Of two to one question the later."""
    found: dict[bytes, Remembered] = {}
    for answer in remembered:
        held = found.get(answer.key)
        if held is None or held.at <= answer.at:
            found[answer.key] = answer
    return found.values()


def _lines(values: Mapping[bytes, bytes], reservations: Sequence[Reservation]) -> dict[bytes, bytes]:
    """Of each subject the lines that come: an attempt that is counted already has its line, and its result."""
    found: dict[bytes, bytes] = {}
    for each in reservations:
        subject, line = each.subject, redis_subject_codec.attempt_line(each.attempt)
        if line not in values[subject]:
            found[subject] = found.get(subject, b"") + line
    return found


def _life(value: bytes) -> int:
    """Milliseconds that a subject's value lasts; 0: without end."""
    return ATTEMPTS_KEPT if value and redis_subject_codec.mortal(value) else 0


def stored(answer: Remembered) -> bytes:
    return f"{answer.at} {answer.decision} ".encode() + answer.answer


def _decision(value: bytes) -> str:
    """Return the decision id of a stored answer."""
    return value.split(b" ", 2)[1].decode()


def recalled(key: bytes, value: bytes) -> Remembered:
    at, decision, answer = value.split(b" ", 2)
    return Remembered(key, int(at), answer, decision.decode())
