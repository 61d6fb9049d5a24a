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
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from hashlib import blake2b
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct, structs

from dialgate.core.abandonment import open_silence
from dialgate.core.decision_ids import log_of, seq_of
from dialgate.core.ledger_events import Entry
from dialgate.core.ledger_state import fold
from dialgate.core.model import Attempt, Instant, Known, Result
from dialgate.store import StoreUnavailable
from dialgate.store.attempts import RESULTS, span_to_result, split_basis
from dialgate.store.encoded_entries import AnyDraft, EncodedEntry, encoded

_PLACE: Final = len('["e",0')  # the part before and including an unknown sequence
_HEAD: Final = struct.Struct(">BIHIBIQH")
_IS_ATTEMPT: Final = 0x80  # no JSON begins with such a byte
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
    event: msgspec.Raw
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


_Call: TypeAlias = tuple[Attempt, Instant]  # with the time of its result, or 0
_encode: Final = msgspec.json.Encoder().encode
_line: Final = msgspec.json.Decoder(_Written | _Counted | _Ended).decode


class UnknownTerm(KeyError):
    """Raised if the terms passed to a function lack the term of an attempt."""


class _AnyTerm(dict[int, Term]):
    """A mapping for functions that need no texts. It collects the ids."""

    def __missing__(self, term_id: int) -> Term:
        return self.setdefault(term_id, Term(str(term_id), "", "", ""))


def _parse(
    value: bytes, terms: TermById, subject: bytes = b""
) -> tuple[list[EncodedEntry], list[_Call], list[_Ended]]:
    """Return the entries of a subject, oldest first, its attempts and the lines of its results.

    Raises `StoreUnavailable` for an unknown form, because it may be a revocation, and `UnknownTerm`.
    """
    written: list[EncodedEntry] = []
    calls: list[_Call] = []
    ended: list[_Ended] = []
    start = 0
    try:
        while start < len(value):
            if value[start] >= _IS_ATTEMPT:
                call, start = _read_attempt(value, start, terms)
                calls.append(call)
                continue
            end = value.index(b"\n", start) + 1
            line = _line(value[start:end])
            start = end
            if isinstance(line, _Written):
                event = str(line.event, "utf-8")
                written.append(
                    EncodedEntry(
                        line.seq, subject, line.at, line.channel, line.proof, event, line.controller, line.actor, line.sealed
                    )
                )  # fmt: skip
            elif isinstance(line, _Ended):
                ended.append(line)
            else:
                calls.append((Attempt(**structs.asdict(line)), 0))
    except KeyError:
        raise UnknownTerm from None
    except (msgspec.DecodeError, ValueError, IndexError, struct.error) as error:
        raise StoreUnavailable(
            f"Unrecognised data in Redis, written by a newer dialgate or another program: {error}"
        ) from error
    written.sort(key=attrgetter("seq"))
    return written, calls, ended


def _read_attempt(value: bytes, start: int, terms: TermById) -> tuple[_Call, int]:
    """Return the attempt at the offset `start`, and the offset of its end."""
    kind, span, at_high, at, seq_high, seq, term_id, size = _HEAD.unpack_from(value, start)
    log, campaign, basis, goods = terms[term_id]
    end, at = start + _HEAD.size + size, at_high << 32 | at
    result = RESULTS[kind - _IS_ATTEMPT]
    attempt = Attempt(
        decision=f"{log}-{seq_high << 32 | seq}",
        at=at,
        campaign=campaign,
        basis=basis + value[end - size : end].decode() if size else basis,
        result=result,
        goods=goods,
    )
    return (attempt, at + span if result != "pending" else 0), end


def _split(value: bytes) -> list[bytes]:
    """Return the bytes of each entry, attempt and line of a result. Raises `StoreUnavailable`."""
    _parse(value, _AnyTerm())
    parts: list[bytes] = []
    start = 0
    while start < len(value):
        if value[start] >= _IS_ATTEMPT:
            end = start + _HEAD.size + _HEAD.unpack_from(value, start)[-1]
        else:
            end = value.index(b"\n", start) + 1
        parts.append(value[start:end])
        start = end
    return parts


