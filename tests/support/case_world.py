"""Gates for decision cases. The facts of each case are written to the files and the store that the gate reads."""

import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import structs
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.config import loader
from dialgate.config.configuration import Config
from dialgate.core import ledger_events, local_time
from dialgate.core.ledger_events import Draft, Event
from dialgate.core.model import (
    HOUR,
    Attempt,
    Call,
    CallRequest,
    Consent,
    Contract,
    Facts,
    Instant,
    RegistryAnswer,
)
from dialgate.core.responses import Answer
from dialgate.crypto.keys import Keys
from dialgate.decision_log.records import Reader, Record
from dialgate.ledger.schemas import ListRequest
from dialgate.lists.snapshot import Consultation, Contents
from dialgate.lists.tabular import from_lines
from dialgate.store import CallerIdProof, HourCount
from dialgate.store.sqlite import SqliteStore, campaign_counts
from registry_sync import answer_merge, publication
from registry_sync.publication import PublishTarget
from tests.support import casebook, world, yaml_files
from tests.support.casebook import Case, case_law, facts_of

NUMBERS = {
    ("fixed", "IT"): "+3906123{:05}",
    ("mobile", "IT"): "+3933310{:05}",
    ("voip", "IT"): "+395512{:06}",
    ("fixed", "SM"): "+3780549886377",
    ("fixed", "VA"): "+390669812345",
    ("fixed", "GB"): "+442079460000",
    ("mobile", ""): "+881612345678",
    ("premium", "IT"): "+39899123456",
    ("shared_cost", "IT"): "+39848123456",
    ("personal", "IT"): "+39199123456",
    ("emergency", "IT"): "112",
    ("short", "IT"): "187",
    ("invalid", "IT"): "no number",
    ("invalid", ""): "390123456",
}
UNSAID_SECTOR = "other"
SPARE = "+390844999999"  # the campaign's caller ID if the one shown is not assigned to it
SHOWN = {"withheld": "anonymous", "invalid": "sales"}
UNASKED = "+390687654321"  # published in every world, so that no snapshot is empty


class PreparedCase(NamedTuple):
    """A case, with the facts that the gate should gather and the number to call."""

    case: Case
    facts: Facts
    to: str

    @property
    def is_number(self) -> bool:
        return self.to.startswith("+")


class GateResult(NamedTuple):
    answer: Answer
    record: Record


def order_of_attempts(attempt: Attempt) -> tuple[Instant, str, str]:
    return attempt.at, attempt.campaign, attempt.result


def prepare(place: int, case: Case) -> PreparedCase:
    """Give a case a number to call. Also give its campaign and contracts a sector if they have none."""
    facts = facts_of(case)
    contracts = tuple(
        structs.replace(contract, sector=contract.sector or UNSAID_SECTOR)
        for contract in facts.known.contracts
    )
    campaign = structs.replace(facts.campaign, sector=facts.campaign.sector or UNSAID_SECTOR)
    known = structs.replace(facts.known, contracts=contracts)
    to = NUMBERS[facts.number.kind, facts.number.region].format(place)
    return PreparedCase(case, structs.replace(facts, campaign=campaign, known=known), to)


# ---- worlds that cases share -------------------------------------------------------------------------------------------


def worlds(every: list[PreparedCase]) -> list[list[PreparedCase]]:
    """Group the cases that can share a gate, in time order, because a gate's clock never goes back.

    Cases in a group have the same law, controller, campaign, former names, caller ID and lists. A full registry list applies to every
    number, so cases with such a list form separate groups.
    """
    together: defaultdict[bytes, list[PreparedCase]] = defaultdict(list)
    for case in every:
        facts = case.facts
        whole = any(answer.answer == "uncovered" for answer in facts.registries)
        draft = facts.number.problem if facts.number.kind != "invalid" else ""
        key = (
            case.case.law, facts.controller, facts.campaign, facts.caller_id, facts.listings, whole, draft,
            facts.former_campaigns, facts.former_goods,
        )  # fmt: skip
        together[msgspec.json.encode(key)].append(case)
    return [sorted(group, key=lambda case: case.facts.at) for group in together.values()]


