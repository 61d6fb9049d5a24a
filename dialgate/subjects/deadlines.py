"""Data-subject requests and their deadlines: opening, extending, closing and counting requests."""

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
from dialgate.core.periods import add_months
from dialgate.core.refusal import Refused
from dialgate.core.request_deadlines import Answered, Case, Executed, Extended, RequestReceived, Step
from dialgate.core.struct_copies import copy_fields
from dialgate.crypto.keys import Keys
from dialgate.crypto.masking import Masker, covered, mask_number
from dialgate.crypto.nonces import nonces
from dialgate.observability.metrics import Metrics
from dialgate.store.subjects import AttachedFile, CaseEvent, SubjectStore
from dialgate.subjects.schemas import Attachment, CaseEntry, CaseRequest, CaseStep, SubjectCase

_steps: msgspec.json.Decoder[Step] = msgspec.json.Decoder(Step)


class Deadlines:
    def __init__(self, file: SubjectStore, keys: Keys, clock: Callable[[], Instant]) -> None:
        self._file, self._keys, self._clock = file, keys, clock
        self._nonces = nonces()

    async def record_request(
        self, client: Client, controller: str, number: str, ask: CaseRequest
    ) -> CaseInfo:
        """Open a request about a number (E.164). The deadline runs from `received_at`."""
        masker = Masker(self._keys, controller)
        addressee = masker.seal(ask.addressee)
        ask = masker.mask(ask, number)
        now = self._clock()
        received = now if ask.received_at is None else instant(ask.received_at)
        if not 0 <= received <= now:
            raise Refused(
                "request.invalid", "`received_at` must not be in the future or before 1970.", "received_at"
            )
        opening = RequestReceived(
            kind=ask.kind,
            received_at=received,
            identified=ask.identified,
            actor=client.actor(ask.actor),
            channel=ask.channel,
            proof=ask.proof,
            addressee=addressee,
        )
        subject = self._keys.subject(controller, number)
        if repeated := await self._find_repeated(subject, opening):
            return self._info(repeated)
        event = CaseEvent(
            id=secrets.token_hex(8),
            at=now,
            controller=controller,
            subject=subject,
            sealed=self._keys.ledger.seal(number, next(self._nonces)),
            closes=False,
            body=msgspec.json.encode(opening).decode(),
        )
        await self._file.add_event(event)
        return self._info(_cases([event])[0])

    async def _find_repeated(self, subject: bytes, opening: RequestReceived) -> Case | None:
        """Return the open request with the same document, if this one was sent again."""
        same = (
            case
            for case in _cases(await self._file.cases(subject))
            if not case.closed_at
            and opening.proof
            and (case.kind, case.channel, case.proof) == (opening.kind, opening.channel, opening.proof)
        )
        return next(same, None)

    async def move(self, client: Client, name: str, step: CaseStep) -> CaseInfo:
        """Record a step of a request: answer, refuse, extend or withdraw it, or add a remark.

        Raises `Refused` if the request is unknown or closed, or if an extension is no longer possible.
        """
        case, events = await self._find(client, name)
        if case.closed_at and step.outcome != "noted":
            raise _build_refusal("id")
        number = self._keys.ledger.unseal(events[0].sealed)
        reason = Masker(self._keys, case.controller).text(step.reason, number)
        event = await self.add_step(events[0], self._step(case, step, reason, client.actor(step.actor)))
        return self._info(_cases([*events, event])[0])

    async def find(self, client: Client, name: str) -> tuple[Case, str]:
        """Return a request of this client and its number in E.164. Raises `Refused`.

        The caller must record the look-up before it shows the number, or texts of the request.
        """
        case, _ = await self._find(client, name)
        return Masker(self._keys, case.controller).unseal(case), self._keys.ledger.unseal(case.sealed)

    async def show(self, client: Client, name: str) -> SubjectCase:
        """Return a request of this client with its steps, without its sealed texts. Raises `Refused`."""
        case, events = await self._find(client, name)
        return SubjectCase(
            request=self._info(case),
            steps=[_entry(event.at, _steps.decode(event.body)) for event in events],
            items=list(covered(case.items)),
            attachments=[covered(attachment_of(file)) for file in await self._file.attachments(name)],
        )

    async def execute(self, client: Client, name: str, executed: Executed) -> None:
        """Record that what a request asks for was done. Raises `Refused` if it is closed."""
        case, events = await self._find(client, name)
        if case.closed_at:
            raise _build_refusal("id")
        await self.add_step(events[0], executed)

    async def _find(self, client: Client, name: str) -> tuple[Case, list[CaseEvent]]:
        events = await self._file.case(name)
        case = next(iter(_cases(events)), None)
        if case is None or case.controller not in client.controllers:
            raise _unknown()
        return case, events

    def _step(self, case: Case, step: CaseStep, reason: str, actor: str) -> Step:
        match step.outcome:
            case "refused":
                return request_deadlines.RequestRefused(reason=reason, actor=actor)
            case "answered":
                return Answered(what=reason, actor=actor, lists=case.lists)
            case "withdrawn":
                return request_deadlines.RequestWithdrawn(reason=reason, actor=actor)
            case "noted" | "assigned" | "sent":
                return request_deadlines.Remarked(kind=step.outcome, text=reason, actor=actor)
            case "extended":
                if case.extended_at:
                    text = "This request was already extended by two months. Answer or refuse it."
                    raise Refused("subject.closed", text, "outcome", 409)
                if self._clock() > case.due_at:
                    text = (
                        "A request can be extended only within its first month (GDPR 12(3))."
                        " Answer or refuse it."
                    )
                    raise Refused("subject.closed", text, "outcome", 409)
                return Extended(reason=reason, actor=actor)

    async def add_step(self, opening: CaseEvent, step: Step) -> CaseEvent:
        """Store a further step of a request. Raises `Refused` if the request was removed meanwhile."""
        event = self._next(opening, step)
        if not await self._file.add_step(event):
            raise _unknown()
        return event

    async def next_step(self, name: str, step: Step) -> CaseEvent:
        """Return the event for a further step of a request, which the caller stores. Raises `Refused` if the request was removed."""
        events = await self._file.case(name)
        if not events:
            raise _unknown()
        return self._next(events[0], step)

    def _next(self, opening: CaseEvent, step: Step) -> CaseEvent:
        return structs.replace(
            opening,
            at=self._clock(),
            closes=isinstance(step, request_deadlines.CLOSING),
            body=msgspec.json.encode(step).decode(),
        )

    async def find_open(self, name: str, kind: str, subject: bytes) -> CaseEvent:
        """Return the open request of this kind for this number. Raises `Refused` if there is none.

        An erasure or rectification needs a request, because the request records how the data subject was identified.
        """
        events = await self._file.case(name)
        case = next(iter(_cases(events)), None)
        if case is None or case.kind != kind or events[0].subject != subject:
            text = f"There is no open {kind} request for this number. Open one first."
            raise Refused("subject.unknown", text, "request", 404)
        if case.closed_at:
            raise _build_refusal("request")
        return events[0]

    async def postponed_erasures(self) -> list[tuple[CaseEvent, tuple[str, ...]]]:
        """Return the last event of each erasure that a legal hold postponed, and the call lists with the number."""
        events = await self._file.postponed_erasures()
        steps = ((event, _steps.decode(event.body)) for event in events)
        return [(event, step.lists) for event, step in steps if isinstance(step, (Executed, Answered))]

    async def open_cases(self, client: Client) -> list[CaseInfo]:
        """Return the open requests that this client may see, ordered by deadline."""
        cases = _visible_to(client, await self._file.open_cases())
        return [self._info(case) for case in sorted(cases, key=lambda case: case.due_at)]

    async def closed_cases(self, client: Client, since: Instant) -> list[CaseInfo]:
        """Return the requests closed at or after `since` that this client may see, newest first."""
        cases = _visible_to(client, await self._file.closed_cases(since))
        return [self._info(case) for case in sorted(cases, key=lambda case: -case.closed_at)]

    async def cases_of(self, subject: bytes) -> list[CaseInfo]:
        """Return all requests about a number.

        The caller must record the look-up first, because this decrypts sealed numbers in free-text fields.
        """
        cases = _cases(await self._file.cases(subject))
        return [self._info(Masker(self._keys, case.controller).unseal(case)) for case in cases]

    async def count(self, metrics: Metrics, now: Instant) -> None:
        """Set the metrics for open requests.

        If no request is open, the metric for the time left is set as if a request had just been received.
        """
        cases = _cases(await self._file.open_cases())
        for kind in request_deadlines.KINDS:
            metrics.open_cases.labels(kind).set(sum(case.kind == kind for case in cases))
        left = min(
            (case.due_at - now for case in cases), default=add_months(now, request_deadlines.MONTHS) - now
        )
        metrics.case_left.set(left / SECOND)

    def _info(self, case: Case) -> CaseInfo:
        left = 0 if case.closed_at else (case.due_at - self._clock()) // DAY
        times = {name: getattr(case, name) for name in ("received_at", "due_at", "extended_at", "closed_at")}
        person = mask_number(self._keys.ledger.unseal(case.sealed))
        texts = {name: rfc3339(at) if at else "" for name, at in times.items()}
        return copy_fields(
            covered(case), CaseInfo, person=person, executed=bool(case.entries), days_left=left, **texts
        )


