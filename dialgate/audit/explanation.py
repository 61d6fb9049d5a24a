"""A decision put into words, for the person it was about: what a reader of the log is told, in Italian or English."""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Literal

from msgspec import Struct

from dialgate import texts
from dialgate.audit.number_history import Found
from dialgate.core import local_time
from dialgate.core.model import (
    RESULT_RANK,
    Deny,
    Instant,
    Listing,
    Origin,
    OutcomeRecord,
    Pass,
    Place,
    RegistryAnswer,
)
from dialgate.core.responses import Reason, reasons
from dialgate.decision_log.records import Record
from dialgate.texts import Language, Texts

_EPOCH = date(1970, 1, 1).toordinal()
_UTC = Place(zone="UTC", offset=0)


class Check(Struct, frozen=True):
    rule: str
    about: str
    result: Literal["pass", "skip", "deny"]


class Consulted(Struct, frozen=True, kw_only=True):
    """`receipt` is empty where the consultation is no longer among those published."""

    registry: str
    answer: str
    consulted_at: str
    consultation: str
    receipt: str


class Rests(Struct, frozen=True, kw_only=True):
    """What made the call lawful: `kind` is `consent`, `contract`, `request` or `directory`; `since` when it was given,
    begun, made or collected."""

    kind: str
    id: str
    since: str
    origin: Origin | None


class Became(Struct, frozen=True):
    at: str
    result: str
    client: str


class Account(Struct, frozen=True, kw_only=True):
    """One decision. `words` tell it to a citizen, a sentence each; the rest is the same for a program. `missing`: of each gate that
    could not be asked what became of the call, why; where many decisions are told, that stands beside them."""

    decision_id: str
    at: str
    decision: Literal["allow", "deny"]
    controller: str
    campaign: str
    caller_id: str
    call_type: str
    reasons: list[Reason]
    basis: Rests | None
    registries: list[Consulted]
    lists: list[Listing]
    outcomes: list[Became]
    checks: list[Check]
    client: str
    interface: str
    seq: int
    hash: str
    law: str
    config: str
    snapshot: str
    words: list[str]
    missing: Mapping[str, str] = {}


def account(found: Found, language: Language, names: Mapping[str, str]) -> Account:
    """`names`: of the controllers, by id."""
    record, text = found.record, texts.of(language)
    facts, decision = record.facts, record.decision
    return Account(
        decision_id=record.id,
        at=local_time.rfc3339(record.at),
        decision="allow" if decision.allow else "deny",
        controller=facts.controller.id,
        campaign=facts.campaign.id,
        caller_id=record.caller_id,
        call_type=facts.call_type,
        reasons=reasons(decision),
        basis=_basis(record),
        registries=[_consulted(found, answer) for answer in facts.registries],
        lists=list(facts.listings),
        outcomes=[Became(local_time.rfc3339(each.at), each.result, each.client) for each in found.outcomes],
        checks=[
            Check(rule, text.rules.get(rule, rule), _result(outcome))
            for rule, outcome in decision.outcomes.items()
        ],
        client=record.client,
        interface=record.interface,
        seq=record.seq,
        hash=found.hash,
        law=record.law,
        config=record.config,
        snapshot=record.snapshot,
        # Names of companies end with a full stop, too.
        words=[
            word[:-1] if word.endswith("..") else word for word in _Teller(found, text, names).sentences()
        ],
    )


def none_found(language: Language, *, dated: bool = False) -> str:
    """`dated`: of certain dates only."""
    say = texts.of(language).phrases
    return say.none_dated if dated else say.none


def notices(
    language: Language, retired: list[str], missing: Mapping[str, str], *, nothing: bool, dated: bool = False
) -> list[str]:
    """What is not there, in words: no decision at all (`nothing`), months whose keys are gone, gates that could not be asked."""
    told = [none_found(language, dated=dated)] if nothing else []
    if retired:
        told.append(of_retired(retired, language))
    if missing:
        told.append(texts.of(language).phrases.missing.format(nodes=", ".join(sorted(missing))))
    return told


def of_retired(months: list[str], language: Language) -> str:
    """`months`: as `2026-11`."""
    text = texts.of(language)
    named = (f"{text.months[int(month) - 1]} {year}" for year, month in (each.split("-") for each in months))
    return text.phrases.retired.format(months=", ".join(named))


