"""Call lists, and proofs that a caller ID can be called back."""

from collections.abc import Iterable

from msgspec import Struct

from dialgate.core.model import Basis, Instant, Origin
from dialgate.store.faults import StoreUnavailable


class CallList(Struct, frozen=True, kw_only=True):
    """A loaded call list.

    `file` is the name of the number-set file. Each number in this file has a tag, which is an index into
    `bases`, `stated` and `places`. `stated[tag]` is true if the rows of the list explicitly gave the basis
    `directory`. `places[tag]` is the place declared in the rows, or "". `stated` and `places` are empty if
    an earlier version of dialgate loaded the list.
    """

    id: str
    controller: str
    campaigns: tuple[str, ...]
    bases: tuple[Basis, ...]
    origin: Origin
    file: str
    sha256: str
    numbers: int
    loaded_at: Instant
    actor: str
    retired_at: Instant = 0
    stated: tuple[bool, ...] = ()
    places: tuple[str, ...] = ()


class CallerIdProof(Struct, frozen=True, kw_only=True):
    """The result of a call back to `caller_id` at time `at`.

    `answered` is also true if somebody attested that the call was answered.
    """

    controller: str
    caller_id: str
    at: Instant
    kind: str
    answered: bool = True
    evidence: str = ""
    actor: str = ""


def refuse_lost_changes(
    before: tuple[Iterable[CallList], Iterable[CallerIdProof]],
    now: tuple[Iterable[CallList], Iterable[CallerIdProof]],
) -> None:
    """Raise `StoreUnavailable` if the store has lost the retirement of a call list, or a failed call back.

    `before` and `now` are the lists and proofs from two reads of the store. A loss shows that the store is an older
    copy, which could permit calls again. No log contains the lost changes, so an operator must repeat them.
    """
    retired = {(known.controller, known.id) for known in before[0] if known.retired_at}
    failed = {(proof.controller, proof.caller_id): proof.at for proof in before[1] if not proof.answered}
    lost = [
        f"the call list {known.id} of {known.controller} is no longer retired; retire it again"
        for known in now[0]
        if (known.controller, known.id) in retired and not known.retired_at
    ] + [
        f"the last call back to {proof.caller_id} is missing; record it again for {proof.controller}"
        for proof in now[1]
        if proof.at < failed.get((proof.controller, proof.caller_id), proof.at)
    ]
    if lost:
        raise StoreUnavailable(f"the store is an older copy: {'; '.join(lost)}")