def configure(folder: Path, group: list[PreparedCase]) -> Config:
    path = world.write_folder(folder)
    facts, case = group[0].facts, group[0].case
    law = dict(casebook.case_law_data(case))
    law["traits"] = sorted({*law["traits"], *facts.controller.adheres_to, *facts.controller.traits})
    yaml_files.write(folder / "countries" / f"{case.country.lower()}.yaml", law)
    if facts.number.problem and facts.number.kind != "invalid":
        draft = law | {"country": facts.number.region, "draft": True}
        yaml_files.write(folder / "countries" / "draft.yaml", draft)
    campaign = {
        **{name: value for name, value in structs.asdict(facts.campaign).items() if value is not None},
        "dial_region": case.country,
        "caller_ids": [facts.caller_id.number if facts.caller_id.assigned else SPARE],
    }
    campaign["id"] = campaign["id"] if campaign["known"] else "another"
    for gathered in ("known", "counts", "lifted_at"):
        del campaign[gathered]
    others = [{**campaign, "id": f"other-{goods}", "goods": goods} for goods in other_goods(group)]
    others += [{**campaign, "id": name} for name in other_campaigns(group) if name != campaign["id"]]
    controller = {
        **structs.asdict(facts.controller), "name": "Acme", "country": case.country,
        "campaigns": [campaign, *others],
    }  # fmt: skip
    controller["processors"] = controller.pop("collectors")
    written = [controller]
    if facts.caller_id.shared:
        written.append({**controller, "id": "partner", "campaigns": [{**campaign, "id": "partners"}]})
    for content in written:
        path_of = folder / "controllers" / f"{content['id']}.yaml"
        yaml_files.write(path_of, msgspec.to_builtins(content))
    return loader.load(path)


def other_campaigns(group: list[PreparedCase]) -> list[str]:
    """Return the campaigns of revocations, except former ones."""
    stops = {stop.campaign for case in group for stop in case.facts.known.revocations if stop.campaign}
    return sorted(stops - {*group[0].facts.former_campaigns})


def other_goods(group: list[PreparedCase]) -> list[str]:
    """Return the goods of consents, except former ones."""
    goods = {name for case in group for consent in case.facts.known.consents for name in consent.goods}
    return sorted(goods - {*group[0].facts.former_goods})


def publish_answers(
    config: Config, group: list[PreparedCase], published: set[tuple[Instant, str]], now: Instant
) -> bool:
    """Publish the answers that the cases until `now` need, and return whether there are new ones.

    A gate that sees a consultation before its date regards it as void for good.
    """
    by_consultation: defaultdict[tuple[Instant, str], dict[str, bool]] = defaultdict(dict)
    ahead: dict[tuple[Instant, str], Instant] = {}
    by_consultation[group[0].facts.at, "rpo"][UNASKED] = False
    for case in group:
        for answer in case.facts.registries if case.is_number else ():
            if answer.answer == "uncovered":
                publish_whole_list(config, answer)
                return not published
            if answer.answer == "unknown":
                continue
            if answer.listed_at:
                by_consultation[answer.listed_at, answer.registry][case.to] = True
            if answer.consulted_at > case.facts.at:  # in the case itself, too
                ahead.setdefault((answer.consulted_at, answer.registry), case.facts.at)
            is_listed = answer.answer == "listed"
            by_consultation[answer.consulted_at, answer.registry][case.to] = is_listed
    folder = config.data / "snapshots"
    new = sorted(key for key in by_consultation if key not in published and ahead.get(key, key[0]) <= now)
    with publication.lock_folder(folder):
        for at, registry in new:
            answers = by_consultation[at, registry]
            merged = world.merge_answers(folder, answers, consultation(at), registry=registry)
            publication.publish_answers(PublishTarget(folder=folder), merged, at + HOUR)
    published.update(new)
    return bool(new)


