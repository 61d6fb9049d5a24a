"""Gates for decision cases. The facts of each case are written to the files and the store that the gate reads.

Cases with the same law and answers from the same registries share a gate. Each case has its own controller, campaign,
caller ID and call lists. The clock moves to the instant of each case.
"""

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
from aiohttp import ClientSession
from msgspec import structs
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.config import loader
from dialgate.config.configuration import Config
from dialgate.core import ledger_events, local_time
from dialgate.core.ledger_events import Draft, Event
from dialgate.core.model import (
    HOUR,
    CallRequest,
    Consent,
    Contract,
    Facts,
    Instant,
    Objection,
    RegistryAnswer,
)
from dialgate.crypto.keys import Keys
from dialgate.decision_log.records import Reader, Record
from dialgate.interfaces import http_application
from dialgate.ledger.schemas import ListRequest
from dialgate.lists.snapshot import Consultation, Contents, State
from dialgate.lists.tabular import from_lines
from dialgate.store import CallerIdProof, CampaignPause, HourCount
from dialgate.store.sqlite import SqliteStore, campaign_counts
from dialgate.tools.policy.case_file import PolicyCase
from registry_sync import answer_merge, publication
from registry_sync.publication import PublishTarget
from tests.support import casebook, world, yaml_files
from tests.support.call_lists import built_from
from tests.support.casebook import case_law, facts_of

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
SPARE = "+390844999999"  # the campaign's caller ID if the one shown is not assigned to it
SHOWN = {"withheld": "anonymous", "invalid": "sales"}
# Caller IDs of the cases that do not name their own, and the same class of number for each case.
OWN = {"+390844123456": "+390844{:06}", "+390843123456": "+390843{:06}", "+390612345678": "+390613{:06}"}
_ELSEWHERE = (
    "999"  # a prefix without numbers, the only coverage of a list that does not cover the called number
)


class PreparedCase(NamedTuple):
    """A case, with the facts that the gate should gather, the number to call and the caller ID to show."""

    case: PolicyCase
    facts: Facts
    to: str
    shown: str
    place: int

    @property
    def is_number(self) -> bool:
        return self.to.startswith("+")


class GateResult(NamedTuple):
    answer: Any
    record: Record


def prepare(place: int, case: PolicyCase) -> PreparedCase:
    """Give a case a number, and names of its own for its controller, campaigns and lists."""
    facts = facts_of(case)
    to = case.to or NUMBERS[facts.number.kind, facts.number.region].format(place)
    shown = case.shown or SHOWN.get(facts.caller_id.form, facts.caller_id.number)
    shown = OWN.get(shown, shown).format(place) if not case.to and not facts.caller_id.shared else shown
    sector = facts.campaign.sector or ("other" if case.country == "IT" else "")
    controller = structs.replace(facts.controller, id=f"c{place}")
    campaign = structs.replace(facts.campaign, id=f"c{place}", sector=sector)
    names = {facts.campaign.id: campaign.id, "": ""}
    listings = tuple(
        structs.replace(on, list=f"{on.list}-{place}", origin=_of_controller(on.origin, controller.id))
        for on in facts.listings
    )
    known = structs.replace(
        facts.known,
        revocations=tuple(
            structs.replace(stop, campaign=names.get(stop.campaign, f"{stop.campaign}-{place}"))
            for stop in facts.known.revocations
        ),
        attempts=tuple(
            structs.replace(attempt, campaign=attempt.campaign or campaign.id)
            for attempt in facts.known.attempts
        ),
        consents=tuple(
            structs.replace(consent, origin=_of_controller(consent.origin, controller.id))
            for consent in facts.known.consents
        ),
        contracts=tuple(
            structs.replace(contract, sector=contract.sector or sector) for contract in facts.known.contracts
        ),
    )
    facts = structs.replace(facts, controller=controller, campaign=campaign, listings=listings, known=known)
    return PreparedCase(case, facts, to, shown, place)


