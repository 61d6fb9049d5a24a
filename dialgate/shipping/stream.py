"""Every record to a Redis Stream, once it is on the disk, and as soon as it is."""

from collections.abc import Iterator
from hashlib import sha1
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from dialgate.config.shipping import StreamTo
from dialgate.core.faults import Unavailable
from dialgate.core.model import Instant
from dialgate.decision_log import Line, chains, durable
from dialgate.decision_log.archive import Segments, first_header
from dialgate.shipping.cursor import Cursor, Cursors
from dialgate.shipping.status import Standing
from dialgate.shipping.target import Refused, TargetFailed
from dialgate.store import StoreUnavailable
from dialgate.store.redis.server import Server

_MOST: Final = 512  # records in one round trip,
_BYTES: Final = 1 << 20  # and bytes, about
_KEEP_EVERY: Final = 16_384  # records between two writes of the cursor while it catches up

# KEYS: a log's stream. ARGV: the last id that it must have, how many entries it keeps, then sequence, hash and body of each.
# Returns the last id that it had; nothing was added where that is another. Asked and added in one step: after a failover the
# new master may have less than was acknowledged, and what comes later could then never be put before it.
_APPEND: Final = """
local had = '0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  local told = redis.call('XINFO', 'STREAM', KEYS[1])
  for at = 1, #told, 2 do
    if told[at] == 'last-generated-id' then had = string.match(told[at + 1], '^%d+') end
  end
end
if had ~= ARGV[1] then return had end
for at = 3, #ARGV, 3 do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], ARGV[at] .. '-0', 'hash', ARGV[at + 1], 'entry', ARGV[at + 2])
end
return had
"""
_APPEND_SHA: Final = sha1(_APPEND.encode()).hexdigest()  # noqa: S324 - Redis names scripts so
_ADVICE: Final = (
    "Find out why; to go on with this log, delete its stream and `shipping/stream.json` in the data folder"
)
_log = structlog.get_logger(__name__)


class _At(Struct, gc=False):
    at: Instant = 0


_at = msgspec.json.Decoder(_At).decode


class StreamShipping:
    """`standings`: by worker."""

    def __init__(self, data: Path, node: str, to: StreamTo, url: str, cursors: Cursors) -> None:
        """Raises `ValueError`."""
        self._data, self._node, self._keep, self._cursors = data, node, to.keep, cursors
        self._decisions = f"{{{to.name}}}:decisions"
        self._server = Server(url, to.patience, f"{{{to.name}}}".encode())
        self._chains: dict[int, _Chain] = {}
        self.standings: dict[int, Standing] = {}

    async def round(self) -> bool:
        """One message for each worker. Whether there is more to tell at once; what failed is in `standings`."""
        more = False
        for worker, folder in chains.folders(self._data).items():
            standing = self.standings.setdefault(worker, Standing())
            try:
                more |= await self._tell(worker, folder, standing)
                standing.goes_on()
            except (StoreUnavailable, TargetFailed, OSError) as error:
                standing.failed("stream", worker, str(error))
            except (Refused, Unavailable) as refused:
                standing.failed("stream", worker, str(refused), refused=True)
        return more

    async def close(self) -> None:
        for chain in self._chains.values():
            chain.keep(self._cursors)
        await self._server.close()

    async def _tell(self, worker: int, folder: Path, standing: Standing) -> bool:
        chain = self._chains.get(worker)
        if chain is None:
            chain = _Chain.opened(folder, self._cursors)
            if chain is None:
                return False
            node = f"{self._node}/{worker}"
            await self._server.ask([("HSET", self._decisions, chain.log, node)])
            self._chains[worker] = chain
        batch = chain.batch()
        chain.observe(standing, batch)
        if not batch:
            chain.keep(self._cursors)
            return False
        words = [word for line in batch for word in (line.seq, line.hash, line.body)]
        stream = f"{self._decisions}:{chain.log}"
        append = ("EVALSHA", _APPEND_SHA, 1, stream, chain.there, self._keep, *words)
        _, answer = await self._server.ask([("SCRIPT", "LOAD", _APPEND), append])
        if int(answer) == chain.there:
            chain.told(batch, self._cursors)
        else:
            chain.found(int(answer), self._keep)
        chain.observe(standing, [])
        return True


