"""One pass over a batch: from questions and what is known to answers, reservations and records. No I/O, no clock."""

from collections.abc import Iterator
from typing import cast

import msgspec
from msgspec import Raw, Struct, structs

from dialgate import localtime
from dialgate.answers import Answer, recalled, stored, told
from dialgate.decision import decide
from dialgate.gather import Gatherer, Question, without_number
from dialgate.ledger import merge
from dialgate.model import SECOND, Attempt, Decision, Facts, Instant, Known, Record
from dialgate.settings import Line
from dialgate.store import Position, Remembered, Reservation

REPEATED = "="
_encode = msgspec.json.Encoder().encode


class _Judged(Struct, frozen=True, gc=False):
    """A decision, what is told of it, and how it goes into a record with the facts it rests on.

    `line` and `facts` keep alive what the key of this decision names by identity: else another object could come to
    bear it."""

    line: Line
    facts: Facts
    decision: Decision
    answer: Answer
    code: str
    raw_facts: Raw
    raw_decision: Raw


class Batch:
    """Calls decided at one instant, recorded from sequence `first` on. Later calls see the attempts of earlier ones.

    `answers` and `codes` stand in the order of the calls; `codes` holds the first reason code, nothing for an allow,
    and `REPEATED` for an answer given again.

    Most calls of a batch rest on equal facts, for facts hold nothing of the number; a decision is a function of its
    facts and nothing else, so it is made, and put into the words of a record, once for all of them."""

    def __init__(self, gatherer: Gatherer, now: Instant, first: int, nonces: Iterator[bytes]) -> None:
        self.now = now
        self.answers: list[Answer] = []
        self.codes: list[str] = []
        self.bodies: list[bytes] = []
        self.names: list[str] = []
        self.reservations: list[Reservation] = []
        self.remembered: list[Remembered] = []
        self._gatherer = gatherer
        self._first = first
        self._nonces = nonces
        self._time = localtime.rfc3339(now)
        self._most = now + int(gatherer.config.settings.answer_seconds * SECOND)
        self._month = gatherer.keys.month(now)
        # What every record of the batch says.
        self._log = gatherer.keys.log
        self._laws, self._config = gatherer.config.law_hash, gatherer.config.hash
        self._snapshot = gatherer.snapshot.version if gatherer.snapshot else ""
        self._node = gatherer.config.settings.node
        self._attempts: dict[bytes, list[Attempt]] = {}
        self._given: dict[bytes, Answer] = {}
        self._judged: dict[tuple[object, ...], _Judged] = {}

    @property
    def position(self) -> Position:
        """Where the log will stand once the batch is in it."""
        return Position(self._log, self._first + len(self.bodies) - 1)

    @property
    def before(self) -> Position:
        return Position(self._log, self._first - 1)

    def add(self, question: Question, known: list[Known], remembered: bytes | None) -> None:
        """`known`: what the store holds of the question's subjects; `remembered`: its earlier answer, if any.

        A deny is repeated as it was. An allow is repeated while it holds, until its outcome is reported, and only if it
        would be given again: a revocation, or the end of the permitted hours, also closes what was open. After that
        the same question is about another call, and counts."""
        earlier = self._earlier(question, remembered)
        if earlier is not None and earlier.decision == "allow" and self._is_over(earlier, known):
            earlier = None
        if earlier is not None and earlier.decision == "deny":
            return self._repeat(earlier)
        judged = self._judge(question, self._known(question, known, earlier))
        if earlier is not None and judged.decision.allow:
            return self._repeat(earlier)
        return self._conclude(question, known, judged)

    def _earlier(self, question: Question, remembered: bytes | None) -> Answer | None:
        if not question.key:
            return None
        given = self._given.get(question.key)
        return given if given is not None or remembered is None else recalled(remembered, question.e164)

    def _is_over(self, earlier: Answer, known: list[Known]) -> bool:
        return earlier.valid_until <= self._time or any(
            each.decision == earlier.decision_id and each.result != "pending"
            for held in known
            for each in held.attempts
        )

    def _known(self, question: Question, known: list[Known], earlier: Answer | None) -> Known:
        """Everything that binds the call: with the attempts of this batch, without the one it repeats."""
        if not known:
            return _NOTHING
        own, everyone = known
        merged = merge(own, everyone)
        pending = self._attempts.get(question.subjects[0])
        if pending is None and earlier is None:
            return merged
        name = earlier.decision_id if earlier is not None else ""
        counted = tuple(each for each in (*merged.attempts, *(pending or ())) if each.decision != name)
        return structs.replace(merged, attempts=counted)

    def _judge(self, question: Question, known: Known) -> _Judged:
        listings, registries = self._gatherer.files(question)
        # By identity, which is quick. Equal objects that are not the same are merely judged again.
        key = (
            id(question.line), id(question.number), id(known), question.call_type, question.call.from_,
            question.zones, *map(id, listings), *map(id, registries),
        )  # fmt: skip
        judged = self._judged.get(key)
        if judged is None:
            facts = self._gatherer.facts(question, known, listings, registries, self.now)
            decision = decide(facts, self._gatherer.config.laws[question.country])
            answer = told(decision, facts, self._most)
            code = answer.reasons[0].code if answer.reasons else ""
            judged = _Judged(
                question.line, facts, decision, answer, code, Raw(_encode(facts)), Raw(_encode(decision))
            )
            self._judged[key] = judged
        return judged

    def _repeat(self, earlier: Answer) -> None:
        self.answers.append(earlier)
        self.codes.append(REPEATED)

    def _conclude(self, question: Question, known: list[Known], judged: _Judged) -> None:
        number = self._first + len(self.bodies)
        name = f"{self._log}-{number}"
        answer = structs.replace(judged.answer, decision_id=name, to=question.e164)
        self.bodies.append(_encode(self._recorded(question, judged, name, number)))
        self.names.append(name)
        self.answers.append(answer)
        self.codes.append(judged.code)
        if judged.decision.allow:
            self._reserve(question, known, judged.decision.basis, name)
        if question.key:
            self._given[question.key] = answer
            self.remembered.append(Remembered(question.key, self.now, stored(answer), name))

    def _reserve(self, question: Question, known: list[Known], basis: str, name: str) -> None:
        subject = question.subjects[0]
        attempt = Attempt(decision=name, at=self.now, campaign=question.line.campaign.id, basis=basis)
        self._attempts.setdefault(subject, []).append(attempt)
        self.reservations.append(Reservation(subject, attempt, question.subjects, tuple(known)))

    def _recorded(self, question: Question, judged: _Judged, name: str, number: int) -> Record:
        call = question.call
        return Record(
            seq=number,
            id=name,
            at=self.now,
            time=self._time,
            number=self._month.pseudonym(question.e164 or question.spoken),
            sealed=self._month.seal(question.spoken, next(self._nonces)),
            facts=cast(Facts, judged.raw_facts),
            decision=cast(Decision, judged.raw_decision),
            country=question.country,
            law=self._laws[question.country],
            config=self._config,
            snapshot=self._snapshot,
            client=call.client,
            interface=call.interface,
            call_id=without_number(call.call_id, question.e164),
            node=self._node,
            question=question.key,
        )


_NOTHING = Known()
