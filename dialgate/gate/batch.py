"""Decisions on the calls in a batch, made from facts and stored state. No I/O, and no access to the clock."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b

import msgspec
from msgspec import Struct, structs

from dialgate.core import local_time
from dialgate.core.decision import decide, lasts_until
from dialgate.core.decision_ids import owner_of
from dialgate.core.ledger_state import merge
from dialgate.core.model import SECOND, Attempt, CallerId, Decided, Decision, Facts, Grounds, Instant, Known
from dialgate.core.responses import Answer, decode_answer, encode_answer, make_answer, valid_until
from dialgate.gate.caller_ids import Presentation
from dialgate.gate.facts import FileFacts, Gatherer, Question, call_id
from dialgate.store import AttemptPosition, Reading, Remembered, Reservation

REPEATED = "="
REMEMBERED = 4_096
_encode = msgspec.json.Encoder().encode


class BatchQuery:
    """A batch's questions and the keys to read from the store. Answers given before `since` are ignored."""

    def __init__(
        self, gatherer: Gatherer, now: Instant, since: Instant, questions: Sequence[Question]
    ) -> None:
        self.gatherer, self.now, self.since, self.questions = gatherer, now, since, questions
        self.subjects = [subject for question in questions for subject in question.subjects]
        self.keys = [question.key for question in questions if question.key]


class _AnswerTemplate(Struct, frozen=True):
    """An answer and its stored form, without the decision id, the called number and the full caller ID."""

    answer: Answer
    encoded: bytes
    code: str


class Verdict(Struct, frozen=True):
    """A decision, valid until `until` for every call with the same facts.

    `digest` identifies the grounds in the log. For a denial, `denial` holds the answer template, which does not depend
    on the time of the batch. The cache key consists of object ids. `references` keeps these objects alive, so that no
    id is reused.
    """

    references: tuple[object, ...]
    facts: Facts
    grounds: Grounds
    digest: bytes
    until: Instant
    denial: _AnswerTemplate | None = None


class _UsedVerdict(Struct, frozen=True):
    """A verdict used in one batch. `grounds` is the sequence number of the log entry with its grounds.

    The field `verdict` keeps the `Verdict` object alive, so that no other verdict gets the same `id()`.
    """

    verdict: Verdict
    template: _AnswerTemplate
    grounds: int