def _of_controller(origin: Any, controller: str) -> Any:
    if origin is None:
        return None

    def renamed(name: str) -> str:
        return controller if name == "acme" else name

    transfers = tuple(
        structs.replace(transfer, by=renamed(transfer.by), to=renamed(transfer.to))
        for transfer in origin.transfers
    )
    return structs.replace(origin, collected_by=renamed(origin.collected_by), transfers=transfers)


def groups(cases: list[PreparedCase]) -> list[list[PreparedCase]]:
    """Group the cases that can share a gate, in time order, because a gate's clock never goes back.

    Cases in a group have the same law and answers from the same registries. A published full list answers for every
    number, so a case without an answer from that registry needs a gate without the list. A caller ID that a case names
    must not be another controller's, too.
    """
    together: defaultdict[bytes, list[PreparedCase]] = defaultdict(list)
    for case in cases:
        facts = case.facts
        answers = sorted(
            (answer.registry, answer.answer == "uncovered")
            for answer in facts.registries
            if answer.answer != "unknown"
        )
        alone = not case.case.to and (facts.caller_id.number not in OWN or facts.caller_id.shared)
        draft = facts.number.problem if facts.number.kind != "invalid" else ""
        key = (case.case.law, answers, draft, case.place if alone else -1)
        together[msgspec.json.encode(key)].append(case)
    return [sorted(group, key=lambda case: case.facts.at) for group in together.values()]


# ---- configuration ---------------------------------------------------------------------------------------------------


def write_config(folder: Path, group: list[PreparedCase]) -> Config:
    first = group[0].case
    controllers = [case.facts.controller.id for case in group]
    law = dict(casebook.case_law_data(first))
    if first.country == "IT":
        traits = {
            trait
            for case in group
            for trait in (*case.facts.controller.adheres_to, *case.facts.controller.traits)
        }
        law["traits"] = sorted({*law["traits"], *traits})
    client = {**world.client("tests", world.KEY, *world.SCOPES), "controllers": controllers}
    drafts = {"accept_drafts": [first.country]} if law.get("draft") else {}
    # One file of the log: the clock jumps by months, and a process would pack each closed file.
    path = world.write_folder(folder, clients=[client], log_segment_hours=0, **drafts)
    for name in ("countries/it.yaml", "controllers/acme.yaml"):
        (folder / name).unlink()
    yaml_files.write(folder / f"countries/{first.country.lower()}.yaml", law)
    number = group[0].facts.number
    if number.problem and number.kind != "invalid":
        yaml_files.write(folder / "countries/draft.yaml", law | {"country": number.region, "draft": True})
    for case in group:
        controller = _controller(case)
        written = [controller]
        if case.facts.caller_id.shared:
            written.append(
                controller | {"id": "partner", "campaigns": [controller["campaigns"][0] | {"id": "partners"}]}
            )
        for content in written:
            yaml_files.write(folder / f"controllers/{content['id']}.yaml", msgspec.to_builtins(content))
    return loader.load(path)


def _controller(case: PreparedCase) -> dict[str, Any]:
    facts, shown = case.facts, case.facts.caller_id
    campaign = {name: value for name, value in structs.asdict(facts.campaign).items() if value is not None}
    for gathered in ("known", "counts", "lifted_at", "paused_at"):
        del campaign[gathered]
    own = [case.shown] if shown.assigned else []
    campaign |= {
        "dial_region": case.case.country,
        "caller_ids": own or [SPARE],
        "held_caller_ids": own if shown.held else [],
        "directory_caller_ids": own if shown.in_directory else [],
        "caller_id_ends": {case.shown: shown.ends} if shown.ends else {},
        "ingress_proofs": {case.shown: shown.ingress_proof} if shown.ingress_proof else {},
    }
    if not facts.campaign.known:
        campaign["id"] = f"another-{case.place}"
    stops = {stop.campaign for stop in facts.known.revocations if stop.campaign} - {campaign["id"]}
    former = {f"{name}-{case.place}" for name in facts.former_campaigns}
    named: tuple[Consent | Objection, ...] = (*facts.known.consents, *facts.known.objections)
    goods = {name for given in named for name in given.goods} - {*facts.former_goods}
    others = [{**campaign, "id": name} for name in sorted(stops - former)]
    others += [
        {**campaign, "id": f"other-{place}-{case.place}", "goods": name}
        for place, name in enumerate(sorted(goods))
    ]
    controller = {
        **structs.asdict(facts.controller), "name": "Acme", "country": case.case.country, "campaigns": [campaign, *others],
    }  # fmt: skip
    controller["processors"] = controller.pop("collectors")
    return controller


