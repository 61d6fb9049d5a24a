"""INVITE server transactions (RFC 3261 section 17.2.1), which give a retransmitted request the same response.

A transaction is `proceeding` until its final response, then `completed` until the ACK, then `confirmed` while further ACKs
may arrive. Other requests need no transaction, because identical requests get identical responses. A transaction is
kept for at most 64 times T1. The number of transactions is limited.
"""

import heapq
from collections.abc import Iterator
from itertools import count
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from dialgate.interfaces.sip.message import MAGIC, Fields, Head, Reply, first_value

Ms: TypeAlias = int  # from a monotonic clock
Key: TypeAlias = tuple[str, ...]
Sending: TypeAlias = tuple["Transaction", bytes]

TRYING: Final = (100, "Trying")
_ACKED_BY: Final = {"ACK": "INVITE", "CANCEL": "INVITE"}


class Timers(Struct, frozen=True, kw_only=True):
    """Timers in milliseconds. T1, T2 and T4 are defined in RFC 3261.

    100 Trying is sent after `trying` (section 17.2.1). The final response is sent by `deadline`, even without a decision.
    """

    t1: Ms = 500
    t2: Ms = 4_000
    t4: Ms = 5_000
    trying: Ms = 200
    deadline: Ms = 400

    @property
    def lifetime(self) -> Ms:
        """Return timer H, after which a transaction ends."""
        return 64 * self.t1


class Transaction:
    """An INVITE transaction.

    `wake` is the time of the next timer event, or -1 after the end of the transaction. `question` holds the fields of
    the check. `peer` holds the server's data about the request; this module does not use `peer`.
    """

    def __init__(self, key: Key, reply: Reply, peer: Any, question: object, *, reliable: bool) -> None:
        self.key, self.reply, self.peer, self.question, self.reliable = key, reply, peer, question, reliable
        self.state: Literal["proceeding", "completed", "confirmed"] = "proceeding"
        self.merged: Key = ()
        self.last = b""
        self.wake: Ms = 0
        self.ends: Ms = 0
        self.pause: Ms = 0
        self.cancelled = False


class Transactions:
    """The current transactions. Their number is limited to `most`."""

    def __init__(self, timers: Timers, most: int) -> None:
        self.timers, self._most = timers, most
        self._by_key: dict[Key, Transaction] = {}
        self._merged: dict[Key, Key] = {}
        self._due: list[tuple[Ms, int, Transaction]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def full(self) -> bool:
        return len(self._by_key) >= self._most

    @property
    def next_due(self) -> Ms | None:
        return self._due[0][0] if self._due else None

    def find(self, head: Head, source: str) -> Transaction | None:
        """Return the transaction for a request, or for the INVITE that it acknowledges or cancels (section 17.2.3)."""
        return self._by_key.get(key_of(head, source))

    def is_merged(self, head: Head, source: str) -> bool:
        """Return whether the same request has arrived by another path and is being served (section 8.2.2.2)."""
        return _merging(head, source) in self._merged

    def open(self, head: Head, source: str, transaction: Transaction, now: Ms) -> None:
        self._by_key[transaction.key] = transaction
        transaction.merged = _merging(head, source)
        self._merged[transaction.merged] = transaction.key
        transaction.ends = now + self.timers.deadline
        self._wake(transaction, min(now + self.timers.trying, transaction.ends))

    def repeat(self, transaction: Transaction) -> bytes:
        """Return the response to a retransmitted INVITE.

        Before the ACK, return the last response sent, or 100 Trying if no response was sent. After the ACK, return
        empty bytes.
        """
        if transaction.state == "confirmed":
            return b""
        return transaction.last or self._trying(transaction)

    def answer(self, transaction: Transaction, status: int, phrase: str, fields: Fields, now: Ms) -> bytes:
        """Return the final response, or empty bytes if it has already been sent."""
        if transaction.state != "proceeding":
            return b""
        transaction.state = "completed"
        transaction.last = transaction.reply.encode(status, phrase, fields)
        transaction.ends = now + self.timers.lifetime
        transaction.pause = self.timers.t1
        self._wake(transaction, transaction.ends if transaction.reliable else now + transaction.pause)
        return transaction.last

    def acknowledge(self, transaction: Transaction, now: Ms) -> None:
        if transaction.state != "completed":
            return
        transaction.state = "confirmed"
        if transaction.reliable:
            self._end(transaction)
        else:
            self._wake(transaction, now + self.timers.t4)

    def due(self, now: Ms) -> Iterator[Sending]:
        """Yield the messages that are due. An empty message means that the deadline has passed and a response is needed."""
        while self._due and self._due[0][0] <= now:
            at, _, transaction = heapq.heappop(self._due)
            if at != transaction.wake:
                continue  # rescheduled since
            message = self._wake_up(transaction, now)
            if message is not None:
                yield transaction, message

    def _wake_up(self, transaction: Transaction, now: Ms) -> bytes | None:
        if transaction.state == "proceeding":
            if now >= transaction.ends:
                return b""
            self._wake(transaction, transaction.ends)
            return transaction.last or self._trying(transaction)
        if transaction.state == "confirmed" or now >= transaction.ends:
            self._end(transaction)
            return None
        transaction.pause = min(2 * transaction.pause, self.timers.t2)  # timer G
        self._wake(transaction, min(now + transaction.pause, transaction.ends))
        return transaction.last

    @staticmethod
    def _trying(transaction: Transaction) -> bytes:
        transaction.last = transaction.reply.encode(*TRYING)
        return transaction.last

    def _wake(self, transaction: Transaction, at: Ms) -> None:
        transaction.wake = at
        heapq.heappush(self._due, (at, next(self._order), transaction))

    def _end(self, transaction: Transaction) -> None:
        transaction.wake = -1
        del self._by_key[transaction.key]
        if self._merged.get(transaction.merged) == transaction.key:
            del self._merged[transaction.merged]


def key_of(head: Head, source: str) -> Key:
    """Return the key for a request's transaction (section 17.2.3).

    The key includes `source`, so that no client gets the response to another client's request. If the branch lacks the magic
    cookie of RFC 3261, the key consists of header values.
    """
    via = head.via
    method = _ACKED_BY.get(head.method, head.method)
    if via.branch.startswith(MAGIC):
        return (source, via.branch, via.sent_by, method)
    headers = head.headers
    cseq = first_value(headers, "cseq").partition(" ")[0]
    own = (head.from_tag, first_value(headers, "call-id"), cseq, method)
    return (source, headers["via"][0], head.uri, *own)


def _merging(head: Head, source: str) -> Key:
    headers = head.headers
    return (source, head.from_tag, headers["call-id"][0], headers["cseq"][0])
