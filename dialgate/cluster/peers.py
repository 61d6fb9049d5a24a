"""What gates on one store ask each other: what each alone holds of a person, that a hold be kept by each, and a call list's file.

A question is the body of a POST to `/peer` of another gate, and its answer the body that comes back. Both are sealed under a key
that comes of those all the gates share (`Keys.peers`): a question for the one gate that it names, an answer for the one question that
it answers. So who has not the keys asks nothing, is told nothing and can answer nothing, also where there is no TLS. `at` keeps a
question that somebody took down from being asked again later, to see how long the answer is.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from itertools import chain
from typing import Annotated, Any, Final, Generic, TypeAlias, TypeVar

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout
from msgspec import Meta, Struct

from dialgate.audit.lookups import Seen
from dialgate.audit.number_history import Found, Position, Sees
from dialgate.cluster.personal_data import CaseInfo, DecisionLine, FromRegistry, OnList
from dialgate.config.configuration import Config
from dialgate.core.model import MINUTE, Instant
from dialgate.crypto.keys import Keys, KeysUnusable, nonces
from dialgate.ledger.schemas import HistoryEntry
from dialgate.runtime.thread_pool import ThreadPool
from dialgate.store import Shared, Store, StoreUnavailable

PATH: Final = "/peer"
_SECONDS: Final = 20.0
_LATE: Final = 5 * MINUTE
_MOST: Final = 256 << 20  # bytes of an answer
_LARGE: Final = 1 << 16  # bytes: opened and read beside the event loop

_T = TypeVar("_T")


class AboutNumber(Struct, frozen=True, kw_only=True, tag="decisions"):
    """As `Inquiry.about`. Answered by `Decisions`."""

    number: str
    sees: Sees
    before: Position | None = None
    most: int | None = None


class Decisions(Struct, frozen=True):
    found: list[Found]
    retired: list[str]


class OneDecision(Struct, frozen=True, tag="decision"):
    """Answered by what is found, at most one."""

    id: str
    sees: Sees


class OutcomesOf(Struct, frozen=True, tag="outcomes"):
    """Answered by the reports of what became of these decisions' calls, whoever decided."""

    decisions: list[str]


class Called(Struct, frozen=True, tag="called"):
    """Answered by the controller of a decision and the number that was to be called; nothing where it is not there."""

    decision: str


class OfPerson(Struct, frozen=True, tag="person"):
    """All that is held about a number (E.164) on behalf of a controller and is not in the shared store. Answered by `Share`."""

    controller: str
    number: str


class Share(Struct, frozen=True, kw_only=True):
    """`used`: of each basis, the newest call that was allowed on it."""

    restricted: list[HistoryEntry]
    lists: list[OnList]
    registries: list[FromRegistry]
    decisions: list[DecisionLine]
    lookups: list[Seen]
    requests: list[CaseInfo]
    used: dict[str, Instant]


def together(shares: Sequence[Share]) -> Share:
    """As if one gate held all of it. Of the registries' answers that of the newest consultation, for the gates have copies."""
    newest = {
        each.registry: each
        for each in sorted(_every(shares, "registries"), key=lambda each: each.consulted_at)
    }
    lists = {each.list: each for each in _every(shares, "lists")}
    decisions = {
        each.id: each for each in _every(shares, "decisions")
    }  # a gate may have begun with a copy of another's log
    used: dict[str, Instant] = {}
    for share in shares:
        used |= {basis: max(at, used.get(basis, 0)) for basis, at in share.used.items()}
    return Share(
        restricted=sorted(_every(shares, "restricted"), key=lambda each: each.seq),
        lists=list(lists.values()),
        registries=[newest[name] for name in sorted(newest)],
        decisions=sorted(decisions.values(), key=lambda each: each.at, reverse=True),
        lookups=sorted(_every(shares, "lookups"), key=lambda each: each.at),
        requests=sorted(_every(shares, "requests"), key=lambda each: each.received_at),
        used=used,
    )


def _every(shares: Iterable[Share], name: str) -> Iterator[Any]:
    return chain.from_iterable(getattr(share, name) for share in shares)


class HoldPlaced(Struct, frozen=True, tag="hold"):
    """Answered by whether it was not held there already."""

    number: str
    at: Instant
    by: str
    reason: str