# ---- registry answers ------------------------------------------------------------------------------------------------


def publish(config: Config, case: PreparedCase, lists: dict[str, bytes]) -> None:
    """Publish the registry answers of a case. A full list replaces the full list of the previous case.

    `lists` holds the last published content of each full list. Hundreds of cases have the same lists, which are not
    published again.
    """
    folder, modes = config.data / "snapshots", {law.id: law.mode for law in case_law(case.case).registries}
    for answer in case.facts.registries if case.is_number else ():
        if answer.answer == "unknown":
            continue
        if modes.get(answer.registry) == "full_list" or answer.answer == "uncovered":
            merged = _whole_list(case, answer)
            published = msgspec.json.encode((merged.contents, merged.numbers.tolist()))
            if lists.get(answer.registry) == published:
                continue
            lists[answer.registry] = published
            _publish(folder, merged, answer.consulted_at)
            continue
        if answer.listed_at and answer.answer != "listed":
            earlier = structs.replace(answer, answer="listed", consulted_at=answer.listed_at)
            _publish(folder, _answers(folder, case, earlier), answer.listed_at)
        _publish(folder, _answers(folder, case, answer), answer.consulted_at)


def _publish(folder: Path, merged: answer_merge.PublishedAnswers, at: Instant) -> None:
    with publication.lock_folder(folder):
        publication.publish_answers(PublishTarget(folder=folder), merged, at + HOUR)


def _answers(folder: Path, case: PreparedCase, answer: RegistryAnswer) -> answer_merge.PublishedAnswers:
    merged = world.merge_answers(
        folder,
        {case.to: answer.answer == "listed"},
        consultation(answer.consulted_at, answer.asked_since, _name(case, answer)),
        case.facts.controller.id,
        answer.registry,
    )
    states = tuple(
        structs.replace(state, blocks=answer.blocks, since=answer.since) for state in merged.contents.states
    )
    return merged._replace(contents=structs.replace(merged.contents, states=states))


def _name(case: PreparedCase, answer: RegistryAnswer) -> str:
    """Return a name of its own for a consultation in the future, which is void for good in all later cases."""
    return "ahead" if answer.consulted_at > case.facts.at else "at"


def _whole_list(case: PreparedCase, answer: RegistryAnswer) -> answer_merge.PublishedAnswers:
    listed = [int(case.to)] if answer.answer == "listed" else []
    contents = Contents(
        registry=answer.registry,
        controller="",
        mode="full_list",
        consultations=(consultation(answer.consulted_at, name=_name(case, answer)),),
        states=(_listed_state(answer),) if listed else (),
        coverage=(_ELSEWHERE if answer.answer == "uncovered" else case.to[1:2],),
    )
    return answer_merge.PublishedAnswers(
        contents, np.array(listed, np.uint64), np.zeros(len(listed), np.uint16)
    )


def _listed_state(answer: RegistryAnswer) -> State:
    return State(
        answer="listed",
        consultation=0,
        listed_at=answer.consulted_at,
        blocks=answer.blocks,
        since=answer.since,
    )


def consultation(at: Instant, since: Instant = 0, name: str = "at") -> Consultation:
    return Consultation(
        id=f"{name}-{at}", submitted_at=at, answered_at=at, imported_at=at, receipt="", request_sha256="", answer_sha256="",
        lines=0, listed=0, clear=0, asked_since=since,
    )  # fmt: skip


# ---- store and lists -------------------------------------------------------------------------------------------------


