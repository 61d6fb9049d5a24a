"""Promise: a client with many CPU-heavy requests does not keep other clients waiting."""

import asyncio

from dialgate.interfaces.http.concurrency_limits import Turns


async def test_clients_take_turns_with_one_request_at_a_time() -> None:
    turns, order, under_way = Turns(), list[str](), 0

    async def ask(client: str) -> None:
        nonlocal under_way
        async with turns.hold(client):
            under_way += 1
            assert under_way == 1
            order.append(client)
            await asyncio.sleep(0)
            under_way -= 1

    await asyncio.gather(*(ask("many") for _ in range(50)), ask("one"), ask("two"))
    assert len(order) == 52
    assert order.index("one") <= 2
    assert order.index("two") <= 3


async def test_a_cancelled_request_delays_no_other() -> None:
    turns = Turns()
    async with turns.hold("one"):
        waiting = [asyncio.create_task(turns.hold(name).__aenter__()) for name in ("one", "two")]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
    for name in ("one", "two"):
        async with asyncio.timeout(1), turns.hold(name):
            pass