class HoldLifted(Struct, frozen=True, tag="lift"):
    """Answered by whether it was held there. A hold that was placed since then stays: somebody may have taken the question down."""

    number: str
    at: Instant
    by: str
    reason: str


class HoldsKept(Struct, frozen=True, tag="holds"):
    """Answered by a `HoldPlaced` for each number that is held there."""


class ListPart(Struct, frozen=True, tag="list"):
    """Of a file of call lists. Answered by at most so many bytes; none where the file is not there, or ends before."""

    file: str
    offset: Annotated[int, Meta(ge=0)]
    most: Annotated[int, Meta(ge=0)]


class OffLists(Struct, frozen=True, tag="erase"):
    """Of the call lists whose files are there, in the version that is recorded, the number is taken off, unless it is held there.
    Answered by the names of those it was on."""

    controller: str
    number: str


Question: TypeAlias = (
    AboutNumber
    | OneDecision
    | OutcomesOf
    | Called
    | OfPerson
    | OffLists
    | HoldPlaced
    | HoldLifted
    | HoldsKept
    | ListPart
)


class Asked(Struct, frozen=True):
    at: Instant
    node: str
    question: Question


class Told(Struct, Generic[_T], frozen=True):
    """`answers` by gate; of each that gave none, why. `missing` is empty where everybody was heard."""

    answers: dict[str, _T]
    missing: dict[str, str]


class PeerRefused(Exception):
    """`str()`: what is wrong with a question, in words for the other gate's operator."""


class _Failed(Exception):
    """`str()`: why a gate gave no answer."""


_encode: Final = msgspec.msgpack.Encoder().encode
_asked: Final = msgspec.msgpack.Decoder(Asked)


