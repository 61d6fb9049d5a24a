"""The encoding of a subject's state in the shared store: entries and attempts one after the other, oldest first.

    an entry of the ledger   a line of JSON: ["e",SEQ,AT,CONTROLLER,EVENT,ACTOR,CHANNEL,PROOF,SEALED]
    an attempt               26 bytes, big-endian, and then the name in its legal basis:
                               1  128 + the number of its result in `RESULTS`
                               4  the time from the call to its result in ms
                               6  the time of the call in ms
                               5  the decision's sequence in its log
                               8  the id of its `Term`
                               2  the length of the name

Version 0.2 wrote attempts as lines of JSON, which are still read:

    ["a",DECISION,AT,CAMPAIGN,BASIS,GOODS]   an attempt
    ["r",DECISION,AT,RESULT]                 the result of an attempt of this form

Equal values mean equal state. Only the result of an attempt is changed in its place. New fields of a line go last, with a
default. A repeated attempt replaces the earlier one. Of two results, the later one is kept.
"""

import struct
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct, structs

from dialgate.core.abandonment import open_silence
from dialgate.core.decision_ids import log_of, seq_of
from dialgate.core.ledger_events import Draft, Entry, Event
from dialgate.core.ledger_state import fold
from dialgate.core.model import Attempt, Instant, Known, Result
from dialgate.store import StoreUnavailable
from dialgate.store.attempts import RESULTS, span_to_result, split_basis

_PLACE: Final = len('["e",0')  # the part before and including an unknown sequence
_HEAD: Final = struct.Struct(">QQQH")
_IS_ATTEMPT: Final = 0x80  # no JSON begins with such a byte
_SEQ_BITS: Final = 40
_HIGHEST_SEQ: Final = (1 << _SEQ_BITS) - 1
_PENDING: Final = bytes([_IS_ATTEMPT, 0, 0, 0, 0])
_CALL: Final = len(_PENDING)  # the offset of what never changes in an attempt
TERM_BYTES: Final = 8  # two of a million terms have the same id with a probability of 3e-8


class Term(NamedTuple):
    """The texts that many attempts share. `basis` is a legal basis without the name of a consent, such as `consent:`.

    An attempt contains the id of its term, which is a hash of the texts. A commit writes the terms of its attempts with
    them. So every copy of the store has the terms of its attempts, and an id never changes its meaning.
    """

    log: str
    campaign: str
    basis: str
    goods: str


TermById: TypeAlias = Mapping[int, Term]


class _Written(Struct, frozen=True, array_like=True, tag="e", gc=False):
    seq: int
    at: Instant
    controller: str
    event: Event
    actor: str
    channel: str
    proof: str = ""
    sealed: bytes = b""


class _Counted(Struct, frozen=True, array_like=True, tag="a", gc=False):
    decision: str
    at: Instant
    campaign: str
    basis: str = ""
    goods: str = ""


class _Ended(Struct, frozen=True, array_like=True, tag="r", gc=False):
    decision: str
    at: Instant
    result: Result


_Part: TypeAlias = _Written | _Ended | tuple[Attempt, Instant]
_encode: Final = msgspec.json.Encoder().encode
_line: Final = msgspec.json.Decoder(_Written | _Counted | _Ended).decode


class UnknownTerm(KeyError):
    """Raised if the terms passed to a function lack the term of an attempt."""


class _AnyTerm(dict[int, Term]):
    """A mapping for functions that need no texts. It collects the ids."""

    def __missing__(self, term_id: int) -> Term:
        return self.setdefault(term_id, Term(str(term_id), "", "", ""))


def _parts(value: bytes, terms: TermById) -> list[tuple[_Part, bytes]]:
    """Return the entries and attempts of a subject, each with its bytes. Attempts have the time of their result, or 0.

    Raises `StoreUnavailable` for an unknown form, because it may be a revocation, and `UnknownTerm`.
    """
    parts: list[tuple[_Part, bytes]] = []
    start = 0
    try:
        while start < len(value):
            part: _Part | _Counted
            if value[start] >= _IS_ATTEMPT:
                first, second, term_id, size = _HEAD.unpack_from(value, start)
                log, campaign, basis, goods = terms[term_id]
                end = start + _HEAD.size + size
                at, result = (
                    (first & 0xFFFFFF) << 24 | second >> _SEQ_BITS,
                    RESULTS[value[start] - _IS_ATTEMPT],
                )
                attempt = Attempt(
                    decision=f"{log}-{second & _HIGHEST_SEQ}",
                    at=at,
                    campaign=campaign,
                    basis=basis + value[end - size : end].decode() if size else basis,
                    result=result,
                    goods=goods,
                )
                part = attempt, at + (first >> 24 & 0xFFFFFFFF) if result != "pending" else 0
            else:
                end = value.index(b"\n", start) + 1
                part = _line(value[start:end])
                if isinstance(part, _Counted):
                    part = Attempt(**structs.asdict(part)), 0
            parts.append((part, value[start:end]))
            start = end
    except KeyError:
        raise UnknownTerm from None
    except (msgspec.DecodeError, ValueError, IndexError, struct.error) as error:
        raise StoreUnavailable(
            f"Unrecognised data in Redis, written by a newer dialgate or another program: {error}"
        ) from error
    return parts


# ---- entries ---------------------------------------------------------------------------------------------------------


def entry_line(draft: Draft, seq: int) -> bytes:
    line = _Written(
        seq, draft.at, draft.controller, draft.event, draft.actor, draft.channel, draft.proof, draft.sealed
    )
    return _encode(line) + b"\n"