class _Teller:
    def __init__(self, found: Found, text: Texts, names: Mapping[str, str]) -> None:
        self._found, self._text, self._names = found, text, names
        self._say = text.phrases
        self._facts = found.record.facts
        self._place = next(iter(self._facts.places), _UTC)

    def sentences(self) -> Iterator[str]:
        yield self._verdict()
        yield from self._campaign()
        if not self._found.record.caller_sealed:  # it was refused, and may be somebody else's number
            yield self._shown()
        if self._found.record.decision.allow:
            yield from self._rests()
        yield from self._registries()
        yield from self._lists()
        yield from self._reasons()
        if self._found.record.decision.allow:
            yield self._outcome()

    def _verdict(self) -> str:
        phrase = self._say.allowed if self._found.record.decision.allow else self._say.refused
        owner = self._facts.controller.id
        name = self._names.get(owner, owner) or self._say.unknown_controller
        at = self._found.record.at
        return phrase.format(day=self._day(at), time=self._time(at), zone=self._place.zone, controller=name)

    def _campaign(self) -> Iterator[str]:
        campaign = self._facts.campaign
        if not campaign.known:
            yield self._say.unknown_campaign.format(campaign=campaign.id)
            return
        yield self._say.campaign.format(
            campaign=campaign.id,
            purpose=self._text.purposes[campaign.purpose],
            call_type=self._text.call_types[self._facts.call_type],
        )
        if campaign.goods:
            yield self._say.goods.format(goods=campaign.goods)

    def _shown(self) -> str:
        shown = self._facts.caller_id
        readable = shown.form in {"number", "short"}
        return self._say.shown.format(number=shown.number) if readable else self._say.withheld

    def _rests(self) -> Iterator[str]:
        rests = _basis(self._found.record)
        if rests is None:
            return
        phrase = {
            "consent": self._say.consent,
            "contract": self._say.contract,
            "request": self._say.request,
            "directory": self._say.directory,
        }[rests.kind]
        owner = self._facts.controller.id
        collector = rests.origin.collected_by if rests.origin else owner
        yield phrase.format(
            id=rests.id, day=self._written(rests.since), collector=self._names.get(collector, collector)
        )
        if rests.kind == "consent" and rests.origin:
            yield from self._way(self._say.consent_ceded, rests.origin)

    def _registries(self) -> Iterator[str]:
        phrases = {
            "clear": self._say.registry_clear,
            "listed": self._say.registry_listed,
            "unknown": self._say.registry_unknown,
            "uncovered": self._say.registry_uncovered,
        }
        for answer in self._facts.registries:
            told = _consulted(self._found, answer)
            receipt = (
                self._say.receipt.format(consultation=told.consultation, receipt=told.receipt or "-")
                if told.consultation
                else ""
            )
            day = self._day(answer.consulted_at) if answer.consulted_at else ""
            yield phrases[answer.answer].format(registry=answer.registry.upper(), day=day, receipt=receipt)

    def _lists(self) -> Iterator[str]:
        for listing in self._facts.listings:
            origin = listing.origin
            source = f" ({origin.source})" if origin.source else ""
            yield self._say.listed_on.format(
                id=listing.list,
                collector=origin.collected_by,
                day=self._date(origin.collected_on),
                source=source,
            )
            yield from self._way(self._say.passed_on, origin)

    def _way(self, phrase: str, origin: Origin) -> Iterator[str]:
        for step in origin.transfers:
            to = self._names.get(step.to, step.to)
            yield phrase.format(by=step.by, to=to, day=self._date(step.on))

    def _reasons(self) -> Iterator[str]:
        for reason in self._found.record.decision.reasons:
            yield self._say.because.format(reason=self._text.reasons[reason.code])
            if reason.law:
                yield self._say.law.format(law=self._text.law(reason.law))

    def _outcome(self) -> str:
        stands = standing(self._found.outcomes)
        if stands is None:
            return self._say.no_outcome
        return self._say.outcome.format(
            day=self._day(stands.at), time=self._time(stands.at), result=self._text.results[stands.result]
        )

    def _day(self, at: Instant) -> str:
        return self._date(date.fromordinal(_EPOCH + self._place.local(at)[0]))

    def _time(self, at: Instant) -> str:
        second = self._place.local(at)[1]
        return f"{second // 3600:02}:{second // 60 % 60:02}"

    def _date(self, day: date) -> str:
        return self._text.day.format(day=day.day, month=self._text.months[day.month - 1], year=day.year)

    def _written(self, day: str) -> str:
        return self._date(date.fromisoformat(day[:10]))


def standing(outcomes: tuple[OutcomeRecord, ...]) -> OutcomeRecord | None:
    """Of several reports about one call the strictest stands, the latest of equals."""
    return max(outcomes, key=lambda each: (RESULT_RANK[each.result], each.seq), default=None)


def _basis(record: Record) -> Rests | None:
    """The very consent, contract, request or list entry that the decision names."""
    kind, _, name = record.decision.basis.partition(":")
    facts = record.facts
    match kind:
        case "consent":
            given = next(each for each in facts.known.consents if each.id == name)
            return Rests(
                kind=kind, id=name, since=local_time.rfc3339(given.collected_at), origin=given.origin
            )
        case "contract":
            held = next(each for each in facts.known.contracts if each.id == name)
            return Rests(kind=kind, id=name, since=held.starts.isoformat(), origin=None)
        case "request":
            asked = next(each for each in facts.known.requests if each.id == name)
            return Rests(kind=kind, id=name, since=local_time.rfc3339(asked.requested_at), origin=None)
        case "directory":
            origin = next(each for each in facts.listings if each.list == name).origin
            return Rests(kind=kind, id=name, since=origin.collected_on.isoformat(), origin=origin)
    return None


def _consulted(found: Found, answer: RegistryAnswer) -> Consulted:
    held = found.consultations.get(answer.registry)
    return Consulted(
        registry=answer.registry,
        answer=answer.answer,
        consulted_at=local_time.rfc3339(answer.consulted_at) if answer.consulted_at else "",
        consultation=answer.consultation,
        receipt=held.receipt if held else "",
    )


def _result(outcome: object) -> Literal["pass", "skip", "deny"]:
    if isinstance(outcome, Deny):
        return "deny"
    return "pass" if isinstance(outcome, Pass) else "skip"