class Batch:
    """Calls decided at one instant, in order. Each decision counts the attempts of the earlier calls in the batch.

    The log numbers its records from `first`. `answers` and `codes` follow the order of the calls. A code is the first
    reason code of a denial, "" for a permitted call, or `REPEATED` for an answer given before.

    Facts do not contain the number, so most calls have equal facts. They share one decision, cached in `verdicts`, and
    one record of its grounds in the log. `grounds` maps the digest of each grounds record in this batch to its sequence
    number. `log_grounds` does the same for grounds records that are already in the log.
    """

    def __init__(
        self,
        query: BatchQuery,
        first: int,
        nonces: Iterator[bytes],
        log_grounds: Mapping[bytes, int],
        verdicts: dict[tuple[object, ...], Verdict],
    ) -> None:
        gatherer, now = query.gatherer, query.now
        self.now = now
        self.answers: list[Answer] = []
        self.codes: list[str] = []
        self._questions = query.questions
        self.bodies: list[bytes] = []
        self.names: list[str] = []
        self.written: dict[str, int] = {}  # bytes of the records, by client
        self.reservations: list[Reservation] = []
        self.remembered: list[Remembered] = []
        self.grounds: dict[bytes, int] = {}
        self._gatherer = gatherer
        self._first = first
        self._nonces = nonces
        self._log_grounds = log_grounds
        self._time = local_time.rfc3339(now)
        self._most = now + int(gatherer.config.settings.answer_seconds * SECOND)
        self._month = gatherer.keys.month(now)
        self._log = gatherer.keys.log
        self._attempts: dict[bytes, list[Attempt]] = {}
        self._answers_by_key: dict[bytes, Answer] = {}
        self._verdicts = verdicts
        self._used: dict[int, _UsedVerdict] = {}  # by the verdict's object id

    @property
    def position(self) -> AttemptPosition:
        """The log's position after the batch is recorded."""
        return AttemptPosition(self._log, self._first + len(self.bodies) - 1, self._first)

    @property
    def before(self) -> AttemptPosition:
        return AttemptPosition(self._log, self._first - 1)

    @property
    def campaigns(self) -> list[str]:
        """The metric label of each call's campaign, or `other` if the client may not use the campaign.

        The owner of a campaign must not see other clients' requests.
        """
        lines = (question.line.campaign for question in self._questions)
        return [campaign.id if campaign.known else "other" for campaign in lines]

    def public_answers(self) -> Sequence[Answer]:
        """Return the answers as clients receive them.

        If controllers share a gate, decision ids are encrypted. Plain ids are consecutive, so they would show a
        controller how many calls the other controllers make.
        """
        if not self._gatherer.config.shared:
            return self.answers
        names = [answer.decision_id for answer in self.answers]
        owners = [owner_of(question.line.controller.id, question.call.client) for question in self._questions]
        keys = self._gatherer.keys
        ids = keys.ids.outside(zip(names, owners, strict=True))
        return [
            structs.replace(answer, decision_id=id_, reasons=keys.entries.worded(answer.reasons))
            for answer, id_ in zip(self.answers, ids, strict=True)
        ]

    def concerns(self, query: BatchQuery) -> bool:
        """Return whether this batch writes an attempt or answer that `query` reads."""
        return not (
            self._attempts.keys().isdisjoint(query.subjects)
            and self._answers_by_key.keys().isdisjoint(query.keys)
        )

    def add(self, question: Question, known: Sequence[Known], remembered: Remembered | None) -> None:
        """Decide the next call.

        `known` holds the state of the called number from the store. `remembered` is the stored answer to an earlier
        request for the same call.

        An earlier denial is repeated. An earlier `allow` is repeated only if it has not expired, no outcome was
        reported, and a new decision also permits the call. A revocation since the earlier answer is therefore
        respected, and the answer ends no later than the new decision. In all other cases, the request is a new call.
        """
        presentation = self._gatherer.presentation(question)
        earlier = self._answers_by_key.get(question.key)
        if earlier is None and remembered is not None:
            earlier = decode_answer(
                remembered.answer, remembered.decision, question.e164, presentation.number
            )
        if earlier is not None and earlier.decision == "allow" and self._is_over(earlier, known):
            earlier = None
        if earlier is not None and earlier.decision == "deny":
            return self._repeat(earlier)
        verdict = self._judge(question, presentation.fact, self._merge_known(question, known, earlier))
        if earlier is not None and verdict.grounds.decision.allow:
            end = min(earlier.valid_until, valid_until(verdict.grounds.decision, self._most))
            return self._repeat(structs.replace(earlier, valid_until=end))
        return self._conclude(question, presentation, verdict)

    def _is_over(self, earlier: Answer, known: Sequence[Known]) -> bool:
        return earlier.valid_until <= self._time or any(
            attempt.decision == earlier.decision_id and attempt.result != "pending"
            for state in known
            for attempt in state.attempts
        )

    def _merge_known(self, question: Question, known: Sequence[Known], earlier: Answer | None) -> Known:
        """Return the stored state plus the attempts in this batch, minus the attempt of `earlier`."""
        if not known:
            return _NOTHING
        own, everyone = known
        merged = merge(own, everyone)
        pending = self._attempts.get(question.subjects[0])
        if pending is None and earlier is None:
            return merged
        attempts = (*merged.attempts, *(pending or ()))
        if earlier is not None:
            attempts = tuple(attempt for attempt in attempts if attempt.decision != earlier.decision_id)
        return structs.replace(merged, attempts=attempts)

    def _judge(self, question: Question, caller_id: CallerId, known: Known) -> Verdict:
        file_facts = self._gatherer.files(question)
        # Compare by identity, which is fast. Equal objects that are not identical only cost another decision.
        key = (
            id(question.line), id(question.number), id(question.zones), id(caller_id), id(known), id(file_facts),
            question.call_type,
        )  # fmt: skip
        verdict = self._verdicts.get(key)
        if verdict is None or verdict.until <= self.now:
            if len(self._verdicts) >= REMEMBERED:
                self._verdicts.clear()
            verdict = self._verdicts[key] = self._decide(question, caller_id, known, file_facts)
        return verdict

    def _decide(
        self, question: Question, caller_id: CallerId, known: Known, file_facts: FileFacts
    ) -> Verdict:
        gatherer = self._gatherer
        config, law = gatherer.config, gatherer.config.laws[question.country]
        facts = gatherer.facts(question, caller_id, known, file_facts, self.now)
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
        ends = min(lasts_until(facts, law, decision), gatherer.same_until(facts, law))
        until = max(self.now + 1, ends)
        references = (question.line, question.number, question.zones, caller_id, known, file_facts)
        digest = blake2b(_encode(grounds), digest_size=16).digest()
        denial = None if decision.allow else _make_template(decision, facts, self._most)
        return Verdict(references, facts, grounds, digest, until, denial)

    def _use(self, verdict: Verdict, client: str) -> _UsedVerdict:
        """Return the verdict with its answer template. Grounds that are not yet in the log are added to this batch."""
        template = verdict.denial or _make_template(verdict.grounds.decision, verdict.facts, self._most)
        seq = self._log_grounds.get(verdict.digest) or self.grounds.get(verdict.digest)
        if seq is None:
            seq = self.grounds[verdict.digest] = self._first + len(self.bodies)
            self._append(_encode(structs.replace(verdict.grounds, seq=seq)), client)
        used = self._used[id(verdict)] = _UsedVerdict(verdict, template, seq)
        return used

    def _repeat(self, earlier: Answer) -> None:
        self.answers.append(earlier)
        self.codes.append(REPEATED)

    def _conclude(self, question: Question, presentation: Presentation, verdict: Verdict) -> None:
        used = self._used.get(id(verdict)) or self._use(verdict, question.call.client)
        template = used.template
        seq = self._first + len(self.bodies)
        name = f"{self._log}-{seq}"
        answer = structs.replace(
            template.answer, decision_id=name, to=question.e164, from_=presentation.number
        )
        decision = verdict.grounds.decision
        record = self._record(question, presentation, used.grounds, decision.allow, name, seq)
        self._append(_encode(record), question.call.client)
        self.names.append(name)
        self.answers.append(answer)
        self.codes.append(template.code)
        if decision.allow:
            self._reserve(question, decision.basis, name)
        if question.key:
            self._answers_by_key[question.key] = answer
            self.remembered.append(Remembered(question.key, self.now, template.encoded, name))

    def _append(self, body: bytes, client: str) -> None:
        self.bodies.append(body)
        self.written[client] = self.written.get(client, 0) + len(body)

    def _reserve(self, question: Question, basis: str, name: str) -> None:
        subject = question.subjects[0]
        campaign = question.line.campaign
        attempt = Attempt(decision=name, at=self.now, campaign=campaign.id, basis=basis, goods=campaign.goods)
        self._attempts.setdefault(subject, []).append(attempt)
        self.reservations.append(Reservation(subject, attempt, question.subjects))

    def _record(
        self, question: Question, presentation: Presentation, grounds: int, allow: bool, name: str, seq: int  # noqa: FBT001 - a field of the record
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
            call_id=call_id(question, presentation),
            question=month.mask(question.key, name) if question.key else b"",
            caller=month.pseudonym(presentation.number) if presentation.sealed else b"",
            caller_sealed=month.seal(presentation.number, next(self._nonces)) if presentation.sealed else b"",
        )


def decide_all(
    query: BatchQuery,
    reading: Reading,
    first: int,
    nonces: Iterator[bytes],
    log_grounds: Mapping[bytes, int],
    verdicts: dict[tuple[object, ...], Verdict],
) -> Batch:
    """Decide the calls of `query` in order, from the state in `reading`. For the other arguments, see `Batch`."""
    batch = Batch(query, first, nonces, log_grounds, verdicts)
    known, answers = iter(reading.known), iter(reading.answers)
    for question in query.questions:
        states = (next(known), next(known)) if question.subjects else ()
        batch.add(question, states, next(answers) if question.key else None)
    return batch


def _make_template(decision: Decision, facts: Facts, most: Instant) -> _AnswerTemplate:
    answer = make_answer(decision, facts, most)
    return _AnswerTemplate(answer, encode_answer(answer), answer.reasons[0].code if answer.reasons else "")


_NOTHING = Known()
