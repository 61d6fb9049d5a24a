"""Shipping of every durable record to a Redis Stream."""

from collections.abc import Iterator
from hashlib import sha1
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from dialgate.config.shipping import StreamTo
from dialgate.core.model import Instant
from dialgate.decision_log import LogLine, chains, durable
from dialgate.decision_log.archive import Segments, first_header
from dialgate.shipping.cursor import Cursor, Cursors
from dialgate.shipping.status import LogProgress
from dialgate.shipping.target import StorageRefused
from dialgate.store.redis.server import Server

_BATCH_RECORDS: Final = 512  # per round trip
_BATCH_BYTES: Final = 1 << 20  # per round trip, approximately
_STORE_EVERY: Final = 16_384  # records between writes of the cursor while catching up

# KEYS: the stream of a log. ARGV: the expected last id, the number of entries to keep, then sequence, hash and body of each entry.
# Returns the last id that the stream had. If that is not the expected id, the script adds nothing. Check and append are atomic:
# after a failover the new master may lack acknowledged entries, which could not be inserted before later ones.
_APPEND: Final = """
local had = '0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for at = 1, #info, 2 do
    if info[at] == 'last-generated-id' then had = string.match(info[at + 1], '^%d+') end
  end
end
if had ~= ARGV[1] then return had end
for at = 3, #ARGV, 3 do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], ARGV[at] .. '-0', 'hash', ARGV[at + 1], 'entry', ARGV[at + 2])
end
return had
"""
_APPEND_SHA: Final = sha1(_APPEND.encode()).hexdigest()  # noqa: S324 - Redis identifies scripts by SHA-1
_ADVICE: Final = "Find the cause. To continue with this log, delete its stream and `shipping/stream.json` in the data folder"
_log = structlog.get_logger(__name__)


class _At(Struct, gc=False):
    at: Instant = 0


_at = msgspec.json.Decoder(_At).decode


class StreamShipping:
    """A shipper that sends records to Redis Streams, with one stream per log.

    `standings` contains the state of each log, by its number.
    """

    def __init__(self, data: Path, node: str, to: StreamTo, url: str, cursors: Cursors) -> None:
        """Parse the URL without connecting. Raises `ValueError`."""
        self._data, self._node, self._keep, self._cursors = data, node, to.keep, cursors
        self._decisions = f"{{{to.name}}}:decisions"
        self._server = Server(url, to.patience, f"{{{to.name}}}".encode())
        self._chains: dict[int, _Chain] = {}
        self.standings: dict[int, LogProgress] = {}

    async def round(self) -> bool:
        """Send one batch per log. Return whether there is more to send now.

        Failures are recorded in `standings`.
        """
        more = False
        for number, folder in chains.folders(self._data).items():
            standing = self.standings.setdefault(number, LogProgress())
            with standing.attempt("stream", number):
                more |= await self._send(number, folder, standing)
        return more

    async def close(self) -> None:
        for chain in self._chains.values():
            chain.store_cursor(self._cursors)
        await self._server.close()

    async def _send(self, number: int, folder: Path, standing: LogProgress) -> bool:
        chain = self._chains.get(number)
        if chain is None:
            chain = _Chain.open(folder, self._cursors)
            if chain is None:
                return False
            node = f"{self._node}/{number}"
            await self._server.execute([("HSET", self._decisions, chain.log, node)])
            self._chains[number] = chain
        batch = chain.batch()
        chain.observe(standing, batch)
        if not batch:
            chain.store_cursor(self._cursors)
            return False
        values = [value for line in batch for value in (line.seq, line.hash, line.body)]
        stream = f"{self._decisions}:{chain.log}"
        append = ("EVALSHA", _APPEND_SHA, 1, stream, chain.delivered, self._keep, *values)
        _, last_id = await self._server.execute([("SCRIPT", "LOAD", _APPEND), append])
        if int(last_id) == chain.delivered:
            chain.record_sent(batch, self._cursors)
        else:
            chain.resume_at(int(last_id), self._keep)
        chain.observe(standing, [])
        return True


