"""Requests from one gate to the others on its store: POST to `/peer`, with encrypted request and response bodies.

The cipher is AES-256-GCM with a key derived from the gates' common `keys.json` (`Keys.peers`). An attacker without
that file can neither read nor forge messages, even over plain HTTP. Each request is bound to the name of the receiving
gate, and each response is bound to the request. A request is valid for five minutes, which limits replay. Reasons for
not using HTTPS: docs/decisions/0012-seal-requests-between-gates.md.
"""

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, Generic

import msgspec
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout
from msgspec import Struct

from dialgate.cluster.peer_questions import AnyQuestion, PeerQuestion, T, answer_type
from dialgate.config.configuration import Config
from dialgate.core.model import MINUTE, Instant
from dialgate.core.refusal import Refused
from dialgate.crypto.keys import Keys, KeysUnusable
from dialgate.crypto.nonces import nonces
from dialgate.store import Shared, Store, StoreUnavailable

PATH: Final = "/peer"
_PATIENCE: Final = 20.0  # seconds
_CLOCK_SKEW: Final = 5 * MINUTE
_LARGEST_ANSWER: Final = 256 << 20  # bytes
_CLOSING: Final = "this gate is shutting down"


class PeerRequest(Struct, frozen=True):
    at: Instant
    node: str
    question: AnyQuestion


class PeerAnswers(Struct, Generic[T], frozen=True):
    """The answers by gate. `missing` gives the reason for each gate that did not answer."""

    answers: dict[str, T]
    missing: dict[str, str]


class _NoAnswer(Exception):
    pass


