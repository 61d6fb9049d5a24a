"""The scripts that Redis runs for the shared store."""

from hashlib import sha1
from pathlib import Path

from dialgate.core.model import DAY, HOUR
from dialgate.store import AttemptPosition, Remembered, Reservation
from dialgate.store.redis import RedisStore
from tests.store.test_store import ANNA, attempt, decisions, named
from tests.support import redis_servers

# Redis 7.2.0 to 7.2.4 write Lua's number 100000000 as 1e+8, in commands and in values.
WITHOUT_LARGE_NUMBERS = b"""
local redis = {call = function(...)
    for _, value in ipairs({...}) do
        if type(value) == 'number' and value >= 1e8 then error('a Lua number: ' .. value) end
    end
    return redis.call(...)
end}
"""


async def test_a_commit_passes_large_numbers_to_redis_as_text(tmp_path: Path) -> None:
    store = RedisStore(redis_servers.alone(), name=tmp_path.name, patience=5, remember=250 * HOUR)
    store.keep_attempts(500 * DAY)
    source = WITHOUT_LARGE_NUMBERS + store.commands.scripts["commit"][0]
    store.commands.scripts["commit"] = source, sha1(source).hexdigest()
    for seq in (100_000_000, 200_000_000):
        reading = await store.read([ANNA])
        reservation = Reservation(ANNA, attempt(f"log-{seq}"), (ANNA,))
        answer = Remembered(named(b"a request"), seq, b"an answer", f"log-{seq}")
        assert await store.commit(reading, [reservation], [answer], AttemptPosition("log", seq, durable=seq))
        assert (await store.positions(), await store.recorded("log")) == ({"log": seq}, seq)
    assert await decisions(store) == ["log-100000000", "log-200000000"]
    await store.close()