async def fill_store(config: Config, group: list[PreparedCase]) -> None:
    keys = Keys.open(config.data / "keys.json")
    store = SqliteStore.open(config.data / "store.db")
    try:
        for case in group:
            proved_at, controller = case.facts.caller_id.proved_at, case.facts.controller.id
            if proved_at:
                await store.put_proof(
                    CallerIdProof(controller=controller, caller_id=case.shown, at=proved_at, kind="probe")
                )
            if at := case.facts.campaign.paused_at:
                name = case.facts.campaign.id
                await store.put_pause(
                    CampaignPause(controller=controller, campaign=name, at=at, reason="a test", actor="anna")
                )
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


async def load_lists(app: App, case: PreparedCase) -> None:
    """Load the lists of a case as a client does.

    The origin of a list is that of the case, also if the law of today refuses to load such a list: a list of before stays.
    """
    store, folder = app.registrar.access.store, app.config.data / "lists"
    for listing in case.facts.listings if case.is_number else ():
        ask = ListRequest(
            id=f"{listing.list}-file",
            campaigns=(app.config.controllers[case.facts.controller.id].campaigns[0].id,),
            controller=case.facts.controller.id,
            basis=listing.basis,
            origin="public_directory",
            collected_by="acme",
            collected_on=listing.origin.collected_on,
        )
        rows = ["number,basis,place", f"{case.to},{listing.basis if listing.stated else ''},{listing.place}"]
        await app.registrar.call_lists.load_from(
            app.config.settings.clients[0], ask, built_from(from_lines(rows))
        )
        (loaded,) = (one for one in await store.lists() if one.id == ask.id)
        earlier = structs.replace(
            loaded, id=listing.list, origin=listing.origin, file=f"earlier.{loaded.file}"
        )
        shutil.copy(folder / loaded.file, folder / earlier.file)
        assert await store.add_list(earlier)
        await store.retire_list(case.facts.controller.id, ask.id, loaded.loaded_at)


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
    attempts = sorted(known.attempts, key=lambda attempt: attempt.at)
    named = [
        structs.replace(attempt, decision=f"{controller}-{case.to}-{place}")
        for place, attempt in enumerate(attempts)
    ]
    await store.settle("tests", 0, [(own, attempt) for attempt in named], [])


def events_of(consent: Consent) -> Iterator[Event]:
    fields: dict[str, Any] = {"artefact": "form", "artefact_sha256": "0" * 64} if consent.proved else {}
    if "certificate" in consent.other_proofs:
        fields |= {"certificate_url": "https://cert.example/1", "certificate_claim": "1"}
    if "crm_reference" in consent.other_proofs:
        fields |= {"crm_reference": "1", "attested_by": "sales", "attested_at": consent.collected_at}
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


# ---- calls -----------------------------------------------------------------------------------------------------------


async def ask_group(folder: Path, group: list[PreparedCase]) -> Iterator[tuple[PreparedCase, GateResult]]:
    """Check the calls of a group at one gate, over HTTP. Return each case with the answer and the record."""
    config = write_config(folder, group)
    config.data.mkdir(exist_ok=True)
    await fill_store(config, group)
    hand, registry = world.Hand(group[0].facts.at), CollectorRegistry()
    app = await App.open(config, registry=registry, clock=hand)
    runner = await http_application.start(app, registry)
    answers, lists = list[Any](), dict[str, bytes]()
    try:
        headers = {"Authorization": f"Bearer {world.KEY}"}
        async with ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}", headers=headers) as session:
            for case in group:
                hand.at = case.facts.at
                publish(config, case, lists)
                await load_lists(app, case)
                await app.tick(patience=None)
                call = {
                    "to": case.to, "from": case.shown, "campaign": case.facts.campaign.id,
                    "call_type": case.facts.call_type,
                }  # fmt: skip
                async with session.post("/v1/check", json=call) as response:
                    answers.append(await response.json())
    finally:
        await runner.cleanup()
        await app.close()
    records = [record for _, record in Reader(config.data / "log").entries() if isinstance(record, Record)]
    return zip(group, map(GateResult, answers, records), strict=True)