class _Chain:
    """One log and its stream.

    `seq` is the last entry processed, and `delivered` the last entry known to be in the stream.
    """

    def __init__(self, folder: Path, log: str, cursor: Cursor, delivered: int) -> None:
        self._folder, self.log = folder, log
        self._segments = Segments(folder)
        self._cursor = self._stored_cursor = cursor
        self.seq, self.delivered = cursor.seq, delivered
        self._last: LogLine | None = None
        self._upto = cursor.seq

    @classmethod
    def open(cls, folder: Path, cursors: Cursors) -> "_Chain | None":
        """Open a log, or return None if it is empty. Raises `StorageRefused` if the log was replaced."""
        header = first_header(folder)
        if header is None:
            return None
        cursor = cursors.get(header.log)
        if cursor is None:
            return cls(folder, header.log, Cursor(header.first - 1), delivered=0)
        chain = cls(folder, header.log, cursor, delivered=cursor.seq)
        chain.refuse_if_replaced()
        return chain

    def refuse_if_replaced(self) -> None:
        line = self._segments.find(self.seq) if self.seq else None
        if line is not None and self._cursor.hash and line.hash != self._cursor.hash:
            raise StorageRefused(
                f"{self._folder}: entry {self.seq} differs from the entry that was delivered: the log was replaced. {_ADVICE}"
            )

    def batch(self) -> list[LogLine]:
        """Return the next entries that are on disk. Raises `LogDamaged`, `StorageRefused` and `OSError`."""
        self._upto = durable(self._folder) or self._upto
        if self._upto < self.seq:
            raise StorageRefused(
                f"{self._folder} ends at entry {self._upto}, but entry {self.seq} was already delivered: the log was truncated."
                f" {_ADVICE}"
            )
        batch, size = [], 0
        for line in islice(self._next_lines(), min(self._upto - self.seq, _BATCH_RECORDS)):
            batch.append(line)
            size += len(line.body)
            if size > _BATCH_BYTES:
                break
        if batch and batch[0].seq > self.seq + 1:
            self._note_missing(batch[0].seq)
        return batch

    def _next_lines(self) -> Iterator[LogLine]:
        """Yield consecutive durable entries, ending at the first gap."""
        due = 0
        for line in self._segments.lines(self.seq + 1, self._last):
            if line.seq > self._upto or (due and line.seq != due):
                return
            due = line.seq + 1
            yield line

    def _note_missing(self, first: int) -> None:
        absent = first - self.seq - 1
        _log.error(
            "records were deleted before they were delivered", log=self.log, records=absent, up_to=first - 1
        )
        self._cursor = Cursor(first - 1, missed=self._cursor.missed + absent)
        self.seq = first - 1

    def record_sent(self, batch: list[LogLine], cursors: Cursors) -> None:
        self._last = batch[-1]
        self.seq = self.delivered = self._last.seq
        self._cursor = Cursor(self.seq, self._last.hash, self._cursor.missed)
        if self.seq - self._stored_cursor.seq >= _STORE_EVERY:
            self.store_cursor(cursors)

    def resume_at(self, delivered: int, keep: int) -> None:
        """Continue after entry `delivered`, which is the last one in the stream.

        Call this if the stream does not end with the expected entry. If the stream is empty (`delivered` is 0),
        deliver the last `keep` entries again. Raises `StorageRefused` if the stream contains entries that the log does
        not contain.
        """
        if delivered > self._upto:
            raise StorageRefused(
                f"the stream for log {self.log} ends at entry {delivered}, but {self._folder} ends at entry {self._upto}: another log with"
                f" the same name was delivered to the stream, or the local log was truncated. {_ADVICE}"
            )
        if delivered < self.delivered:
            _log.warning(
                "the stream has lost records; delivering them again",
                log=self.log,
                had=self.delivered,
                has=delivered,
            )
        # If the stream was deleted, deliver again as many entries as it kept.
        self.seq = delivered or (max(self.delivered - keep, 0) if self.delivered else self.seq)
        self.delivered, self._last = delivered, None

    def store_cursor(self, cursors: Cursors) -> None:
        cursors.store(self.log, self._cursor)
        self._stored_cursor = self._cursor

    def observe(self, standing: LogProgress, batch: list[LogLine]) -> None:
        standing.last, standing.missed = self.seq, self._cursor.missed
        standing.behind = self._upto - self.seq
        standing.since = next((at for line in batch if (at := _at(line.body).at)), standing.since)
