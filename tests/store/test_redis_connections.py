"""Reuse of connections to Redis: a reply is never taken for the reply to another request."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from dialgate.store.redis.server import Server
from tests.support import redis_servers


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    opened = Server(_administrator(), patience=5, tag=b"{t}")
    yield opened
    await opened.close()


def _administrator() -> str:
    """Return the URL of a Redis whose default user may do everything."""
    return f"unix://{redis_servers.alone().rpartition('@')[2]}"


async def _identity(server: Server) -> int:
    (identity,) = await server.execute([("CLIENT", "ID")])
    return int(identity)


async def test_a_connection_is_reused(server: Server) -> None:
    assert await _identity(server) == await _identity(server)


async def test_concurrent_requests_use_separate_connections(server: Server) -> None:
    pair = await asyncio.gather(_identity(server), _identity(server))
    assert len(set(pair)) == 2
    assert await _identity(server) in pair


async def test_a_connection_is_reused_after_an_error_of_the_server(server: Server) -> None:
    identity = await _identity(server)
    with pytest.raises(Exception, match="unknown command"):
        await server.execute([("NONSENSE",), ("PING",)])
    assert await _identity(server) == identity


async def test_a_cancelled_request_leaves_no_connection_behind(server: Server) -> None:
    identity = await _identity(server)
    waiting = asyncio.create_task(server.execute([("BLPOP", "{t}:empty", 4)]))
    async with Redis.from_url(_administrator()) as client:
        while (await client.info("clients"))["blocked_clients"] == 0:
            pass
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await client.rpush("{t}:empty", "late")
    assert await server.execute([("ECHO", "reply")]) == [b"reply"]
    assert await _identity(server) != identity


async def test_a_connection_with_an_unread_reply_is_closed(server: Server) -> None:
    await server.execute([("SUBSCRIBE", "one", "two")])  # two replies to one command
    assert await server.execute([("ECHO", "reply")]) == [b"reply"]


async def test_a_connection_that_the_server_closed_is_replaced(server: Server) -> None:
    identity = await _identity(server)
    async with Redis.from_url(_administrator()) as client:
        await client.client_kill_filter(_id=str(identity))
        while any(int(connection["id"]) == identity for connection in await client.client_list()):
            pass
    assert await _identity(server) != identity
