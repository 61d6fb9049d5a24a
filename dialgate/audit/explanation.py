"""A decision in words, for the called person and for operators, in Italian or English."""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Literal

from msgspec import Struct

from dialgate import texts
from dialgate.audit.number_history import FoundDecision
from dialgate.core import local_time
from dialgate.core.model import (
    EPOCH,
    RESULT_RANK,
    Block,
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
from dialgate.core.struct_copies import copy_fields
from dialgate.core.text_formats import DayOrTimestamp, OptionalTimestamp, Timestamp
from dialgate.decision_log.records import Record
from dialgate.texts import Language, Texts

_UTC = Place(zone="UTC", offset=0)


class Check(Struct, frozen=True):
    rule: str
    about: str
    result: Literal["pass", "skip", "deny"]


class Consulted(Struct, frozen=True, kw_only=True):
    """A registry's answer to one consultation.

    `receipt` is empty if the consultation is no longer published. If `blocks` is not empty, the listing bars only the
    calls that `blocks` describes. `listed_since` is when the person was listed, if the registry says so.
    """

    registry: str
    answer: str
    consulted_at: OptionalTimestamp
    consultation: str
    receipt: str
    blocks: tuple[Block, ...] = ()
    listed_since: OptionalTimestamp = ""


class Rests(Struct, frozen=True, kw_only=True):
    """The legal basis for an allowed call.

    `kind` is `consent`, `contract`, `request` or `directory`. `since` is the day or time at which the consent was
    given, the contract began, the request was made, or the directory entry was collected.
    """

    kind: str
    id: str
    since: DayOrTimestamp
    origin: Origin | None


class Became(Struct, frozen=True):
    at: Timestamp
    result: str
    client: str


class Account(Struct, frozen=True, kw_only=True):
    """One decision, explained in words and as data.

    `words` are sentences for the called person. `zones` and `places` are the time zones and subdivisions in which the
    person may have been. `shadow` means that the call was let through in shadow mode, whatever the decision. The call's outcome may be in the log of another gate: `shipped` has the time up to which each
    gate's log was searched, and `missing` the reason for each gate whose log was not. Both are empty in a list of decisions,
    which names the gates once. If the gate chose the caller ID, `caller_id_chosen` says how many of the campaign's fitted the call, and
    why others did not.
    """

    decision_id: str
    at: Timestamp
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
    zones: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    shipped: Mapping[str, Timestamp] = {}
    shadow: bool = False
    caller_id_chosen: str = ""


class Accounts(Struct, frozen=True, kw_only=True):
    """Decisions by all gates that share the store, newest first.

    - `more`: whether there are older decisions, which can be requested with `before`
    - `retired_months`: months whose decisions are left out, because their keys were destroyed
    - `shipped`: the time up to which the log of each other gate was searched, which is as far as the gate shipped it
    - `missing`: gates whose logs were not searched, each with the reason
    - `notices`: sentences about missing data
    """

    decisions: list[Account]
    more: bool
    retired_months: list[str]
    notices: list[str]
    language: Language
    missing: Mapping[str, str] = {}
    shipped: Mapping[str, Timestamp] = {}


def account(found: FoundDecision, language: Language, names: Mapping[str, str]) -> Account:
    """Explain a decision. `names` maps controller ids to names."""
    record, text = found.record, texts.texts_in(language)
    facts, decision = record.facts, record.decision
    return copy_fields(
        record,
        Account,
        decision_id=record.id,
        at=local_time.rfc3339(record.at),
        decision="allow" if decision.allow else "deny",
        controller=facts.controller.id,
        campaign=facts.campaign.id,
        caller_id=record.caller_id,
        call_type=facts.call_type,
        caller_id_chosen=facts.caller_id.chosen,
        reasons=reasons(decision),
        basis=_basis(record),
        registries=[_consulted(found, answer) for answer in facts.registries],
        lists=list(facts.listings),
        outcomes=[
            Became(local_time.rfc3339(report.at), report.result, report.client) for report in found.outcomes
        ],
        checks=[
            Check(rule, text.rules.get(rule, rule), _result(outcome))
            for rule, outcome in decision.outcomes.items()
        ],
        hash=found.hash,
        # A company name may end with a full stop. Without this, the sentence would end with two.
        words=[
            sentence[:-1] if sentence.endswith("..") else sentence
            for sentence in _Narrator(found, text, names).sentences()
        ],
        zones=tuple(place.zone for place in facts.places),
        places=facts.number.places,
    )


def notices(
    language: Language,
    retired: list[str],
    shipped: Mapping[str, Timestamp],
    missing: Mapping[str, str],
    *,
    nothing: bool,
    dated: bool = False,
) -> list[str]:
    """Return a sentence about each kind of data that is missing from the response.

    `nothing` means that no decision was found, and `dated` that the search was limited to certain dates. `retired` are
    the months (`YYYY-MM`) whose keys are destroyed. `shipped` and `missing` are those of `Accounts`.
    """
    text, sentences = texts.texts_in(language), list[str]()
    phrases = text.phrases
    if nothing:
        sentences.append(phrases.none_dated if dated else phrases.none)
    if retired:
        months = [f"{text.months[int(month[5:]) - 1]} {month[:4]}" for month in retired]
        sentences.append(phrases.retired.format(months=", ".join(months)))
    sentences += [phrases.shipped.format(node=node, at=at) for node, at in sorted(shipped.items())]
    if missing:
        sentences.append(phrases.missing.format(nodes=", ".join(sorted(missing))))
    return sentences


class _Narrator:
    def __init__(self, found: FoundDecision, text: Texts, names: Mapping[str, str]) -> None:
        self._found, self._text, self._names = found, text, names
        self._phrases = text.phrases
        self._facts = found.record.facts
        self._place = next(iter(self._facts.places), _UTC)

    def sentences(self) -> Iterator[str]:
        yield self._verdict()
        yield from self._campaign()
        if not self._found.record.caller_sealed:  # encrypted: may be a third person's number
            yield self._describe_caller_id()
        if self._found.record.decision.allow:
            yield from self._legal_basis()
        yield from self._registries()
        yield from self._lists()
        yield from self._reasons()
        if self._found.record.decision.allow or self._found.record.shadow:
            yield self._outcome()

    def _verdict(self) -> str:
        record, phrases = self._found.record, self._phrases
        refused = phrases.let_through if record.shadow else phrases.refused
        phrase = phrases.allowed if record.decision.allow else refused
        owner = self._facts.controller.id
        name = self._names.get(owner, owner) or self._phrases.unknown_controller
        at = self._found.record.at
        zone = self._text.zones.get(self._place.zone, self._place.zone)
        return phrase.format(day=self._day(at), time=self._time(at), zone=zone, controller=name)

    def _campaign(self) -> Iterator[str]:
        campaign = self._facts.campaign
        if not campaign.known:
            yield self._phrases.unknown_campaign.format(campaign=campaign.id)
            return
        yield self._phrases.campaign.format(
            campaign=campaign.id,
            purpose=self._text.purposes[campaign.purpose],
            call_type=self._text.call_types[self._facts.call_type],
        )
        if campaign.goods:
            yield self._phrases.goods.format(goods=campaign.goods)

    def _describe_caller_id(self) -> str:
        shown = self._facts.caller_id
        readable = shown.form in {"number", "short"}
        return self._phrases.shown.format(number=shown.number) if readable else self._phrases.withheld

    def _legal_basis(self) -> Iterator[str]:
        basis = _basis(self._found.record)
        if basis is None:
            return
        phrase: str = getattr(self._phrases, basis.kind)
        owner = self._facts.controller.id
        collector = basis.origin.collected_by if basis.origin else owner
        yield phrase.format(
            id=basis.id, day=self._iso_date(basis.since), collector=self._names.get(collector, collector)
        )
        if basis.kind == "consent" and basis.origin:
            yield from self._transfers(self._phrases.consent_ceded, basis.origin)

    def _registries(self) -> Iterator[str]:
        for answer in self._facts.registries:
            consulted = _consulted(self._found, answer)
            receipt = (
                self._phrases.receipt.format(
                    consultation=consulted.consultation, receipt=consulted.receipt or "-"
                )
                if consulted.consultation
                else ""
            )
            day = self._day(answer.consulted_at) if answer.consulted_at else ""
            phrase: str = getattr(
                self._phrases, f"registry_{'listed_in_part' if answer.blocks else answer.answer}"
            )
            yield phrase.format(registry=answer.registry.upper(), day=day, receipt=receipt)

    def _lists(self) -> Iterator[str]:
        for listing in self._facts.listings:
            origin = listing.origin
            source = f" ({origin.source})" if origin.source else ""
            yield self._phrases.listed_on.format(
                id=listing.list,
                collector=origin.collected_by,
                day=self._date(origin.collected_on),
                source=source,
            )
            yield from self._transfers(self._phrases.passed_on, origin)

    def _transfers(self, phrase: str, origin: Origin) -> Iterator[str]:
        for step in origin.transfers:
            to = self._names.get(step.to, step.to)
            yield phrase.format(by=step.by, to=to, day=self._date(step.on))

    def _reasons(self) -> Iterator[str]:
        for reason in self._found.record.decision.reasons:
            yield self._phrases.because.format(reason=self._text.reasons[reason.code])
            if reason.law:
                yield self._phrases.law.format(law=self._text.law(reason.law))

    def _outcome(self) -> str:
        report = _final_report(self._found.outcomes)
        if report is None:
            return self._phrases.no_outcome
        return self._phrases.outcome.format(
            day=self._day(report.at), time=self._time(report.at), result=self._text.results[report.result]
        )

    def _day(self, at: Instant) -> str:
        return self._date(date.fromordinal(EPOCH + self._place.local(at)[0]))

    def _time(self, at: Instant) -> str:
        second = self._place.local(at)[1]
        return f"{second // 3600:02}:{second // 60 % 60:02}"

    def _date(self, day: date) -> str:
        return self._text.day.format(day=day.day, month=self._text.months[day.month - 1], year=day.year)

    def _iso_date(self, day: str) -> str:
        return self._date(date.fromisoformat(day[:10]))


def _final_report(outcomes: tuple[OutcomeRecord, ...]) -> OutcomeRecord | None:
    """Return the outcome report with the strictest result, or the newest of several with that result."""
    return max(outcomes, key=lambda report: (RESULT_RANK[report.result], report.at, report.seq), default=None)


def _basis(record: Record) -> Rests | None:
    kind, _, name = record.decision.basis.partition(":")
    facts = record.facts
    match kind:
        case "consent":
            consent = next(consent for consent in facts.known.consents if consent.id == name)
            return Rests(
                kind=kind, id=name, since=local_time.rfc3339(consent.collected_at), origin=consent.origin
            )
        case "contract":
            contract = next(contract for contract in facts.known.contracts if contract.id == name)
            return Rests(kind=kind, id=name, since=contract.starts.isoformat(), origin=None)
        case "request":
            request = next(request for request in facts.known.requests if request.id == name)
            return Rests(kind=kind, id=name, since=local_time.rfc3339(request.requested_at), origin=None)
        case "directory":
            origin = next(listing for listing in facts.listings if listing.list == name).origin
            return Rests(kind=kind, id=name, since=origin.collected_on.isoformat(), origin=origin)
    return None


def _consulted(found: FoundDecision, answer: RegistryAnswer) -> Consulted:
    consultation = found.consultations.get(answer.registry)
    return copy_fields(
        answer,
        Consulted,
        consulted_at=local_time.rfc3339(answer.consulted_at) if answer.consulted_at else "",
        receipt=consultation.receipt if consultation else "",
        listed_since=local_time.rfc3339(answer.since) if answer.since else "",
    )


def _result(outcome: object) -> Literal["pass", "skip", "deny"]:
    if isinstance(outcome, Deny):
        return "deny"
    return "pass" if isinstance(outcome, Pass) else "skip"