def line_after_seq(draft: Draft) -> bytes:
    """Return the part of an entry's line after the sequence number, which the server assigns."""
    return entry_line(draft, 0)[_PLACE:]


def entries(value: bytes, subject: bytes) -> list[Entry]:
    return _entries(_parts(value, _AnyTerm()), subject)


def _entries(parts: Iterable[tuple[_Part, bytes]], subject: bytes) -> list[Entry]:
    lines = [part for part, _ in parts if isinstance(part, _Written)]
    return [
        Entry(subject=subject, **structs.asdict(line)) for line in sorted(lines, key=lambda line: line.seq)
    ]


def without_entries(value: bytes, seqs: Collection[int]) -> bytes:
    parts = _parts(value, _AnyTerm())
    return b"".join(raw for part, raw in parts if not isinstance(part, _Written) or part.seq not in seqs)


# ---- attempts --------------------------------------------------------------------------------------------------------


@lru_cache(4_096)
def encode_term(term: Term) -> bytes:
    """Return the id of a term and then its stored form."""
    body = _encode(term)
    return blake2b(body, digest_size=TERM_BYTES).digest() + body


def encode_attempt(attempt: Attempt) -> tuple[bytes, bytes]:
    """Return an attempt without a result, and its term, which must be stored with it."""
    kind, name = split_basis(attempt.basis)
    term = encode_term(Term(log_of(attempt.decision), attempt.campaign, kind, attempt.goods))
    call = attempt.at.to_bytes(6) + seq_of(attempt.decision).to_bytes(5)
    rest = name.encode()
    return b"".join([_PENDING, call, term[:TERM_BYTES], len(rest).to_bytes(2), rest]), term


def contains(value: bytes, record: bytes) -> bool:
    """Return whether an attempt is counted in `value`, with any result."""
    return record[_CALL:] in value


def term_ids(value: bytes) -> set[int]:
    terms = _AnyTerm()
    _parts(value, terms)
    return set(terms)


def _decision(part: _Ended | tuple[Attempt, Instant]) -> str:
    return part.decision if isinstance(part, _Ended) else part[0].decision


def _time(pair: tuple[Attempt, Instant]) -> Instant:
    return pair[0].at


def attempts(value: bytes, terms: TermById) -> list[tuple[Attempt, Instant]]:
    """Return the attempts, oldest first, each with the time of its result (0 if it has none)."""
    return _attempts(_parts(value, terms))


def _attempts(parts: Iterable[tuple[_Part, bytes]]) -> list[tuple[Attempt, Instant]]:
    by_decision: dict[str, tuple[Attempt, Instant]] = {}
    for part, _ in parts:
        if isinstance(part, tuple):
            by_decision[part[0].decision] = part
        elif isinstance(part, _Ended):
            attempt, ended = by_decision.get(part.decision, (None, 0))
            if attempt is not None and part.at >= ended:
                by_decision[part.decision] = structs.replace(attempt, result=part.result), part.at
    return sorted(by_decision.values(), key=_time)


def known(value: bytes, seq: int, terms: TermById) -> tuple[Known, bool]:
    """Return the state of a subject, and whether Redis may expire the value."""
    parts = _parts(value, terms)
    counted = tuple(attempt for attempt, _ in _attempts(parts))
    entered = _entries(parts, b"")
    if not entered:
        return Known(seq=seq, attempts=counted), open_silence(counted) is None
    return structs.replace(fold(entered), seq=seq, attempts=counted), False


def may_expire(value: bytes) -> bool:
    """Return whether Redis may expire the value.

    A value must be kept if it contains a ledger entry, or an abandoned call without a later answered call.
    """
    return known(value, 0, _AnyTerm())[1]


def with_result(
    value: bytes, decision: str, result: Result, at: Instant, terms: TermById
) -> tuple[bytes, Attempt, Attempt] | None:
    """Return the value with the result of an attempt, and the attempt before and after. None if it is not counted."""
    parts = _parts(value, terms)
    before, ended = next((pair for pair in _attempts(parts) if pair[0].decision == decision), (None, 0))
    if before is None:
        return None
    if at < ended:
        return value, before, before
    (raw, *_) = (
        raw for part, raw in reversed(parts) if isinstance(part, tuple) and part[0].decision == decision
    )
    if raw[0] >= _IS_ATTEMPT:
        head = bytes([_IS_ATTEMPT + RESULTS.index(result)]) + span_to_result(before, at).to_bytes(_CALL - 1)
        changed = value.replace(raw, head + raw[_CALL:])
    else:
        changed = value + _encode(_Ended(decision, at, result)) + b"\n"
    return changed, before, structs.replace(before, result=result)


def without_attempts(value: bytes, decisions: Collection[str], terms: TermById) -> bytes:
    parts = _parts(value, terms)
    return b"".join(
        raw for part, raw in parts if isinstance(part, _Written) or _decision(part) not in decisions
    )


def without_old(value: bytes, before: Instant) -> tuple[bytes, int]:
    """Return the value without attempts older than `before`, and how many these are.

    The newest abandoned call is kept if no later call was answered.
    """
    if value[0] >= _IS_ATTEMPT and int.from_bytes(value[_CALL : _CALL + 6]) >= before:
        return value, 0  # the first attempt is the oldest, so nothing needs to be decoded
    terms = _AnyTerm()
    counted = [attempt for attempt, _ in attempts(value, terms)]
    silent = open_silence(counted)
    old = {attempt.decision for attempt in counted if attempt.at < before and attempt is not silent}
    return without_attempts(value, old, terms) if old else value, len(old)
