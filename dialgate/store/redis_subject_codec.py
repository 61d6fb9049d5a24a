"""What is known of a subject in the shared store, as one value: a line of JSON for each thing that happened, oldest first.

    ["e",SEQ,AT,CONTROLLER,EVENT,ACTOR,CHANNEL,PROOF,SEALED]   an entry of the ledger
    ["a",DECISION,AT,CAMPAIGN,BASIS]                           an attempt
    ["r",DECISION,AT,RESULT]                                   what became of it

A line is added at the end and never changed, so a value that is the same is the same state. A new field goes last, with a
default. An attempt that comes again is counted anew; of two results the later stands.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct, structs

from dialgate.core.abandonment import open_silence
from dialgate.core.ledger_events import Draft, Entry, Event, fold
from dialgate.core.model import Attempt, Instant, Known, Result
from dialgate.store import StoreUnavailable

_PLACE: Final = len('["e",0')  # where a sequence ends that is not known yet


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


class _Became(Struct, frozen=True, array_like=True, tag="r", gc=False):
    decision: str
    at: Instant
    result: Result


_Line: TypeAlias = _Written | _Counted | _Became
_encode: Final = msgspec.json.Encoder().encode
_lines: Final = msgspec.json.Decoder(_Line).decode_lines


def _decode(value: bytes) -> list[_Line]:
    """Raises `StoreUnavailable`: what cannot be read may be a revocation."""
    try:
        return _lines(value)
    except msgspec.DecodeError as error:
        raise StoreUnavailable(
            f"Redis holds what a newer dialgate wrote, or nobody of ours: {error}"
        ) from error


def entry_line(draft: Draft, seq: int) -> bytes:
    line = _Written(
        seq, draft.at, draft.controller, draft.event, draft.actor, draft.channel, draft.proof, draft.sealed
    )
    return _encode(line) + b"\n"


def unnumbered(draft: Draft) -> bytes:
    """An entry's line without what stands before and at its sequence, which the server gives it."""
    return entry_line(draft, 0)[_PLACE:]


def attempt_line(attempt: Attempt) -> bytes:
    """Without its result."""
    return _encode(_Counted(attempt.decision, attempt.at, attempt.campaign, attempt.basis)) + b"\n"


def named(decision: str) -> bytes:
    """How the line of an attempt begins."""
    return _encode(["a", decision])[:-1] + b","


def result_line(decision: str, result: Result, at: Instant) -> bytes:
    return _encode(_Became(decision, at, result)) + b"\n"


def entries(value: bytes, subject: bytes) -> list[Entry]:
    found = [line for line in _decode(value) if isinstance(line, _Written)] if value else []
    return [_entry(line, subject) for line in sorted(found, key=lambda line: line.seq)]


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
    """Oldest first, with the instant of its result; 0 without one."""
    return _attempts(_decode(value)) if value else []


def _attempts(lines: Iterable[_Line]) -> list[tuple[Attempt, Instant]]:
    found: dict[str, tuple[Attempt, Instant]] = {}
    for line in lines:
        if isinstance(line, _Counted):
            found[line.decision] = (
                Attempt(decision=line.decision, at=line.at, campaign=line.campaign, basis=line.basis),
                0,
            )
        elif isinstance(line, _Became) and line.decision in found and line.at >= found[line.decision][1]:
            attempt = structs.replace(found[line.decision][0], result=line.result)
            found[line.decision] = attempt, line.at
    return sorted(found.values(), key=lambda each: (each[0].at, each[0].decision))


def known(value: bytes, seq: int) -> Known:
    lines = _decode(value)
    written = sorted((line for line in lines if isinstance(line, _Written)), key=lambda line: line.seq)
    folded = fold([_entry(line, b"") for line in written])
    return structs.replace(folded, seq=seq, attempts=tuple(attempt for attempt, _ in _attempts(lines)))


def mortal(value: bytes) -> bool:
    """Return whether the value may expire: it holds no entry of the ledger, and no abandoned call without a later answer."""
    lines = _decode(value)
    entered = any(isinstance(line, _Written) for line in lines)
    return not entered and open_silence(attempt for attempt, _ in _attempts(lines)) is None


def droppable(value: bytes, before: Instant) -> list[str]:
    """Return the decisions of the attempts older than `before`, without an abandoned call that no later answer followed."""
    held = [attempt for attempt, _ in attempts(value)]
    silent = open_silence(held)
    return [attempt.decision for attempt in held if attempt.at < before and attempt is not silent]


def uncounted(value: bytes, decisions: Collection[str]) -> bytes:
    """Without attempts and their results."""
    if not value:
        return b""
    return _kept(value, lambda line: isinstance(line, _Written) or line.decision not in decisions)


def erased(value: bytes, seqs: Collection[int]) -> bytes:
    """Without entries of the ledger."""
    return _kept(value, lambda line: not isinstance(line, _Written) or line.seq not in seqs)


def _kept(value: bytes, keep: Callable[[_Line], bool]) -> bytes:
    lines = zip(_decode(value), value.splitlines(keepends=True), strict=True)
    return b"".join(raw for line, raw in lines if keep(line))