# ---- entries ---------------------------------------------------------------------------------------------------------


def entry_line(draft: AnyDraft, seq: int) -> bytes:
    _, _, at, channel, proof, event, controller, actor, sealed = structs.astuple(encoded(draft))
    line = _Written(seq, at, controller, msgspec.Raw(event), actor, channel, proof, sealed)
    return _encode(line) + b"\n"


def line_after_seq(draft: AnyDraft) -> bytes:
    """Return the part of an entry's line after the sequence number, which the server assigns."""
    return entry_line(draft, 0)[_PLACE:]


def entries(value: bytes, subject: bytes) -> list[Entry]:
    return [entry.decoded() for entry in encoded_entries(value, subject)]


def encoded_entries(value: bytes, subject: bytes) -> list[EncodedEntry]:
    return _parse(value, _AnyTerm(), subject)[0]


def without_entries(value: bytes, seqs: Collection[int]) -> bytes:
    return b"".join(
        part for part in _split(value) if all(entry.seq not in seqs for entry in encoded_entries(part, b""))
    )


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
    _parse(value, terms)
    return set(terms)


def attempts(value: bytes, terms: TermById) -> list[_Call]:
    """Return the attempts, oldest first, each with the time of its result (0 if it has none)."""
    _, calls, ended = _parse(value, terms)
    return _merge(calls, ended)


def _merge(calls: Sequence[_Call], ended: Sequence[_Ended]) -> list[_Call]:
    by_decision = {call[0].decision: call for call in calls}
    for line in ended:
        attempt, result_at = by_decision.get(line.decision, (None, 0))
        if attempt is not None and line.at >= result_at:
            by_decision[line.decision] = structs.replace(attempt, result=line.result), line.at
    return sorted(by_decision.values(), key=lambda call: call[0].at)


def known(value: bytes, seq: int, terms: TermById) -> tuple[Known, bool]:
    """Return the state of a subject, and whether Redis may expire the value.

    A value must be kept if it contains a ledger entry, or an abandoned call without a later answered call.
    """
    written, calls, ended = _parse(value, terms)
    counted = tuple([attempt for attempt, _ in _merge(calls, ended)])
    if written:
        return structs.replace(fold([entry.decoded() for entry in written]), seq=seq, attempts=counted), False
    return Known(seq=seq, attempts=counted), open_silence(counted) is None


def may_expire(value: bytes) -> bool:
    return known(value, 0, _AnyTerm())[1]


def with_result(
    value: bytes, decision: str, result: Result, at: Instant, terms: TermById
) -> tuple[bytes, Attempt, Attempt] | None:
    """Return the value with the result of an attempt, and the attempt before and after. None if it is not counted."""
    before, ended = next((call for call in attempts(value, terms) if call[0].decision == decision), (None, 0))
    if before is None:
        return None
    if at < ended:
        return value, before, before
    (part, *_) = (
        part
        for part in reversed(_split(value))
        if any(call.decision == decision for call, _ in _parse(part, terms)[1])
    )
    if part[0] >= _IS_ATTEMPT:
        head = bytes([_IS_ATTEMPT + RESULTS.index(result)]) + span_to_result(before, at).to_bytes(_CALL - 1)
        changed = value.replace(part, head + part[_CALL:])
    else:
        changed = value + _encode(_Ended(decision, at, result)) + b"\n"
    return changed, before, structs.replace(before, result=result)


def without_attempts(value: bytes, decisions: AbstractSet[str], terms: TermById) -> bytes:
    """Return the value without some attempts and their results."""
    kept = []
    for part in _split(value):
        _, calls, ended = _parse(part, terms)
        if decisions.isdisjoint([*(call.decision for call, _ in calls), *(line.decision for line in ended)]):
            kept.append(part)
    return b"".join(kept)


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
