"""One pass over a batch: from questions and what is known to answers, reservations and records. No I/O, no clock."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b

import msgspec
from msgspec import Struct, structs

from dialgate.core import local_time
from dialgate.core.decision import decide, lasts_until
from dialgate.core.decision_ids import owner_of
from dialgate.core.ledger_events import merge
from dialgate.core.model import SECOND, Attempt, CallerId, Decided, Decision, Facts, Grounds, Instant, Known
from dialgate.core.responses import Answer, recalled, stored, told
from dialgate.gate.caller_ids import Shown
from dialgate.gate.facts import Found, Gatherer, Question, call_id
from dialgate.store import Position, Reading, Remembered, Reservation

REPEATED = "="
REMEMBERED = 4_096
_encode = msgspec.json.Encoder().encode


class Inquiry:
    """What is to be decided at one instant, and what the store is asked for it: answers from `since` on."""

    def __init__(
        self, gatherer: Gatherer, now: Instant, since: Instant, questions: Sequence[Question]
    ) -> None:
        self.gatherer, self.now, self.since, self.questions = gatherer, now, since, questions
        self.subjects = [subject for question in questions for subject in question.subjects]
        self.keys = [question.key for question in questions if question.key]


class _Told(Struct, frozen=True):
    """What is told of a decision, and how it is remembered. `code`: as in `Batch.codes`."""

    answer: Answer
    stored: bytes
    code: str


class Judged(Struct, frozen=True):
    """A decision with its grounds (without a sequence), by which `digest` they are known in the log, and the instant from
    which on it may be another. `denial`: what is told of it, where that is the same whenever it is asked.

    `named` keeps alive what the key of this decision names by identity: else another object could come to bear it."""

    named: tuple[object, ...]
    facts: Facts
    grounds: Grounds
    digest: bytes
    until: Instant
    denial: _Told | None = None


class Batch:
    """Calls decided at one instant, recorded from sequence `first` on. Later calls see the attempts of earlier ones.

    `answers`, `codes` and `campaigns` stand in the order of the calls; `codes` holds the first reason code, nothing for an
    allow, and `REPEATED` for an answer given again; `campaigns` what a call is counted under: `other` where it is not one
    of the client's, for what a stranger asks is not its owner's to see. `grounds` are those among `bodies`, by digest.

    Most calls rest on equal facts, for facts hold nothing of the number; a decision is a function of its facts and
    nothing else, so it is made once for all of them (`judged`, which belongs to one gatherer), and written down once.
    `written`: the sequences of the grounds that the log holds already."""

    def __init__(
        self,
        gatherer: Gatherer,
        now: Instant,
        first: int,
        nonces: Iterator[bytes],
        written: Mapping[bytes, int],
        judged: dict[tuple[object, ...], Judged],
    ) -> None:
        self.now = now
        self.answers: list[Answer] = []
        self.codes: list[str] = []
        self.campaigns: list[str] = []
        self._shared = gatherer.config.shared
        self._owners: list[str] = []  # of the answers, where several controllers share the gate
        self.bodies: list[bytes] = []
        self.names: list[str] = []
        self.reservations: list[Reservation] = []
        self.remembered: list[Remembered] = []
        self.grounds: dict[bytes, int] = {}
        self._gatherer = gatherer
        self._first = first
        self._nonces = nonces
        self._written = written
        self._time = local_time.rfc3339(now)
        self._most = now + int(gatherer.config.settings.answer_seconds * SECOND)
        self._month = gatherer.keys.month(now)
        self._log = gatherer.keys.log
        self._attempts: dict[bytes, list[Attempt]] = {}
        self._given: dict[bytes, Answer] = {}
        self._judged = judged
        self._told: dict[int, tuple[Judged, _Told]] = {}

    @property
    def position(self) -> Position:
        """Where the log will stand once the batch is in it."""
        return Position(self._log, self._first + len(self.bodies) - 1, self._first)

    @property
    def before(self) -> Position:
        return Position(self._log, self._first - 1)

    def outside(self) -> Sequence[Answer]:
        """The answers as clients receive them: where several controllers share the gate, with ids that count nothing."""
        if not self._shared:
            return self.answers
        names = [answer.decision_id for answer in self.answers]
        keys = self._gatherer.keys
        ids = keys.ids.outside(zip(names, self._owners, strict=True))
        return [
            structs.replace(answer, decision_id=id_, reasons=keys.entries.worded(answer.reasons))
            for answer, id_ in zip(self.answers, ids, strict=True)
        ]

    def concerns(self, inquiry: Inquiry) -> bool:
        """It counts an attempt, or remembers an answer, that is asked about there."""
        return not (
            self._attempts.keys().isdisjoint(inquiry.subjects) and self._given.keys().isdisjoint(inquiry.keys)
        )

    def add(self, question: Question, known: Sequence[Known], remembered: Remembered | None) -> None:
        """`known`: what the store holds of the question's subjects; `remembered`: its earlier answer, if any.

        A deny is repeated as it was. An allow is repeated while it holds, until its outcome is reported, and only if it
        would be given again: a revocation, or the end of the permitted hours, also closes what was open. After that
        the same question is about another call, and counts."""
        campaign = question.line.campaign
        self.campaigns.append(campaign.id if campaign.known else "other")
        if self._shared:
            self._owners.append(question.line.controller.id or owner_of("", question.call.client))
        earlier = self._earlier(question, remembered)
        if earlier is not None and earlier.decision == "allow" and self._is_over(earlier, known):
            earlier = None
        if earlier is not None and earlier.decision == "deny":
            return self._repeat(earlier)
        shown = self._gatherer.shown(question)
        judged = self._judge(question, shown.fact, self._known(question, known, earlier))
        if earlier is not None and judged.grounds.decision.allow:
            return self._repeat(earlier)
        return self._conclude(question, shown, judged)

    def _earlier(self, question: Question, remembered: Remembered | None) -> Answer | None:
        if not question.key:
            return None
        given = self._given.get(question.key)
        if given is not None or remembered is None:
            return given
        shown = self._gatherer.shown(question)
        return recalled(remembered.answer, remembered.decision, question.e164, shown.number)

    def _is_over(self, earlier: Answer, known: Sequence[Known]) -> bool:
        return earlier.valid_until <= self._time or any(
            each.decision == earlier.decision_id and each.result != "pending"
            for held in known
            for each in held.attempts
        )

    def _known(self, question: Question, known: Sequence[Known], earlier: Answer | None) -> Known:
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

    def _judge(self, question: Question, shown: CallerId, known: Known) -> Judged:
        found = self._gatherer.files(question)
        # By identity, which is quick. Equal objects that are not the same are merely judged again.
        key = (
            id(question.line), id(question.number), id(question.zones), id(shown), id(known), id(found),
            question.call_type,
        )  # fmt: skip
        judged = self._judged.get(key)
        if judged is None or judged.until <= self.now:
            if len(self._judged) >= REMEMBERED:
                self._judged.clear()
            judged = self._judged[key] = self._judge_anew(question, shown, known, found)
        return judged

    def _judge_anew(self, question: Question, shown: CallerId, known: Known, found: Found) -> Judged:
        gatherer = self._gatherer
        config, law = gatherer.config, gatherer.config.laws[question.country]
        facts = gatherer.facts(question, shown, known, found, self.now)
        decision = decide(facts, law)
        grounds = Grounds(
            seq=0,
            facts=structs.replace(facts, at=0),
            decision=decision,
            country=question.country,
            law=config.law_hash[question.country],
            config=config.hash,
            snapshot=gatherer.snapshot.version if gatherer.snapshot else "",
            node=config.settings.node,
        )
        ends = min(lasts_until(facts, law, decision), gatherer.same_until(question, self.now))
        until = max(self.now + 1, ends)
        named = (question.line, question.number, question.zones, shown, known, found)
        digest = blake2b(_encode(grounds), digest_size=16).digest()
        denial = None if decision.allow else _told(decision, facts, self._most)
        return Judged(named, facts, grounds, digest, until, denial)

    def _grounds(self, judged: Judged) -> int:
        """The sequence of the entry that holds them; if there is none yet it is the next of this batch."""
        found = self._written.get(judged.digest) or self.grounds.get(judged.digest)
        if found is None:
            found = self.grounds[judged.digest] = self._first + len(self.bodies)
            self.bodies.append(_encode(structs.replace(judged.grounds, seq=found)))
        return found

    def _tell(self, judged: Judged) -> _Told:
        if judged.denial is not None:
            return judged.denial
        made = self._told.get(id(judged))
        if made is None:
            given = _told(judged.grounds.decision, judged.facts, self._most)
            made = self._told[id(judged)] = judged, given  # `judged` stays alive: it is named by identity
        return made[1]

    def _repeat(self, earlier: Answer) -> None:
        self.answers.append(earlier)
        self.codes.append(REPEATED)

    def _conclude(self, question: Question, shown: Shown, judged: Judged) -> None:
        given = self._tell(judged)
        grounds = self._grounds(judged)
        seq = self._first + len(self.bodies)
        name = f"{self._log}-{seq}"
        answer = structs.replace(given.answer, decision_id=name, to=question.e164, from_=shown.number)
        decision = judged.grounds.decision
        self.bodies.append(_encode(self._decided(question, shown, grounds, decision.allow, name, seq)))
        self.names.append(name)
        self.answers.append(answer)
        self.codes.append(given.code)
        if decision.allow:
            self._reserve(question, decision.basis, name)
        if question.key:
            self._given[question.key] = answer
            self.remembered.append(Remembered(question.key, self.now, given.stored, name))

    def _reserve(self, question: Question, basis: str, name: str) -> None:
        subject = question.subjects[0]
        attempt = Attempt(decision=name, at=self.now, campaign=question.line.campaign.id, basis=basis)
        self._attempts.setdefault(subject, []).append(attempt)
        self.reservations.append(Reservation(subject, attempt, question.subjects))

    def _decided(
        self, question: Question, shown: Shown, grounds: int, allow: bool, name: str, seq: int  # noqa: FBT001 - as it is recorded
    ) -> Decided:  # fmt: skip
        call, month = question.call, self._month
        return Decided(
            seq=seq,
            id=name,
            at=self.now,
            number=month.pseudonym(question.e164 or question.spoken),
            sealed=month.seal(question.spoken, next(self._nonces)),
            grounds=grounds,
            allow=allow,
            client=call.client,
            interface=call.interface,
            call_id=call_id(question, shown),
            question=month.masked(question.key, name) if question.key else b"",
            caller=month.pseudonym(shown.number) if shown.sealed else b"",
            caller_sealed=month.seal(shown.number, next(self._nonces)) if shown.sealed else b"",
        )


def decide_all(
    inquiry: Inquiry,
    reading: Reading,
    first: int,
    nonces: Iterator[bytes],
    written: Mapping[bytes, int],
    judged: dict[tuple[object, ...], Judged],
) -> Batch:
    """Decide the calls of an inquiry on what the store holds, in their order. Arguments as of `Batch`."""
    batch = Batch(inquiry.gatherer, inquiry.now, first, nonces, written, judged)
    known, answers = iter(reading.known), iter(reading.answers)
    for question in inquiry.questions:
        earlier = next(answers) if question.key else None
        batch.add(question, tuple([next(known) for _ in question.subjects]), earlier)
    return batch


def _told(decision: Decision, facts: Facts, most: Instant) -> _Told:
    answer = told(decision, facts, most)
    return _Told(answer, stored(answer), answer.reasons[0].code if answer.reasons else "")


_NOTHING = Known()
