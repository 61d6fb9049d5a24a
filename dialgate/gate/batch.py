"""Decisions on the calls in a batch: a pure function of what was looked up and of the stored state."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from hashlib import blake2b

import msgspec
from msgspec import Struct, structs

from dialgate.core.decision import decide, lasts_until
from dialgate.core.decision_ids import owner_of
from dialgate.core.ledger_state import merge
from dialgate.core.local_time import instant_of, rfc3339
from dialgate.core.model import (
    SECOND,
    SHADOW,
    Attempt,
    Decided,
    Decision,
    Facts,
    Grounds,
    Instant,
    Known,
    OwnGrounds,
)
from dialgate.core.own_grounds import own_grounds
from dialgate.core.responses import Answer, decode_answer, encode_answer, end_of, make_answer
from dialgate.core.shadow import let_through, lets_through, mark, unmark
from dialgate.crypto.agent_ids import seal_agent
from dialgate.gate.question import BatchQuery, Question
from dialgate.store import AttemptPosition, Reading, Remembered, Reservation

REPEATED = "="
REMEMBERED = 4_096
_encode = msgspec.json.Encoder().encode


class CallVerdict(Struct, frozen=True):
    """A decision, valid until `until` for every call with the same facts to a number of which nothing is stored.

    `digest` identifies the grounds in the log. For a denial, `denial` holds the answer without the decision id and the
    numbers; it does not depend on the time of the batch. The cache key consists of object ids. `references` keeps these
    objects alive, so that no id is reused.
    """

    references: tuple[object, ...]
    facts: Facts
    grounds: Grounds
    digest: bytes
    until: Instant
    denial: Answer | None = None


class _AmendedVerdict(Struct, frozen=True, gc=False):
    """A shared verdict, amended by what is stored about the called number.

    `own` is None if nothing is stored, or if an address on file gave the call `shared` grounds that no other call has.
    """

    shared: CallVerdict
    facts: Facts
    decision: Decision
    own: OwnGrounds | None = None


class _UsedVerdict(Struct):
    """A verdict used in one batch, with its answer, which lacks the decision id and the numbers.

    `grounds` is the sequence number of the log entry with its grounds. `ends` is the end of an allow, otherwise 0. The
    field `verdict` keeps the `CallVerdict` object alive, so that no other verdict gets the same `id()`.
    """

    verdict: CallVerdict
    answer: Answer
    ends: Instant
    grounds: int
    _encoded: bytes = b""

    def encoded(self) -> bytes:
        """Return the answer's stored form, which only calls with an id need."""
        if not self._encoded:
            self._encoded = encode_answer(self.answer)
        return self._encoded