class Peers:
    """A client for requests to the other gates that share the store.

    Call `close` at the end. `patience` is the number of seconds to wait for an answer.
    """

    def __init__(
        self, config: Callable[[], Config], keys: Keys, store: Store, clock: Callable[[], Instant]
    ) -> None:
        self._config, self._envelope, self._store, self._clock = config, keys.peers, store, clock
        self.patience = _PATIENCE
        self._nonces = nonces()
        self._session: ClientSession | None = None
        self._deadlines: set[asyncio.Timeout] = set()  # timeouts for the requests in flight
        self._closed = False

    @property
    def _node(self) -> str:
        return self._config().settings.node

    @property
    def is_shared(self) -> bool:
        """Whether other gates can use this gate's store."""
        return isinstance(self._store, Shared)

    @property
    def urls(self) -> dict[str, str]:
        """The URL of every other gate in `peers`."""
        if not self.is_shared:
            return {}
        return {node: url for node, url in self._config().settings.peers.items() if node != self._node}

    async def close(self) -> None:
        """Cancel the requests in flight. The gates that have not answered are reported as missing."""
        self._closed = True
        now = asyncio.get_running_loop().time()
        for deadline in self._deadlines:
            if not deadline.expired():
                deadline.reschedule(now)
        if self._session is not None:
            await self._session.close()

    # ---- questions ------------------------------------------------------------------------------------------------------

    async def ask(self, question: PeerQuestion[T], *, within: float | None = None) -> PeerAnswers[T]:
        """Ask every other gate at once, and wait `within` seconds, or `patience`. Never raises."""
        urls, seconds = self.urls, within or self.patience
        results = await asyncio.gather(
            *(self._ask(node, url, question, seconds) for node, url in urls.items())
        )
        answers: dict[str, T] = {}
        missing = await self._without_url(urls)
        for result in results:
            answers |= result.answers
            missing |= result.missing
        return PeerAnswers(answers, missing)

    async def ask_one(self, node: str, url: str, question: PeerQuestion[T]) -> T | None:
        """Ask one of the gates in `urls`. Return None if it does not answer. Never raises."""
        return (await self._ask(node, url, question, self.patience)).answers.get(node)

    async def _without_url(self, urls: Mapping[str, str]) -> dict[str, str]:
        """Return advice for each gate that is recorded in the store but has no URL in `peers`."""
        if not isinstance(self._store, Shared):
            return {}
        try:
            gates = (await self._store.members()).gates
        except StoreUnavailable:
            return {"store": "not available, so there may be gates that were not asked"}
        return dict.fromkeys(
            sorted(gates - urls.keys() - {self._node}),
            "it has a log on this store but no URL in `peers`. Add it, or run `dialgate nodes --forget` if the gate was removed",
        )

    async def _ask(self, node: str, url: str, question: PeerQuestion[T], seconds: float) -> PeerAnswers[T]:
        content = msgspec.msgpack.encode({"at": self._clock(), "node": self._node, "question": question})
        request = self._envelope.close(content, next(self._nonces), _addressed_to(node))
        try:
            response = await self._post(url, request, seconds)
            content = self._envelope.open(response, _in_response_to(request))
            answer = msgspec.msgpack.decode(content, type=answer_type(question))
        except _NoAnswer as failure:
            return PeerAnswers({}, {node: str(failure)})
        except (KeysUnusable, msgspec.DecodeError):
            return PeerAnswers(
                {},
                {
                    node: "its answer cannot be decrypted or decoded, because it has other keys or another version"
                },
            )
        return PeerAnswers({node: answer}, {})

    async def _post(self, url: str, body: bytes, seconds: float) -> bytes:
        try:
            async with asyncio.timeout(seconds) as deadline:
                self._deadlines.add(deadline)
                try:
                    return await self._exchange(url.rstrip("/") + PATH, body)
                finally:
                    self._deadlines.discard(deadline)
        except TimeoutError:
            reason = f"no answer within {seconds:g} seconds"
        except (ClientError, OSError, ValueError) as error:
            reason = f"not reached: {str(error) or type(error).__name__}"
        raise _NoAnswer(_CLOSING if self._closed else reason)

    async def _exchange(self, url: str, body: bytes) -> bytes:
        if self._closed:
            raise _NoAnswer(_CLOSING)
        if self._session is None:
            self._session = ClientSession(timeout=ClientTimeout(total=None))
        async with self._session.post(url, data=body, allow_redirects=False) as response:
            content = await _read_body(response)
        if self._closed:
            raise _NoAnswer(_CLOSING)
        if response.status != HTTPStatus.OK:
            raise _NoAnswer(_error_message(content) or f"it responded with status {response.status}")
        return content

    # ---- answers ---------------------------------------------------------------------------------------------------

    def refuse_without_peers(self) -> None:
        """Raise `Refused` if this gate has no peers, so that it need not read a request."""
        if not self._config().settings.peers:
            raise _refused("`peers` is empty here. Add the requesting gate")

    def open_request(self, body: bytes) -> PeerRequest:
        """Decrypt and check a request. Raises `Refused`."""
        try:
            content = self._envelope.open(body, _addressed_to(self._node))
            request = msgspec.msgpack.decode(content, type=PeerRequest)
        except KeysUnusable:
            raise _refused(
                "the request was encrypted for a gate with a different name, or with different keys."
                " Check `peers`, `node` and `keys.json`"
            ) from None
        except msgspec.DecodeError:
            raise _refused(
                "the request is from another version of dialgate. Install the same version on all gates"
            ) from None
        if request.node not in self._config().settings.peers:
            raise _refused("the requesting gate is not in `peers` here. Add it")
        if abs(self._clock() - request.at) > _CLOCK_SKEW:
            raise _refused("the clocks of the two gates differ by more than five minutes. Synchronise them")
        return request

    def seal_answer(self, answer: object, request: bytes) -> bytes:
        """Encrypt the answer to a request, given the body of the request as received."""
        content = msgspec.msgpack.encode(answer)
        return self._envelope.close(content, next(self._nonces), _in_response_to(request))


def _refused(reason: str) -> Refused:
    return Refused("peer.refused", f"This gate refused the request: {reason}.", status=403)


def _addressed_to(node: str) -> bytes:
    return b"question to " + node.encode()


def _in_response_to(request: bytes) -> bytes:
    """Return the context that binds an encrypted answer to its request.

    The context is unique, because it contains the nonce of the request.
    """
    return b"answer to " + request[:12]


async def _read_body(response: ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > _LARGEST_ANSWER:
            raise _NoAnswer(f"its answer is longer than {_LARGEST_ANSWER >> 20} MiB")
    return bytes(content)


def _error_message(body: bytes) -> str:
    try:
        errors = msgspec.json.decode(body, type=dict[str, dict[str, str]])
        return errors.get("error", {}).get("message", "").removesuffix(".")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
