"""Promise: one client that asks for much does not keep the others waiting for what takes a core."""

import asyncio

from dialgate.interfaces.http.concurrency_limits import Turns


async def test_clients_take_turns_and_one_thing_is_done_at_a_time() -> None:
    turns, order, under_way = Turns(), list[str](), 0

    async def ask(client: str) -> None:
        nonlocal under_way
        async with turns.of(client):
            under_way += 1
            assert under_way == 1
            order.append(client)
            await asyncio.sleep(0)
            under_way -= 1

    await asyncio.gather(*(ask("many") for _ in range(50)), ask("one"), ask("two"))
    assert len(order) == 52
    assert order.index("one") <= 2
    assert order.index("two") <= 3


async def test_who_gives_up_holds_nobody_up() -> None:
    turns = Turns()
    async with turns.of("one"):
        waiting = [asyncio.create_task(turns.of(name).__aenter__()) for name in ("one", "two")]
        await asyncio.sleep(0)
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
    for name in ("one", "two"):
        async with asyncio.timeout(1), turns.of(name):
            pass