class Batch:
    """Calls decided at one instant, in order. Each decision counts the attempts of the earlier calls in the batch.

    The log numbers its records from `first`. `answers`, `codes` and `ends` follow the order of the calls. A code is the
    first reason code of a denial, "" for a permitted call, or `REPEATED` for an answer given before. `ends` holds the
    end of each allow, and 0 for denials.

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
        verdicts: dict[tuple[object, ...], CallVerdict],
    ) -> None:
        now = query.now
        self.now = now
        self.answers: list[Answer] = []
        self.codes: list[str] = []
        self.ends: list[Instant] = []
        self._query, self.questions, self._terms = query, query.questions, query.terms
        config = query.terms.config
        self.bodies: list[bytes] = []
        self.names: list[str] = []
        self.written: dict[str, int] = {}  # bytes of the records, by client
        self.reservations: list[Reservation] = []
        self.lets_through = False  # whether shadow mode permits a denied call
        self.remembered: list[Remembered] = []
        self.grounds: dict[bytes, int] = {}
        self._first = first
        self._nonces = nonces
        self._log_grounds = log_grounds
        self._most = now + int(config.settings.answer_seconds * SECOND)
        self._month, self._log = query.month, query.node_keys.log
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
        lines = (question.line.campaign for question in self.questions)
        return [campaign.id if campaign.known else "other" for campaign in lines]

    def today(self, question: Question) -> date:
        """Return the local day in the controller's country."""
        return self._terms.today(self._terms.config.laws[question.line.home], self.now)

    def public_answers(self) -> Sequence[Answer]:
        """Return the answers as clients receive them.

        If controllers share a gate, decision ids are encrypted. Plain ids are consecutive, so they would show a
        controller how many calls the other controllers make.
        """
        answers = self.answers
        if self.lets_through:
            calls = (question.call for question in self.questions)
            answers = [let_through(answer, call) for answer, call in zip(answers, calls, strict=True)]
        if not self._terms.config.shared:
            return answers
        names = [answer.decision_id for answer in answers]
        owners = [owner_of(question.line.controller.id, question.client) for question in self.questions]
        keys = self._query.node_keys
        ids = keys.ids.outside(zip(names, owners, strict=True))
        return [
            structs.replace(answer, decision_id=id_, reasons=keys.entries.worded(answer.reasons))
            for answer, id_ in zip(answers, ids, strict=True)
        ]

    def add(self, question: Question, known: Sequence[Known], remembered: Remembered | None) -> None:
        """Decide the next call.

        `known` holds the state of the called number from the store. `remembered` is the stored answer to an earlier
        request for the same call.

        An earlier denial is repeated. An earlier `allow` is repeated only if it has not expired, no outcome was
        reported, and a new decision also permits the call. A revocation since the earlier answer is therefore
        respected, and the answer ends no later than the new decision. In all other cases, the request is a new call.
        A denial that shadow mode let through is repeated like an `allow`, as long as shadow mode lasts.
        """
        earlier = self._answers_by_key.get(question.key)
        if earlier is None and remembered is not None:
            earlier = decode_answer(
                remembered.answer, remembered.decision, question.e164, question.presentation.number
            )
        ends = instant_of(earlier.valid_until) if earlier is not None and earlier.valid_until else 0
        is_shadow = question.shadow_until > self.now
        if earlier is not None and not is_shadow:
            earlier = unmark(earlier)
        permits = earlier is not None and (earlier.decision == "allow" or earlier.would == "deny")
        if earlier is not None and permits and self._is_over(earlier, ends, known):
            earlier = None
        if earlier is not None and not permits:
            return self._repeat(earlier, 0)
        verdict = self._judge(question, self._merge_known(question, known, earlier))
        if earlier is not None and (
            verdict.decision.allow or (earlier.would == "deny" and self._lets_through(question, verdict))
        ):
            ends = min(ends, self._end(question, verdict.decision))
            return self._repeat(structs.replace(earlier, valid_until=rfc3339(ends)), ends)
        return self._conclude(question, verdict)

    def _lets_through(self, question: Question, verdict: _AmendedVerdict) -> bool:
        """Return whether the call is answered in shadow mode."""
        if question.shadow_until <= self.now:
            return False
        law, caller_id = self._terms.config.laws[question.country], question.presentation.number
        return lets_through(verdict.decision, verdict.facts, law, question.call, question.e164, caller_id)

    def _end(self, question: Question, decision: Decision) -> Instant:
        """Return the end of the permission for a call, also if only shadow mode permits it."""
        return end_of(decision, self._most) if decision.allow else min(question.shadow_until, self._most)

    def _is_over(self, earlier: Answer, ends: Instant, known: Sequence[Known]) -> bool:
        return ends <= self.now or any(
            attempt.decision == earlier.decision_id and attempt.result != "pending"
            for state in known
            for attempt in state.attempts
        )

    def _merge_known(self, question: Question, known: Sequence[Known], earlier: Answer | None) -> Known:
        """Return the stored state plus the attempts in this batch, minus the attempt of `earlier`.

        A call in shadow mode does not count attempts that only shadow mode permitted, so it is decided as by a gate that refused them.
        """
        if not known:
            return _NOTHING
        own, everyone = known
        merged = merge(own, everyone)
        pending = self._attempts.get(question.subjects[0])
        is_shadow = question.shadow_until > self.now
        if pending is None and earlier is None and not is_shadow:
            return merged
        attempts = (*merged.attempts, *(pending or ()))
        if earlier is not None:
            attempts = tuple(attempt for attempt in attempts if attempt.decision != earlier.decision_id)
        if is_shadow:
            attempts = tuple(attempt for attempt in attempts if attempt.basis != SHADOW)
        return structs.replace(merged, attempts=attempts)

    def _judge(self, question: Question, known: Known) -> _AmendedVerdict:
        """Decide the call as one to an unknown number, then amend that decision by what is stored about the number."""
        shared = self._stranger(question, known.seq)
        if known.is_empty:
            return _AmendedVerdict(shared, shared.facts, shared.grounds.decision)
        if known.has_entries:
            facts = self._terms.facts(question, known, self.now)
            if (facts.number, facts.places) != (shared.facts.number, shared.facts.places):
                alone = self._decide(question, facts)  # an address on file changes where the person may be
                return _AmendedVerdict(alone, facts, alone.grounds.decision)
        else:
            facts = structs.replace(shared.facts, known=known, at=self.now)
        decision = decide(facts, self._terms.config.laws[question.country], shared.grounds.decision)
        return _AmendedVerdict(shared, facts, decision, own_grounds(shared.grounds, facts, decision))

    def _stranger(self, question: Question, seq: int) -> CallVerdict:
        """Return the verdict on the call if nothing were stored about the number."""
        caller_id, files = question.presentation.fact, question.files
        # Compare by identity, which is fast. Equal objects that are not identical only cost another decision.
        key = (id(self._terms), id(question.line), id(question.number), id(question.zones), id(caller_id), seq, id(files), question.call_type)  # fmt: skip
        verdict = self._verdicts.get(key)
        if verdict is None or verdict.until <= self.now:
            if len(self._verdicts) >= REMEMBERED:
                self._verdicts.clear()
            facts = self._terms.facts(question, Known(seq=seq), self.now)
            verdict = self._verdicts[key] = self._decide(question, facts)
        return verdict

    def _decide(self, question: Question, facts: Facts) -> CallVerdict:
        config = self._terms.config
        law = config.laws[question.country]
        decision = decide(facts, law)
        grounds = Grounds(
            seq=0,
            facts=structs.replace(facts, at=0),
            decision=decision,
            country=question.country,
            law=config.law_hash[question.country],
            config=config.hash,
            snapshot=self._query.snapshot,
            node=config.settings.node,
        )
        ends = min(lasts_until(facts, law, decision), self._terms.same_until(facts, law))
        until = max(self.now + 1, ends) if facts.known.is_empty else 0
        caller_id, files = question.presentation.fact, question.files
        references = (self._terms, question.line, question.number, question.zones, caller_id, files)
        digest = blake2b(_encode(grounds), digest_size=16).digest()
        denial = None if decision.allow else make_answer(decision, facts)
        return CallVerdict(references, facts, grounds, digest, until, denial)

    def _use(self, verdict: CallVerdict, client: str) -> _UsedVerdict:
        """Return the verdict with its answer. Grounds that are not yet in the log are added to this batch."""
        ends = end_of(verdict.grounds.decision, self._most)
        answer = verdict.denial or make_answer(verdict.grounds.decision, verdict.facts, ends)
        seq = self._log_grounds.get(verdict.digest) or self.grounds.get(verdict.digest)
        if seq is None:
            seq = self.grounds[verdict.digest] = self._first + len(self.bodies)
            self._append(_encode(structs.replace(verdict.grounds, seq=seq)), client)
        used = self._used[id(verdict)] = _UsedVerdict(verdict, answer, ends, seq)
        return used

    def _repeat(self, earlier: Answer, ends: Instant) -> None:
        self.lets_through |= earlier.would == "deny"
        self.answers.append(earlier)
        self.codes.append(REPEATED)
        self.ends.append(ends)

    def _conclude(self, question: Question, verdict: _AmendedVerdict) -> None:
        shared, decision = verdict.shared, verdict.decision
        used = self._used.get(id(shared)) or self._use(shared, question.client)
        seq = self._first + len(self.bodies)
        name = f"{self._log}-{seq}"
        if decision is shared.grounds.decision:
            common, ends = used.answer, used.ends
        else:
            ends = end_of(decision, self._most)
            common = make_answer(decision, verdict.facts, ends)
        is_shadow = self._lets_through(question, verdict)
        if is_shadow:
            ends = self._end(question, decision)
            common = mark(common, ends)
        answer = structs.replace(
            common, decision_id=name, to=question.e164, from_=question.presentation.number
        )
        record = self._record(question, used.grounds, verdict, name, seq, shadow=is_shadow)
        self._append(_encode(record), question.client)
        self.names.append(name)
        self.lets_through |= answer.would == "deny"
        self.answers.append(answer)
        self.codes.append(common.reasons[0].code if common.reasons else "")
        self.ends.append(ends)
        if decision.allow or (is_shadow and question.subjects):
            self._reserve(question, decision.basis if decision.allow else SHADOW, name)
        if question.key:
            encoded = used.encoded() if common is used.answer else encode_answer(common)
            self._answers_by_key[question.key] = answer
            self.remembered.append(Remembered(question.key, self.now, encoded, name))

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
        self, question: Question, grounds: int, verdict: _AmendedVerdict, name: str, seq: int, *, shadow: bool
    ) -> Decided:
        month, presentation = self._month, question.presentation
        return Decided(
            seq=seq,
            id=name,
            at=self.now,
            number=month.pseudonym(question.e164 or question.spoken),
            sealed=month.seal(question.spoken, next(self._nonces)),
            grounds=grounds,
            allow=verdict.decision.allow,
            client=question.client,
            interface=question.interface,
            call_id=question.call_id,
            question=month.mask(question.key, name) if question.key else b"",
            caller=month.pseudonym(presentation.number) if presentation.sealed else b"",
            caller_sealed=month.seal(presentation.number, next(self._nonces)) if presentation.sealed else b"",
            own=verdict.own,
            shadow=shadow,
            agent=seal_agent(month, agent) if (agent := question.agent) else b"",
        )


def decide_all(
    query: BatchQuery,
    reading: Reading,
    first: int,
    nonces: Iterator[bytes],
    log_grounds: Mapping[bytes, int],
    verdicts: dict[tuple[object, ...], CallVerdict],
) -> Batch:
    """Decide the calls of `query` in order, from the state in `reading`. For the other arguments, see `Batch`."""
    batch = Batch(query, first, nonces, log_grounds, verdicts)
    known, answers = iter(reading.known), iter(reading.answers)
    for question in query.questions:
        states = (next(known), next(known)) if question.subjects else ()
        batch.add(question, states, next(answers) if question.key else None)
    return batch


_NOTHING = Known()