def _unknown() -> Refused:
    text = "Request not found on this gate for this client. Check `id`, or ask the gate that received the request."
    return Refused("subject.unknown", text, "id", 404)


def _build_refusal(field: str) -> Refused:
    return Refused("subject.closed", "This request is closed. Open a new one.", field, 409)


def _cases(events: Iterable[CaseEvent]) -> list[Case]:
    steps: dict[tuple[str, str], list[tuple[Instant, Step]]] = {}
    sealed: dict[str, bytes] = {}
    for event in events:
        sealed[event.id] = event.sealed
        steps.setdefault((event.id, event.controller), []).append((event.at, _steps.decode(event.body)))
    folded = (
        request_deadlines.fold(name, controller, case_steps)
        for (name, controller), case_steps in steps.items()
    )
    return [structs.replace(case, sealed=sealed[case.id]) for case in folded if case is not None]


def _entry(at: Instant, step: Step) -> CaseEntry:
    match step:
        case RequestReceived():
            name, text = "received", step.identified
        case request_deadlines.Remarked():
            name, text = step.kind, step.text
        case Executed() | Answered():
            name, text = str(type(step).__struct_config__.tag), step.what
        case _:
            name, text = str(type(step).__struct_config__.tag), step.reason
    return CaseEntry(at=rfc3339(at), step=name, text=covered(text), actor=step.actor)


def attachment_of(file: AttachedFile) -> Attachment:
    """Return an attachment without its content. Its name is still sealed."""
    return Attachment(
        sha256=file.sha256, name=file.name, bytes=file.size, at=rfc3339(file.at), actor=file.actor
    )


def _visible_to(client: Client, events: Iterable[CaseEvent]) -> list[Case]:
    return [case for case in _cases(events) if case.controller in client.controllers]
