"""A load generator that runs in a separate process and connects to the FastAGI server, as Asterisk does.

Each call is one connection, and the next call begins as soon as a call ends. To save processor time, the generator
answers every command with `200 result=1` and only looks for the word `allow`. Other tests check that the gate follows
the protocol.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import cast

from tests.bench import load_generator
from tests.bench.http_load import HOST
from tests.bench.load_generator import Responses
from tests.bench.world import CALLER_ID, CAMPAIGN

_ENVIRONMENT = (
    "agi_network: yes\nagi_network_script: check\nagi_request: agi://127.0.0.1/check\nagi_channel: PJSIP/x-1\n"
    "agi_language: en\nagi_type: PJSIP\nagi_uniqueid: 1.{0}\nagi_version: 22.6.0\nagi_callerid: {1}\n"
    "agi_calleridname: unknown\nagi_callingpres: 0\nagi_callingani2: 0\nagi_callington: 0\nagi_callingtns: 0\n"
    "agi_dnid: {0}\nagi_rdnis: unknown\nagi_context: dialer\nagi_extension: {0}\nagi_priority: 1\nagi_enhanced: 0.0\n"
    "agi_accountcode: \nagi_threadid: 1\nagi_arg_1: {0}\nagi_arg_2: {1}\nagi_arg_3: {2}\n\n"
)


class _Call(asyncio.Protocol):
    def __init__(self, environment: bytes) -> None:
        self._environment = environment
        self._last = b""
        self.begun = time.perf_counter()
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._environment)

    def data_received(self, data: bytes) -> None:
        self._last = data
        self._transport.write(b"200 result=1\n")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.ended.set_result(self._last.endswith(b'allow"\n'))


async def send(port: int, requests: Iterator[bytes], responses: Responses) -> None:
    loop = asyncio.get_running_loop()
    for environment in requests:
        call = _Call(environment)
        await loop.create_connection(lambda call=call: call, HOST, port)  # type: ignore[misc] # bound at once
        is_allowed = await call.ended
        responses.append((time.perf_counter() - call.begun, is_allowed))


def prepare(number: str) -> bytes:
    return _ENVIRONMENT.format(number, CALLER_ID, CAMPAIGN).encode()


if __name__ == "__main__":
    load_generator.main(send, prepare)