def publish_whole_list(config: Config, answer: RegistryAnswer) -> None:
    contents = Contents(
        registry=answer.registry,
        controller="",
        mode="full_list",
        consultations=(consultation(answer.consulted_at),),
        states=(),
        coverage=("44",),
    )
    nothing = np.empty(0, np.uint64), np.empty(0, np.uint16)
    with publication.lock_folder(config.data / "snapshots"):
        publication.publish_answers(
            PublishTarget(folder=config.data / "snapshots"),
            answer_merge.PublishedAnswers(contents, *nothing),
            answer.consulted_at,
        )


def consultation(at: Instant, since: Instant = 0, name: str = "at") -> Consultation:
    return Consultation(
        id=f"{name}-{at}", submitted_at=at, answered_at=at, imported_at=at, receipt="", request_sha256="", answer_sha256="",
        lines=0, listed=0, clear=0, asked_since=since,
    )  # fmt: skip


async def fill_store(config: Config, group: list[PreparedCase]) -> None:
    keys = Keys.open(config.data / "keys.json")
    store = SqliteStore.open(config.data / "store.db")
    try:
        shown = group[0].facts.caller_id
        if shown.proved_at:
            await store.put_proof(
                CallerIdProof(controller="acme", caller_id=shown.number, at=shown.proved_at, kind="probe")
            )
        for case in group:
            await remember(store, keys, case)
    finally:
        await store.close()
    count_calls(config, group)