class _Chain:
    """`seq`: the last entry that was dealt with; `there`: the last that the stream has, as far as is known."""

    def __init__(self, folder: Path, log: str, cursor: Cursor, there: int) -> None:
        self._folder, self.log = folder, log
        self._segments = Segments(folder)
        self._cursor = self._kept = cursor
        self.seq, self.there = cursor.seq, there
        self._last: Line | None = None
        self._upto = cursor.seq

    @classmethod
    def opened(cls, folder: Path, cursors: Cursors) -> "_Chain | None":
        """Nothing for a log without a line. Raises `Refused` where the log is not the one that was told of."""
        header = first_header(folder)
        if header is None:
            return None
        cursor = cursors.of(header.log)
        if cursor is None:
            return cls(folder, header.log, Cursor(header.first - 1), there=0)
        chain = cls(folder, header.log, cursor, there=cursor.seq)
        chain.refuse_another()
        return chain

    def refuse_another(self) -> None:
        line = self._segments.find(self.seq) if self.seq else None
        if line is not None and self._cursor.hash and line.hash != self._cursor.hash:
            raise Refused(
                f"{self._folder}: entry {self.seq} is not the one that was told: the log was replaced. {_ADVICE}"
            )

    def batch(self) -> list[Line]:
        """What comes next and is on the disk. Raises `LogDamaged`, `Refused`, `OSError`."""
        self._upto = durable(self._folder) or self._upto
        if self._upto < self.seq:
            raise Refused(
                f"{self._folder} ends with entry {self._upto}, and {self.seq} was told: it was cut. {_ADVICE}"
            )
        found, size = [], 0
        for line in islice(self._due(), min(self._upto - self.seq, _MOST)):
            found.append(line)
            size += len(line.body)
            if size > _BYTES:
                break
        if found and found[0].seq > self.seq + 1:
            self._note_missing(found[0].seq)
        return found

    def _due(self) -> Iterator[Line]:
        """Up to the first that is not where it should be."""
        due = 0
        for line in self._segments.lines(self.seq + 1, self._last):
            if line.seq > self._upto or (due and line.seq != due):
                return
            due = line.seq + 1
            yield line

    def _note_missing(self, first: int) -> None:
        absent = first - self.seq - 1
        _log.error("records were gone before they were told", log=self.log, records=absent, up_to=first - 1)
        self._cursor = Cursor(first - 1, missed=self._cursor.missed + absent)
        self.seq = first - 1

    def told(self, batch: list[Line], cursors: Cursors) -> None:
        self._last = batch[-1]
        self.seq = self.there = self._last.seq
        self._cursor = Cursor(self.seq, self._last.hash, self._cursor.missed)
        if self.seq - self._kept.seq >= _KEEP_EVERY:
            self.keep(cursors)

    def found(self, there: int, keep: int) -> None:
        """The stream ends elsewhere. Raises `Refused` where it has what the log has not."""
        if there > self._upto:
            raise Refused(
                f"the stream of log {self.log} ends with entry {there}, {self._folder} with {self._upto}: another log of this"
                f" name was told, or this one was cut. {_ADVICE}"
            )
        if there < self.there:
            _log.warning("the stream has lost records; told again", log=self.log, had=self.there, has=there)
        # Of a stream that is gone as much is told again as it held.
        self.seq = there or (max(self.there - keep, 0) if self.there else self.seq)
        self.there, self._last = there, None

    def keep(self, cursors: Cursors) -> None:
        cursors.keep(self.log, self._cursor)
        self._kept = self._cursor

    def observe(self, standing: Standing, batch: list[Line]) -> None:
        standing.last, standing.missed = self.seq, self._cursor.missed
        standing.behind = self._upto - self.seq
        standing.since = next((at for line in batch if (at := _at(line.body).at)), standing.since)
