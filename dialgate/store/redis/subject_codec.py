"""The encoding of a subject's state in the shared store: one line of JSON per event, oldest first.

    ["e",SEQ,AT,CONTROLLER,EVENT,ACTOR,CHANNEL,PROOF,SEALED]   an entry of the ledger
    ["a",DECISION,AT,CAMPAIGN,BASIS,GOODS]                     an attempt
    ["r",DECISION,AT,RESULT]                                   the result of an attempt

Lines are appended and never changed, so equal values mean equal state. New fields go last, with a default. A
repeated attempt replaces the earlier one. Of two results, the later one is kept.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct, structs

from dialgate.core.abandonment import open_silence
from dialgate.core.ledger_events import Draft, Entry, Event
from dialgate.core.ledger_state import fold
from dialgate.core.model import Attempt, Instant, Known, Result
from dialgate.store import StoreUnavailable

_PLACE: Final = len('["e",0')  # the part before and including an unknown sequence


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


_Line: TypeAlias = _Written | _Counted | _Ended
_encode: Final = msgspec.json.Encoder().encode
_lines: Final = msgspec.json.Decoder(_Line).decode_lines


def _decode(value: bytes) -> list[_Line]:
    """Decode the value of a subject.

    Raises `StoreUnavailable` for an unknown line, because it may be a revocation.
    """
    try:
        return _lines(value)
    except msgspec.DecodeError as error:
        raise StoreUnavailable(
            f"Unrecognised data in Redis, written by a newer dialgate or another program: {error}"
        ) from error


def entry_line(draft: Draft, seq: int) -> bytes:
    line = _Written(
        seq, draft.at, draft.controller, draft.event, draft.actor, draft.channel, draft.proof, draft.sealed
    )
    return _encode(line) + b"\n"


def line_after_seq(draft: Draft) -> bytes:
    """Return the part of an entry's line after the sequence number, which the server assigns."""
    return entry_line(draft, 0)[_PLACE:]


def attempt_line(attempt: Attempt) -> bytes:
    """Return the line for an attempt, without its result."""
    line = _Counted(attempt.decision, attempt.at, attempt.campaign, attempt.basis, attempt.goods)
    return _encode(line) + b"\n"


def attempt_prefix(decision: str) -> bytes:
    return _encode(["a", decision])[:-1] + b","


def result_prefix(decision: str) -> bytes:
    return _encode(["r", decision])[:-1] + b","


def result_line(decision: str, result: Result, at: Instant) -> bytes:
    return _encode(_Ended(decision, at, result)) + b"\n"


def entries(value: bytes, subject: bytes) -> list[Entry]:
    lines = [line for line in _decode(value) if isinstance(line, _Written)]
    return [_entry(line, subject) for line in sorted(lines, key=lambda line: line.seq)]


def _entry(line: _Written, subject: bytes) -> Entry:
    return Entry(
        seq=line.seq,
        at=line.at,
        controller=line.controller,
        subject=subject,
        event=line.event,
        actor=line.actor,
        channel=line.channel,
        proof=line.proof,
        sealed=line.sealed,
    )


def attempts(value: bytes) -> list[tuple[Attempt, Instant]]:
    """Return the attempts, oldest first, each with the time of its result (0 if it has none)."""
    return _attempts(_decode(value))


def _attempts(lines: Iterable[_Line]) -> list[tuple[Attempt, Instant]]:
    by_decision: dict[str, tuple[Attempt, Instant]] = {}
    for line in lines:
        if isinstance(line, _Counted):
            by_decision[line.decision] = (
                Attempt(
                    decision=line.decision,
                    at=line.at,
                    campaign=line.campaign,
                    basis=line.basis,
                    goods=line.goods,
                ),
                0,
            )
        elif (
            isinstance(line, _Ended)
            and line.decision in by_decision
            and line.at >= by_decision[line.decision][1]
        ):
            attempt = structs.replace(by_decision[line.decision][0], result=line.result)
            by_decision[line.decision] = attempt, line.at
    return sorted(by_decision.values(), key=lambda pair: (pair[0].at, pair[0].decision))


def known(value: bytes, seq: int) -> Known:
    lines = _decode(value)
    written = sorted((line for line in lines if isinstance(line, _Written)), key=lambda line: line.seq)
    folded = fold([_entry(line, b"") for line in written])
    return structs.replace(folded, seq=seq, attempts=tuple(attempt for attempt, _ in _attempts(lines)))


def may_expire(value: bytes) -> bool:
    """Return whether Redis is allowed to expire the value.

    A value must be kept if it contains a ledger entry, or an abandoned call without a later answered call.
    """
    lines = _decode(value)
    entered = any(isinstance(line, _Written) for line in lines)
    return not entered and open_silence(attempt for attempt, _ in _attempts(lines)) is None


def old_decisions(value: bytes, before: Instant) -> list[str]:
    """Return the decisions whose attempts are older than `before`.

    The newest abandoned call is omitted if no later call was answered.
    """
    counted = [attempt for attempt, _ in attempts(value)]
    silent = open_silence(counted)
    return [attempt.decision for attempt in counted if attempt.at < before and attempt is not silent]


def without_attempts(value: bytes, decisions: Collection[str]) -> bytes:
    return _filter_lines(value, lambda line: isinstance(line, _Written) or line.decision not in decisions)


def without_entries(value: bytes, seqs: Collection[int]) -> bytes:
    return _filter_lines(value, lambda line: not isinstance(line, _Written) or line.seq not in seqs)


def _filter_lines(value: bytes, keep: Callable[[_Line], bool]) -> bytes:
    lines = zip(_decode(value), value.splitlines(keepends=True), strict=True)
    return b"".join(raw for line, raw in lines if keep(line))