class Peers:
    """Of one gate, or of a command beside it. `close` it. `patience`: seconds for which an answer is waited for."""

    def __init__(
        self, config: Callable[[], Config], keys: Keys, store: Store, clock: Callable[[], Instant]
    ) -> None:
        self._config, self._seal, self._store, self._clock = config, keys.peers, store, clock
        self.patience = _SECONDS
        self._nonces = nonces()
        self._session: ClientSession | None = None
        self._asking: set[asyncio.Task[bytes]] = set()
        self._threads = ThreadPool("peers", 2)
        self._closed = False

    @property
    def _node(self) -> str:
        """Without the worker's number: any of them answers for all."""
        return self._config().settings.node.partition("/")[0]

    @property
    def some(self) -> bool:
        """Whether there may be anybody to ask."""
        return isinstance(self._store, Shared)

    async def close(self) -> None:
        """Who is being asked gives no answer any more."""
        self._closed = True
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        self._threads.close()

    # ---- asking ------------------------------------------------------------------------------------------------------

    async def ask(self, question: Question, kind: type[_T]) -> Told[_T]:
        """Everybody, all at once; `kind`: of an answer. Raises nothing."""
        others, missing = await self._others()
        told = await asyncio.gather(*(self._tried(node, url, question, kind) for node, url in others.items()))
        answers = {}
        for node, answer in zip(others, told, strict=True):
            if isinstance(answer, _Failed):
                missing[node] = str(answer)
            else:
                answers[node] = answer
        return Told(answers, missing)

    async def first(self, question: Question, kind: type[list[_T]], *, within: float) -> list[_T]:
        """The first answer that has something in it, of all who are asked at once; else, after so many seconds, none. Raises
        nothing."""
        others, _ = await self._others()
        asking = [
            asyncio.create_task(self._tried(node, url, question, kind, within))
            for node, url in others.items()
        ]
        try:
            for each in asyncio.as_completed(asking):
                answer = await each
                if not isinstance(answer, _Failed) and answer:
                    return answer
        finally:
            for task in asking:
                task.cancel()
        return []

    async def nodes(self) -> dict[str, str]:
        """Who can be asked, and where. Raises nothing."""
        return (await self._others())[0]

    async def one(self, node: str, url: str, question: Question, kind: type[_T]) -> _T | None:
        """One of them; None where it gives no answer. Raises nothing."""
        answer = await self._tried(node, url, question, kind)
        return None if isinstance(answer, _Failed) else answer

    async def _others(self) -> tuple[dict[str, str], dict[str, str]]:
        """Where each is; and who writes, or wrote, a log on this store, but cannot be asked."""
        if not isinstance(self._store, Shared):
            return {}, {}
        own = self._node
        others = {node: url for node, url in self._config().settings.peers.items() if node != own}
        try:
            gates = (await self._store.muster()).gates
        except StoreUnavailable:
            return others, {"store": "it is away: whether there are more gates is not known"}
        return others, dict.fromkeys(
            sorted(gates - others.keys() - {own}),
            "it has a log on this store, but `peers` does not say where it is; if it is gone for good: dialgate nodes --forget",
        )

    async def _tried(
        self, node: str, url: str, question: Question, kind: type[_T], within: float = 0
    ) -> _T | _Failed:
        asked = Asked(self._clock(), self._node, question)
        sealed = self._seal.close(_encode(asked), next(self._nonces), _to(node))
        try:
            answer = await self._post(url, sealed, within or self.patience)
            if len(answer) > _LARGE:
                return await self._threads.run(self._read, answer, sealed, kind)
            return self._read(answer, sealed, kind)
        except _Failed as failed:
            return failed
        except (KeysUnusable, msgspec.DecodeError):
            return _Failed("its answer cannot be read: other keys, or another version")

    def _read(self, answer: bytes, sealed: bytes, kind: type[_T]) -> _T:
        return msgspec.msgpack.decode(self._seal.open(answer, _of(sealed)), type=kind)

    async def _post(self, url: str, body: bytes, seconds: float) -> bytes:
        if self._closed:
            raise _Failed("this gate is ending")
        asking = asyncio.create_task(self._posted(url, body, seconds))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        try:
            await asyncio.wait([asking])
        except asyncio.CancelledError:
            asking.cancel()
            raise
        if asking.cancelled():
            raise _Failed("this gate is ending")
        return asking.result()

    async def _posted(self, url: str, body: bytes, seconds: float) -> bytes:
        if self._session is None:
            self._session = ClientSession()
        limit = ClientTimeout(total=seconds)
        try:
            async with self._session.post(
                url.rstrip("/") + PATH, data=body, timeout=limit, allow_redirects=False
            ) as answer:
                said = bytearray()
                async for chunk in answer.content.iter_any():
                    said += chunk
                    if len(said) > _MOST:
                        raise _Failed(f"its answer is longer than {_MOST >> 20} MiB")
        except TimeoutError:
            raise _Failed(f"no answer within {seconds:g} seconds") from None
        except (ClientError, OSError, ValueError) as error:
            raise _Failed(f"not reached: {str(error) or type(error).__name__}") from None
        if answer.status != HTTPStatus.OK:
            raise _Failed(_refusal(bytes(said)) or f"it answered with status {answer.status}")
        return bytes(said)

    # ---- being asked -------------------------------------------------------------------------------------------------

    def opened(self, sealed: bytes) -> Asked:
        """Raises `PeerRefused`."""
        try:
            asked = _asked.decode(self._seal.open(sealed, _to(self._node)))
        except KeysUnusable:
            raise PeerRefused(
                "the question is for a gate of another name or with other keys; see `peers`, `node` and `keys.json`"
            ) from None
        except msgspec.DecodeError:
            raise PeerRefused("the question is of another version of dialgate; install the same") from None
        if asked.node not in self._config().settings.peers:
            raise PeerRefused("the gate that asks is not among `peers` here")
        if abs(self._clock() - asked.at) > _LATE:
            raise PeerRefused("the clocks of the two gates are more than five minutes apart; set them")
        return asked

    async def sealed(self, answer: object, question: bytes) -> bytes:
        """`question`: as it came."""
        nonce = next(self._nonces)  # here: it is not for several threads
        return await self._threads.run(lambda: self._seal.close(_encode(answer), nonce, _of(question)))


def _to(node: str) -> bytes:
    return b"question to " + node.encode()


def _of(question: bytes) -> bytes:
    """An answer is of this question alone, whose nonce is nobody else's."""
    return b"answer to " + question[:12]


class _Problem(Struct):
    message: str


class _Error(Struct):
    error: _Problem


def _refusal(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Error).error.message.removesuffix(".")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
