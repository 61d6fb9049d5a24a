"""The choice of a caller ID for a call that leaves it to the gate, as a pure function.

The rules judge each caller ID of the campaign as if the call presented it, so no rule is written twice. One of those that they
permit is chosen by the called person alone (rendezvous hashing): a person always sees the same number, and if a number leaves
the pool, only the persons who saw it see another. The choice does not spread calls or avoid a number that people block.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final

from msgspec import Struct, structs

from dialgate.core.decision import NOT_JUDGED, decide
from dialgate.core.law import Law
from dialgate.core.model import CallerId, Deny, Facts, Instant, Outcome, Pass
from dialgate.core.rules import CALLER_ID_RULES

_NAMED: Final = 8  # caller IDs in the reason, which is part of the record


class Pool(Struct, frozen=True):
    """The caller IDs that fit calls with equal facts from `since` until `until`, if proofs and configuration stay the same.

    If none fits, the only candidate is the campaign's first, and the rules deny the call with what it lacks.
    """

    candidates: tuple[CallerId, ...]
    since: Instant
    until: Instant

    def choose(self, subject: bytes) -> CallerId:
        """Return the caller ID for a person. `subject` is the keyed hash of the called number, the same on every node."""
        return max(self.candidates, key=lambda shown: _weight(subject, shown.number))


def _weight(subject: bytes, number: str) -> bytes:
    return blake2b(number.encode(), key=subject, digest_size=16).digest()


def judge_pool(pool: Sequence[CallerId], facts: Facts, law: Law, until: Instant) -> Pool:
    """Judge each caller ID of a campaign for calls with these facts to a number of which nothing is stored.

    `until` is when one of the facts changes.
    """
    fitting, left_out = list[CallerId](), list[str]()
    ends = [until, *[shown.proved_at for shown in pool if shown.proved_at > facts.at]]
    for shown in pool:
        outcomes = decide(structs.replace(facts, caller_id=shown), law).outcomes
        judged = [outcomes[name] for name in CALLER_ID_RULES]
        if fits(outcomes):
            fitting.append(shown)
            ends += [outcome.until for outcome in judged if isinstance(outcome, Pass) and outcome.until]
        else:
            denials = [outcome.code for outcome in judged if isinstance(outcome, Deny)]
            left_out.append(f"{shown.number} {denials[0] if denials else NOT_JUDGED.why}")
    candidates = fitting or pool[:1]
    chosen = _reason(len(fitting), left_out)
    return Pool(tuple([structs.replace(shown, chosen=chosen) for shown in candidates]), facts.at, min(ends))


def fits(outcomes: Mapping[str, Outcome]) -> bool:
    """Return whether the rules judged the caller ID and permit it."""
    judged = [outcomes[name] for name in CALLER_ID_RULES]
    return NOT_JUDGED not in judged and not any(isinstance(outcome, Deny) for outcome in judged)


def _reason(fit: int, left_out: Sequence[str]) -> str:
    text = f"{fit} of {fit + len(left_out)} fit"
    if not left_out:
        return text
    more = len(left_out) - _NAMED
    names = ", ".join(left_out[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"{text}; left out: {names}"
