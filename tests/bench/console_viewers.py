"""Supervisors at the console, in a process of their own: `python -m tests.bench.console_viewers PORT VIEWERS` with the key in DIALGATE_KEY.

Each has the live board open, and loads the page of the history once a minute. The process prints a line when each board has
got its first message, and ends with a `Viewed` as JSON when standard input is closed.
"""

import asyncio
import os
import sys
import time
from contextlib import AsyncExitStack, suppress

import msgspec
from aiohttp import ClientSession, ClientTimeout, CookieJar
from msgspec import Struct

_SECONDS = 60  # between two pages of one viewer
_HOST = "127.0.0.1"


class Viewed(Struct, frozen=True):
    """What all viewers got: messages of boards, and pages with the median and the longest wait in milliseconds."""

    messages: int
    pages: int
    p50: float
    slowest: float


class _Viewer:
    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self.is_open = asyncio.Event()
        self.messages = 0
        self.waits: list[float] = []

    async def watch(self) -> None:
        async with self._session.get("/console/events", timeout=ClientTimeout()) as stream:
            async for line in stream.content:
                self.messages += line.startswith(b"data:")
                self.is_open.set()

    async def read_pages(self, delay: float) -> None:
        await asyncio.sleep(delay)
        while True:
            began = time.perf_counter()
            async with self._session.get("/console/history") as page:
                page.raise_for_status()
                await page.read()
            self.waits.append((time.perf_counter() - began) * 1e3)
            await asyncio.sleep(_SECONDS)


async def _view(port: int, viewers: int) -> Viewed:
    base, jar = f"http://{_HOST}:{port}", CookieJar(unsafe=True)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as opened:
        session = await opened.enter_async_context(
            ClientSession(base, cookie_jar=jar, headers={"Origin": base})
        )
        async with session.post("/console/login", data={"key": os.environ["DIALGATE_KEY"]}) as answer:
            answer.raise_for_status()
        watching = [_Viewer(session) for _ in range(viewers)]
        tasks = [asyncio.create_task(viewer.watch()) for viewer in watching]
        await asyncio.gather(*(viewer.is_open.wait() for viewer in watching))
        tasks += [
            asyncio.create_task(viewer.read_pages(at * _SECONDS / viewers))
            for at, viewer in enumerate(watching)
        ]
        sys.stdout.write("open\n")
        sys.stdout.flush()
        ended = asyncio.ensure_future(loop.run_in_executor(None, sys.stdin.read))
        await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()  # none ends by itself: raise its error
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)
    waits = sorted(wait for viewer in watching for wait in viewer.waits) or [0.0]
    messages = sum(viewer.messages for viewer in watching)
    return Viewed(messages, len(waits), round(waits[len(waits) // 2], 1), round(waits[-1], 1))


def main() -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # as in `http_load`: it stands for other machines
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(_view(*map(int, sys.argv[1:])))))


if __name__ == "__main__":
    main()