def count_calls(config: Config, group: list[PreparedCase]) -> None:
    """Store the campaigns' call counts, as if all calls on a day were made at noon."""
    with closing(sqlite3.connect(config.data / "store.db", isolation_level=None)) as db:
        for case in group:
            zone = case_law(case.case).zone
            for count in case.facts.campaign.counts:
                noon = local_time.instant_in(zone, datetime.combine(count.day, time(12)))
                hour = HourCount(noon // HOUR, case.facts.campaign.id, count.answered, count.abandoned)
                campaign_counts.put_counts(db, [hour])


async def load_lists(app: App, group: list[PreparedCase]) -> None:
    """Load a group's lists as a client does. Every number is on every list.

    The origin of a list is that of the case, also if the law of today refuses to load such a list: a list of before stays.
    """
    numbers = [case.to for case in group if case.is_number]
    store, folder = app.registrar.access.store, app.config.data / "lists"
    for listing in group[0].facts.listings:
        ask = ListRequest(
            id=f"{listing.list}-file",
            campaigns=tuple(campaign.id for campaign in app.config.controllers["acme"].campaigns),
            basis=listing.basis,
            origin="public_directory",
            collected_by="acme",
            collected_on=listing.origin.collected_on,
        )
        rows = [*numbers, UNASKED]
        if listing.stated:
            rows = ["number,basis", *(f"{number},{listing.basis}" for number in rows)]
        await app.registrar.call_lists.load_list(app.config.settings.clients[0], ask, from_lines(rows))
        (loaded,) = (one for one in await store.lists() if one.id == ask.id)
        earlier = structs.replace(
            loaded, id=listing.list, origin=listing.origin, file=f"earlier.{loaded.file}"
        )
        shutil.copy(folder / loaded.file, folder / earlier.file)
        assert await store.add_list(earlier)
        await store.retire_list("acme", ask.id, loaded.loaded_at)
    await app.tick(patience=None)


async def remember(store: SqliteStore, keys: Keys, case: PreparedCase) -> None:
    """Write the ledger entries and attempts from a case to the store."""
    known, controller = case.facts.known, case.facts.controller.id
    own = keys.subject(controller, case.to)
    for revoked in sorted(known.revocations, key=lambda revoked: revoked.seq):
        subject = keys.subject("*", case.to) if revoked.scope == "everyone" else own
        event = ledger_events.Revoked(at=revoked.at, scope=revoked.scope, campaign=revoked.campaign)
        (seq,) = await store.append([draft(controller, subject, event)])
        if revoked.lifted:
            lifted = ledger_events.Lifted(of=seq, ground=revoked.lifted, reason="a test")
            await store.append([draft(controller, subject, lifted)])
    events: list[Event] = [event for consent in known.consents for event in events_of(consent)]
    events += [
        ledger_events.ConsentWithdrawn(id=made.consent, at=made.at, purposes=made.purposes, goods=made.goods)
        for made in known.objections
    ]
    await store.append([draft(controller, own, event) for event in events])
    permits: tuple[Contract | CallRequest, ...] = (*known.contracts, *known.requests)
    for permit in permits:
        kind = ledger_events.ContractMade if isinstance(permit, Contract) else ledger_events.CallRequested
        fields = {name: getattr(permit, name) for name in kind.__struct_fields__ if name != "rectify"}
        at = permit.entered_at if isinstance(permit, Contract) else 0
        await store.append([draft(controller, own, kind(**fields), "archive" if permit.proved else "", at)])
    for wrong in known.wrong_numbers:
        reported = ledger_events.NumberWrong(at=wrong.at, decision=wrong.decision)
        (seq,) = await store.append([draft(controller, own, reported)])
        if wrong.lifted:
            confirmed = ledger_events.NumberConfirmed(of=seq, ground="confirmed", reason="a test")
            await store.append([draft(controller, own, confirmed)])
    attempts = sorted(known.attempts, key=order_of_attempts)
    named = [
        structs.replace(attempt, decision=f"{controller}-{case.to}-{place}")
        for place, attempt in enumerate(attempts)
    ]
    await store.settle("tests", 0, [(own, attempt) for attempt in named], [])


def events_of(consent: Consent) -> Iterator[Event]:
    fields: dict[str, Any] = {"artefact": "form", "artefact_sha256": "0" * 64} if consent.proved else {}
    given = ledger_events.ConsentGiven.__struct_fields__
    fields |= {name: value for name, value in structs.asdict(consent).items() if name in given}
    yield ledger_events.ConsentGiven(**fields)
    if consent.confirmed_at:
        yield ledger_events.ConsentConfirmed(id=consent.id, at=consent.confirmed_at)
    if consent.withdrawn_at:
        yield ledger_events.ConsentWithdrawn(id=consent.id, at=consent.withdrawn_at)
    if consent.voided_at:
        yield ledger_events.ConsentsVoided(before=consent.voided_at, registry="rpo")


def draft(controller: str, subject: bytes, event: Event, proof: str = "", at: Instant = 0) -> Draft:
    return Draft(
        at=at, controller=controller, subject=subject, event=event, actor="tests", channel="", proof=proof
    )


async def ask_group(folder: Path, group: list[PreparedCase]) -> Iterator[tuple[str, GateResult]]:
    """Run the calls of a group through one gate. Return the name, response and log record of each case."""
    config = configure(folder, group)
    published = set[tuple[Instant, str]]()
    publish_answers(config, group, published, group[0].facts.at)
    await fill_store(config, group)
    hand = world.Hand(group[0].facts.at)
    app = await App.open(config, registry=CollectorRegistry(), clock=hand)
    await load_lists(app, group)
    answers = []
    for case in group:
        hand.at = case.facts.at
        if publish_answers(config, group, published, hand.at):
            await app.tick(patience=None)
        answers.append(await app.gate.check(call_of(case), config.settings.clients[0]))
    await app.close()
    records = [record for _, record in Reader(config.data / "log").entries() if isinstance(record, Record)]
    pairs = zip(group, answers, records, strict=True)
    return ((case.case.about, GateResult(answer, record)) for case, answer, record in pairs)


def call_of(case: PreparedCase) -> Call:
    shown, facts = case.facts.caller_id, case.facts
    from_ = SHOWN.get(shown.form, shown.number)
    return Call(to=case.to, from_=from_, campaign=facts.campaign.id, call_type=facts.call_type)
