"""The requests that people have made of the controllers, and their clock: opened, extended, closed, and counted."""

import secrets
from collections.abc import Callable, Iterable

import msgspec
from msgspec import structs

from dialgate.audit.lookups import instant
from dialgate.cluster.personal_data import CaseInfo
from dialgate.config.clients import Client
from dialgate.core import request_deadlines
from dialgate.core.local_time import rfc3339
from dialgate.core.model import DAY, SECOND, Instant
from dialgate.core.refusal import Refused
from dialgate.core.request_deadlines import Asked, Case, Extended, Step
from dialgate.crypto.keys import Keys, nonces
from dialgate.crypto.masking import Masker, covered
from dialgate.observability.metrics import Metrics
from dialgate.store.sqlite_subjects import CaseEvent, SubjectStore
from dialgate.subjects.schemas import CaseRequest, CaseStep

_steps: msgspec.json.Decoder[Step] = msgspec.json.Decoder(Step)


class Deadlines:
    def __init__(self, file: SubjectStore, keys: Keys, clock: Callable[[], Instant]) -> None:
        self._file, self._keys, self._clock = file, keys, clock
        self._nonces = nonces()

    async def ask(self, client: Client, controller: str, number: str, ask: CaseRequest) -> CaseInfo:
        """The clock runs from `received_at`. `number` in E.164."""
        ask = Masker(self._keys, controller).masked(ask, number)
        now = self._clock()
        received = now if ask.received_at is None else instant(ask.received_at)
        if not 0 <= received <= now:
            raise Refused("request.invalid", "Send when the request came in.", "received_at")
        asked = Asked(
            kind=ask.kind,
            received_at=received,
            identified=ask.identified,
            actor=ask.actor or client.name,
            channel=ask.channel,
            proof=ask.proof,
        )
        event = CaseEvent(
            id=secrets.token_hex(8),
            at=now,
            controller=controller,
            subject=self._keys.subject(controller, number),
            sealed=self._keys.ledger.seal(number, next(self._nonces)),
            closes=False,
            body=msgspec.json.encode(asked).decode(),
        )
        await self._file.note(event)
        return self._info(_cases([event])[0])

    async def move(self, client: Client, name: str, step: CaseStep) -> CaseInfo:
        """Answer, refuse or extend a request."""
        events = await self._file.case(name)
        case = next(iter(_cases(events)), None)
        if case is None or case.controller not in client.controllers:
            raise Refused("subject.unknown", "No such request of yours; look at the open ones.", "id", 404)
        if case.closed_at:
            raise _closed("id")
        number = self._keys.ledger.unseal(events[0].sealed)
        reason = Masker(self._keys, case.controller).text(step.reason, number)
        event = await self.take(events[0], self._step(case, step, reason, step.actor or client.name))
        return self._info(_cases([*events, event])[0])

    def _step(self, case: Case, step: CaseStep, reason: str, actor: str) -> Step:
        match step.outcome:
            case "refused":
                return request_deadlines.Refused(reason=reason, actor=actor)
            case "answered":
                return request_deadlines.Answered(what=reason, actor=actor)
            case "extended":
                if case.extended_at:
                    text = "Two more months were taken already; answer it."
                    raise Refused("subject.closed", text, "outcome", 409)
                if self._clock() > case.due_at:
                    text = "The month is over; it can be extended only within it (GDPR 12(3)). Answer it."
                    raise Refused("subject.closed", text, "outcome", 409)
                return Extended(reason=reason, actor=actor)

    async def take(self, begun: CaseEvent, step: Step) -> CaseEvent:
        event = structs.replace(
            begun,
            at=self._clock(),
            closes=isinstance(step, request_deadlines.CLOSING),
            body=msgspec.json.encode(step).decode(),
        )
        await self._file.note(event)
        return event

    async def opened(self, name: str, kind: str, subject: bytes) -> CaseEvent:
        """The one that an act is for: there is none without a request, which says how the asker was identified."""
        events = await self._file.case(name)
        case = next(iter(_cases(events)), None)
        if case is None or case.kind != kind or events[0].subject != subject:
            text = f"Open a request for {kind} of this number first."
            raise Refused("subject.unknown", text, "request", 404)
        if case.closed_at:
            raise _closed("request")
        return events[0]

    async def open_of(self, client: Client) -> list[CaseInfo]:
        """The most urgent first."""
        found = _cases_of(client, await self._file.open_cases())
        return [self._info(case) for case in sorted(found, key=lambda case: case.due_at)]

    async def closed_of(self, client: Client, since: Instant) -> list[CaseInfo]:
        """The newest first."""
        found = _cases_of(client, await self._file.closed_cases(since))
        return [self._info(case) for case in sorted(found, key=lambda case: -case.closed_at)]

    async def of(self, subject: bytes) -> list[CaseInfo]:
        """To be shown after the reading is recorded: a number that somebody typed stands in the clear."""
        found = _cases(await self._file.cases(subject))
        return [self._info(Masker(self._keys, case.controller).shown(case)) for case in found]

    async def count(self, metrics: Metrics, now: Instant) -> None:
        """With none open, the time left is that of one that came in now."""
        found = _cases(await self._file.open_cases())
        for kind in request_deadlines.KINDS:
            metrics.open_cases.labels(kind).set(sum(case.kind == kind for case in found))
        left = min(
            (case.due_at - now for case in found),
            default=request_deadlines.due(now, request_deadlines.MONTHS) - now,
        )
        metrics.case_left.set(left / SECOND)

    def _info(self, case: Case) -> CaseInfo:
        left = 0 if case.closed_at else (case.due_at - self._clock()) // DAY
        fields = structs.asdict(covered(case))
        for name in ("received_at", "due_at", "extended_at", "closed_at"):
            fields[name] = rfc3339(fields[name]) if fields[name] else ""
        return CaseInfo(**fields, days_left=left)


def _closed(field: str) -> Refused:
    return Refused("subject.closed", "This request is closed; open another.", field, 409)


def _cases(events: Iterable[CaseEvent]) -> list[Case]:
    steps: dict[tuple[str, str], list[tuple[Instant, Step]]] = {}
    for event in events:
        steps.setdefault((event.id, event.controller), []).append((event.at, _steps.decode(event.body)))
    found = (request_deadlines.fold(name, controller, each) for (name, controller), each in steps.items())
    return [case for case in found if case is not None]


def _cases_of(client: Client, events: Iterable[CaseEvent]) -> list[Case]:
    return [case for case in _cases(events) if case.controller in client.controllers]
