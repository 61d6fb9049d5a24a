"""The emulated Asterisk works with independent FastAGI servers, so its findings about the gate can be trusted."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from panoramisk import fast_agi
from pystrix.agi import core, fastagi

from dialgate.tools.conformance.asterisk import agi
from tests.support.asterisk import Quirks, StrictChannel

TO = "+390612345678"


class Pystrix(fastagi.FastAGIServer):  # type: ignore[misc] # it has no types
    @staticmethod
    def get_somaxconn() -> int:
        return 128  # the original runs a program for it


@contextmanager
def pystrix(script: Callable[[Any, tuple[str, ...]], None]) -> Iterator[int]:
    with Pystrix(port=0, daemon_threads=True) as server:
        server.register_script_handler("check", lambda agi, given, *_: script(agi, given))
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield server.server_address[1]
        server.shutdown()
        serving.join()


async def place_call(port: int, **changes: Any) -> StrictChannel:
    channel = StrictChannel(extension=TO, caller="+390844123456", **changes)
    await agi(channel, f"agi://127.0.0.1:{port}/check", TO, "a: b")
    return channel


async def test_emulated_asterisk_works_with_pystrix() -> None:
    def script(agi: Any, given: tuple[str, ...]) -> None:
        agi.execute(core.Answer())
        agi.execute(core.SetVariable("GIVEN", "|".join(given)))
        seen = agi.execute(core.GetVariable("GIVEN"))
        agi.execute(core.SetVariable("SEEN", f"{seen}, {agi.get_environment()['agi_extension']}"))

    with pystrix(script) as port:
        channel = await place_call(port)
        assert channel.variables["SEEN"] == f"{TO}|a: b, {TO}"
        assert (channel.variables["AGISTATUS"], channel.violations) == ("SUCCESS", [])
        channel = await place_call(port, quirks=Quirks(hangup_before=2, extra=("agi_new: x",)))
        assert channel.variables["SEEN"].endswith(TO), "HANGUP before a reply is not taken as the reply"


async def test_emulated_asterisk_works_with_panoramisk() -> None:
    async def script(request: Any) -> None:
        headers = request.headers
        commands = (
            "ANSWER",
            f'SET VARIABLE SEEN "{headers["agi_arg_1"]} {headers["agi_callerid"]}"',
            "NOSUCH",
        )
        codes.extend([(await request.send_command(command))["status_code"] for command in commands])

    codes: list[int] = []
    application = fast_agi.Application(loop=asyncio.get_running_loop())
    application.add_route("check", script)
    async with await asyncio.start_server(application.handler, "127.0.0.1", 0) as server:
        channel = await place_call(server.sockets[0].getsockname()[1])
    assert channel.variables["SEEN"] == f"{TO} +390844123456"
    assert codes == [200, 200, 510]
    assert channel.violations == ["an unknown command"]
