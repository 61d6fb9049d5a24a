"""The register of personal data breaches (GDPR art. 33(5)), also of those that were not notified.

All gates on a store share it. A breach is a document with steps, which are only ever added, so that it shows who did what.
Breaches are never removed.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Final, NoReturn

import msgspec
from msgspec import structs

from dialgate.audit.lookups import instant
from dialgate.config.clients import Client
from dialgate.core.local_time import rfc3339
from dialgate.core.model import HOUR, Instant
from dialgate.core.refusal import Refused
from dialgate.ledger.registrar import Registrar
from dialgate.runtime import csv_text
from dialgate.store import OfficerDocuments
from dialgate.store.breaches import BreachFigures, BreachStep, StoredBreach
from dialgate.subjects.breach import BreachPeriod, Runner
from dialgate.subjects.breach_schemas import (
    BreachEntry,
    BreachFile,
    BreachRequest,
    BreachStepRequest,
    BreachTexts,
    NoticeRequest,
)
from dialgate.subjects.letter import Letter
from dialgate.subjects.rights import Subjects

# GDPR 33(1). Weekends and holidays count: Regulation 1182/71 art. 3(4) excepts periods in hours.
NOTIFY_HOURS: Final = 72
_NUMBER: Final = re.compile(r"\+\d(?:[ ./()-]*\d){7}")
_NEEDS_REASON: Final = {"notified", "not_notified", "communicated", "not_communicated", "noted", "corrected"}
_TEXTS: Final = BreachTexts.__struct_fields__


class BreachRegister:
    def __init__(self, store: OfficerDocuments, subjects: Subjects, registrar: Registrar) -> None:
        self._store, self._subjects, self._access = store, subjects, registrar.access

    async def open(self, client: Client, ask: BreachRequest) -> BreachFile:
        """Record a breach. One with the same content is the same breach, so a request can be sent again. Raises `Refused`."""
        owner, now = self._access.controller(client, ask.controller).id, self._access.clock()
        aware, start, end = (_instant(at, ask.aware_at) for at in (ask.aware_at, ask.since, ask.until))
        if aware > now:
            _refuse("aware_at", "`aware_at` must not be in the future.")
        if ask.client and ask.node:
            _refuse("client", "Name either a client or a node.")
        if start > end or (start == end and (ask.client or ask.node)):
            _refuse("until", "The end must be later than the start.")
        texts = _texts_of(ask)
        content = msgspec.json.encode((owner, aware, start, end, ask.client, ask.node, texts))
        opened = BreachStep(at=now, by=client.actor(ask.actor), kind="opened", done_at=aware, texts=texts)
        breach = StoredBreach(
            id=blake2b(content, digest_size=8).hexdigest(), controller=owner, aware_at=aware, start=start, end=end,
            client=ask.client, node=ask.node, steps=(opened,),
        )  # fmt: skip
        await self._store.change_breach(breach.id, lambda before: None if before else breach)
        return self._file(await self._find(client, breach.id))

    async def add_step(self, client: Client, name: str, ask: BreachStepRequest) -> BreachFile:
        """Add a step. A repeated one changes nothing. Raises `Refused`."""
        breach, now, texts = await self._find(client, name), self._access.clock(), _texts_of(ask)
        done = _instant(ask.at, None) if ask.at else now
        present = self._file(breach)
        if ask.outcome == "corrected" and ask.at is None:
            _refuse("at", "Send when the controller became aware of the breach.")
        if done > now:
            _refuse("at", "`at` must not be in the future.")
        if ask.outcome in _NEEDS_REASON and not ask.reason.strip():
            _refuse(
                "reason", "Say how it was done, or why it was not. The register shows it (GDPR art. 33(5))."
            )
        if ask.outcome == "amended" and not texts:
            _refuse("nature", "Send at least one text to add or replace.")
        texts = {name: text for name, text in texts.items() if text != getattr(present.texts, name)}
        if ask.outcome == "amended" and not texts:
            return present
        step = BreachStep(
            at=now, by=client.actor(ask.actor), kind=ask.outcome, done_at=done, text=_without_numbers("reason", ask.reason),
            texts=texts,
        )  # fmt: skip
        return self._file(await self._add(breach, step))

    async def compute(self, client: Client, name: str, run: Runner) -> BreachFile:
        """Add what the log of this gate shows as exposed. `run` reads the whole log in another process. Raises `Refused`."""
        breach = await self._find(client, name)
        if not (breach.client or breach.node):
            _refuse("client", "This breach names neither a client nor a node. Write the extent yourself.")
        span = BreachPeriod(
            start=breach.start, end=breach.end, client=breach.client, node=breach.node, controller=breach.controller
        )  # fmt: skip
        found = await self._subjects.exposure(span, run)
        figures = BreachFigures(
            node=self._subjects.config.settings.node, decisions=found.decisions, lookups=len(found.lookups),
            persons=len(found.numbers), unreadable=found.unreadable, could_look_up=found.could_look_up,
            could_stream=found.could_stream, known=found.known,
        )  # fmt: skip
        now = self._access.clock()
        step = BreachStep(at=now, by=client.actor(""), kind="computed", done_at=now, figures=figures)
        return self._file(await self._add(breach, step))

    async def list_breaches(self, controllers: Sequence[str]) -> list[BreachFile]:
        """Return the breaches of these controllers: those without a decision about the authority, then the others, oldest first."""
        found = await self._store.breaches()
        files = [self._file(breach) for breach in found if breach.controller in controllers]
        return sorted(files, key=lambda file: (bool(file.authority), file.aware_at, file.id))

    async def show(self, client: Client, name: str) -> BreachFile:
        return self._file(await self._find(client, name))

    async def export(self, client: Client) -> str:
        """Return the register as CSV, oldest first."""
        files = sorted(await self.list_breaches(client.controllers), key=lambda file: file.aware_at)
        return csv_text.table([_COLUMNS, *map(_row, files)])

    async def write_notice(self, client: Client, name: str, ask: NoticeRequest) -> Letter:
        """Return the draft of the notification to the authority, with a mark for each text that is missing (art. 33(3))."""
        file = await self.show(client, name)
        owner = self._subjects.config.controllers[file.controller]
        return Letter(
            kind="breach", language=ask.language, controller_name=owner.name, controller_contact=owner.contact,
            officer=owner.officer, country=owner.country, zone=self._subjects.config.laws[owner.country].zone, number="",
            made_at=self._access.clock(), place=ask.place, protocol=ask.protocol or file.id, breach=file,
        )  # fmt: skip

    async def _find(self, client: Client, name: str) -> StoredBreach:
        breach = await self._store.breach(name)
        if breach is None or breach.controller not in client.controllers:
            text = "Breach not found for this client. Check `id`, or list the breaches."
            raise Refused("breach.unknown", text, "id", 404)
        return breach

    async def _add(self, breach: StoredBreach, step: BreachStep) -> StoredBreach:
        """Add a step unless the last one is the same, apart from its time. Raises `Refused`."""

        def changed(stored: StoredBreach | None) -> StoredBreach | None:
            present = stored or breach
            if _is_repeated(present.steps[-1], step):
                return None
            _refuse_decided(present, self._file(present), step)
            return structs.replace(present, steps=(*present.steps, step))

        return await self._store.change_breach(breach.id, changed) or breach

    def _file(self, breach: StoredBreach) -> BreachFile:
        return fold(breach, self._access.clock())


def _aware_at(breach: StoredBreach) -> Instant:
    """Return when the controller became aware of the breach, as last corrected."""
    corrected = (step.done_at for step in reversed(breach.steps) if step.kind == "corrected")
    return next(corrected, breach.aware_at)


def fold(breach: StoredBreach, now: Instant) -> BreachFile:
    """Return a breach after its steps."""
    texts: dict[str, str] = {}
    figures: dict[str, BreachFigures] = {}
    last: dict[str, BreachStep] = {}
    for step in breach.steps:
        texts |= step.texts
        last[step.kind.removeprefix("not_")] = step
        if step.figures:
            figures[step.figures.node] = step.figures
    aware, found = _aware_at(breach), tuple(figures.values())
    due = aware + NOTIFY_HOURS * HOUR
    authority, people = last.get("notified"), last.get("communicated")
    first = next((step for step in breach.steps if step.kind == "notified"), None)
    return BreachFile(
        id=breach.id,
        controller=breach.controller,
        aware_at=rfc3339(aware),
        due_at=rfc3339(due),
        hours_left=0 if authority else round((due - now) / HOUR, 2),
        since=rfc3339(breach.start),
        until=rfc3339(breach.end),
        client=breach.client,
        node=breach.node,
        opened_at=rfc3339(breach.steps[0].at),
        texts=BreachTexts(**{name: text for name, text in texts.items() if name in _TEXTS}),
        figures=found,
        affected=sum(figure.persons + figure.unreadable for figure in found),
        exposed_records=sum(figure.decisions + figure.lookups for figure in found),
        authority=authority.kind if authority else "",
        authority_reason=authority.text if authority else "",
        notified_at=rfc3339(first.done_at) if first else "",
        late=first.done_at > due if first else not authority and now > due,
        people=people.kind if people else "",
        people_reason=people.text if people else "",
        steps=tuple(_entry(step) for step in breach.steps),
    )


def _is_repeated(last: BreachStep, step: BreachStep) -> bool:
    done_at = step.done_at if step.done_at == step.at else last.done_at
    return structs.replace(last, at=step.at, done_at=done_at) == step


def _refuse_decided(breach: StoredBreach, file: BreachFile, step: BreachStep) -> None:
    """Raise `Refused` if a step contradicts the earlier ones, or the law demands more for it."""
    aware = step.done_at if step.kind == "corrected" else _aware_at(breach)
    told = [earlier for earlier in breach.steps if earlier.kind in {"notified", "communicated"}]
    if step.kind == "corrected" and any(earlier.done_at < aware for earlier in told):
        _refuse("at", "`at` must not be after the authority or the people were told.")
    if step.done_at < aware:
        _refuse("at", "`at` must not be before the controller was aware of the breach.")
    if step.kind == "not_notified" and file.notified_at:
        text = "The authority was already notified. Record what has changed as a remark, or as a further notification."
        raise Refused("breach.refused", text, "outcome", 409)
    is_late = step.kind == "notified" and step.done_at > aware + NOTIFY_HOURS * HOUR
    if is_late and not (file.texts.delay or step.texts.get("delay")):
        text = f"This is later than {NOTIFY_HOURS} hours: give the reasons for the delay (GDPR art. 33(1))."
        raise Refused("breach.refused", text, "delay", 409)


def _entry(step: BreachStep) -> BreachEntry:
    text = step.text
    if step.figures:
        text = f"{step.figures.node}: {step.figures.persons + step.figures.unreadable}"
    return BreachEntry(
        at=rfc3339(step.at), step=step.kind, text=text, by=step.by, done_at=rfc3339(step.done_at), texts=tuple(step.texts)
    )  # fmt: skip


def _instant(at: datetime | None, default: datetime | None) -> Instant:
    moment = at or default
    return instant(moment) if moment else 0


def _texts_of(ask: BreachTexts) -> dict[str, str]:
    given = {name: getattr(ask, name).strip() for name in _TEXTS}
    return {name: _without_numbers(name, text) for name, text in given.items() if text}


def _without_numbers(field: str, text: str) -> str:
    if _NUMBER.search(text):
        _refuse(
            field, "This text is stored in clear, so it must not contain a telephone number. Leave it out."
        )
    return text.strip()


def _refuse(field: str, text: str) -> NoReturn:
    raise Refused("request.invalid", text, field)


_COLUMNS: Final = (
    "id", "controller", "aware_at", "due_at", "since", "until", "client", "node", "persons", "records", *_TEXTS,
    "authority", "authority_reason", "notified_at", "late", "people", "people_reason", "recorded_by", "opened_at",
)  # fmt: skip


def _row(file: BreachFile) -> Iterable[str]:
    values = {name: getattr(file, name) for name in BreachFile.__struct_fields__}
    values |= structs.asdict(file.texts)
    values["persons"] = file.texts.persons or (str(file.affected) if file.figures else "")
    values["records"] = file.texts.records or (str(file.exposed_records) if file.figures else "")
    values["late"], values["recorded_by"] = ("no", "yes")[file.late], file.steps[0].by
    return [values[name] for name in _COLUMNS]
