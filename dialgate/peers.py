"""What gates on one store ask each other: what each alone holds of a person, that a hold be kept by each, and a call list's file.

A question is the body of a POST to `/v1/peer` of another gate, and its answer the body that comes back. Both are sealed under a key
that comes of those all the gates share (`Keys.peers`): a question for the one gate that it names, an answer for the one question that
it answers. So who has not the keys asks nothing, is told nothing and can answer nothing, also where there is no TLS. `at` keeps a
question that somebody took down from being asked again later, to see how long the answer is.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from itertools import chain
from typing import Any, Final, Generic, TypeAlias, TypeVar
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import msgspec
from msgspec import Struct

from dialgate.keys import Keys, KeysUnusable, nonces
from dialgate.lookups import Seen
from dialgate.model import MINUTE, Instant
from dialgate.requests import HistoryEntry
from dialgate.settings import Config
from dialgate.store import Shared, Store, StoreUnavailable
from dialgate.subject_answers import CaseInfo, DecisionLine, FromRegistry, OnList
from dialgate.why import Found, Position, Sees

PATH: Final = "/v1/peer"
_SECONDS: Final = 10.0
_LATE: Final = 5 * MINUTE
_MOST: Final = 256 << 20  # bytes of an answer
_AT_ONCE: Final = 8

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
    used: dict[str, Instant] = {}
    for share in shares:
        used |= {basis: max(at, used.get(basis, 0)) for basis, at in share.used.items()}
    return Share(
        restricted=sorted(_every(shares, "restricted"), key=lambda each: each.seq),
        lists=list(lists.values()),
        registries=[newest[name] for name in sorted(newest)],
        decisions=sorted(_every(shares, "decisions"), key=lambda each: each.at, reverse=True),
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
    offset: int
    most: int


class OffLists(Struct, frozen=True, tag="erase"):
    """Of the call lists whose files are there, in the version that is recorded, the number is taken off, or under a legal hold is not.
    Answered by the names of the lists it was on."""

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
    pass


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
        self._threads = ThreadPoolExecutor(_AT_ONCE, "peers")
        self._open = build_opener(ProxyHandler({})).open

    @property
    def _node(self) -> str:
        """Without the worker's number: any of them answers for all."""
        return self._config().settings.node.partition("/")[0]

    @property
    def some(self) -> bool:
        """Whether there may be anybody to ask."""
        return isinstance(self._store, Shared)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    # ---- asking ------------------------------------------------------------------------------------------------------

    async def ask(self, question: Question, kind: type[_T]) -> Told[_T]:
        """Everybody, all at once; `kind`: of an answer. Raises nothing."""
        others, missing = await self._others()
        told = await asyncio.gather(*(self._one(node, url, question, kind) for node, url in others.items()))
        answers = {}
        for node, answer in zip(others, told, strict=True):
            if isinstance(answer, _Failed):
                missing[node] = str(answer)
            else:
                answers[node] = answer
        return Told(answers, missing)

    async def first(self, question: Question, kind: type[_T], *, unlike: _T) -> _T:
        """The first answer that says more than `unlike`; one after the other, for it may be long. Raises nothing."""
        for node, url in (await self._others())[0].items():
            answer = await self._one(node, url, question, kind)
            if not isinstance(answer, _Failed) and answer != unlike:
                return answer
        return unlike

    async def _others(self) -> tuple[dict[str, str], dict[str, str]]:
        """Where each is; and who shares the store, but cannot be asked."""
        if not isinstance(self._store, Shared):
            return {}, {}
        own = self._node
        others = {node: url for node, url in self._config().settings.peers.items() if node != own}
        try:
            present = {each.node.partition("/")[0] for each in (await self._store.muster()).present}
        except StoreUnavailable:
            return others, {"store": "it is away: whether there are more gates is not known"}
        return others, dict.fromkeys(
            sorted(present - others.keys() - {own}),
            "it shares the store, but `peers` does not say where it is",
        )

    async def _one(self, node: str, url: str, question: Question, kind: type[_T]) -> _T | _Failed:
        asked = Asked(self._clock(), self._node, question)
        sealed = self._seal.close(_encode(asked), next(self._nonces), _to(node))
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.patience):
                answer = await loop.run_in_executor(
                    self._threads, self._post, f"{url.rstrip('/')}{PATH}", sealed
                )
            return msgspec.msgpack.decode(self._seal.open(answer, _of(sealed)), type=kind)
        except _Failed as failed:
            return failed
        except TimeoutError:
            return _Failed(f"no answer within {self.patience:g} seconds")
        except (KeysUnusable, msgspec.DecodeError):
            return _Failed("its answer cannot be read: other keys, or another version")

    def _post(self, url: str, body: bytes) -> bytes:
        try:
            with self._open(Request(url, body, {"Content-Type": _MEDIA}), timeout=self.patience) as answer:  # noqa: S310 - the settings' own
                said: bytes = answer.read(_MOST)
        except HTTPError as error:
            with error:
                raise _Failed(
                    _refusal(error.read(10_000)) or f"it answered with status {error.code}"
                ) from None
        except (OSError, HTTPException, ValueError) as error:
            raise _Failed(f"not reached: {getattr(error, 'reason', None) or error}") from None
        return said

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
        if abs(self._clock() - asked.at) > _LATE:
            raise PeerRefused("the clocks of the two gates are more than five minutes apart; set them")
        return asked

    def sealed(self, answer: object, question: bytes) -> bytes:
        """`question`: as it came."""
        return self._seal.close(_encode(answer), next(self._nonces), _of(question))


_MEDIA: Final = "application/octet-stream"


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
