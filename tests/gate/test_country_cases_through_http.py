"""The cases of each country's case book, checked over HTTP.

The tests run one case of each kind, or all cases with `DIALGATE_HTTP_CASES=all` (`make torture`).

Cases with the same law and answers from the same registries share a gate. Each case has its own controller, campaign
and call lists. The clock moves to the instant of each case.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from aiohttp import ClientSession
from msgspec import structs
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.config import loader
from dialgate.config.configuration import Config
from dialgate.core.decision import decide
from dialgate.core.local_time import rfc3339
from dialgate.core.model import HOUR, RegistryAnswer
from dialgate.crypto.keys import Keys
from dialgate.interfaces import http_application
from dialgate.ledger.schemas import ListRequest
from dialgate.lists.snapshot import Contents, State
from dialgate.lists.tabular import from_lines
from dialgate.store import CallerIdProof
from dialgate.store.sqlite import SqliteStore
from registry_sync import answer_merge, publication
from registry_sync.publication import PublishTarget
from tests.support import casebook, world, yaml_files
from tests.support.case_checks import name_of
from tests.support.case_world import SPARE, PreparedCase, consultation, count_calls, remember
from tests.support.casebook import Case, case_law, facts_of
from tests.support.country_cases import COUNTRIES, cases_of

_ELSEWHERE = (
    "999"  # a prefix without numbers, the only coverage of a list that does not cover the called number
)


def prepare(place: int, case: Case) -> PreparedCase:
    facts = facts_of(case)
    controller = structs.replace(facts.controller, id=f"c{place}")
    campaign = structs.replace(facts.campaign, id=f"c{place}")
    listings = tuple(
        structs.replace(
            listing, list=f"{listing.list}-{place}", origin=_of_controller(listing.origin, controller.id)
        )
        for listing in facts.listings
    )
    attempts = tuple(
        structs.replace(attempt, campaign=attempt.campaign or campaign.id) for attempt in facts.known.attempts
    )
    consents = tuple(
        structs.replace(consent, origin=_of_controller(consent.origin, controller.id))
        for consent in facts.known.consents
    )
    known = structs.replace(facts.known, attempts=attempts, consents=consents)
    facts = structs.replace(facts, controller=controller, campaign=campaign, listings=listings, known=known)
    return PreparedCase(case, facts, case.to)


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


def write_config(folder: Path, group: list[PreparedCase]) -> Config:
    country = group[0].case.country
    controllers = [case.facts.controller.id for case in group]
    client = {**world.client("tests", world.KEY, *world.SCOPES), "controllers": controllers}
    path = world.write_folder(folder, clients=[client], accept_drafts=[country])
    for name in ("countries/it.yaml", "controllers/acme.yaml"):
        (folder / name).unlink()
    law = casebook.case_law_data(group[0].case)
    yaml_files.write(folder / f"countries/{country.lower()}.yaml", law)
    for case in group:
        facts, shown = case.facts, case.facts.caller_id
        campaign = {
            name: value for name, value in structs.asdict(facts.campaign).items() if value is not None
        }
        for gathered in ("known", "counts", "lifted_at"):
            del campaign[gathered]
        campaign |= {"dial_region": country, "caller_ids": [case.case.shown if shown.assigned else SPARE]}
        campaign["held_caller_ids"] = [case.case.shown] if shown.held and shown.assigned else []
        campaign["directory_caller_ids"] = [case.case.shown] if shown.in_directory and shown.assigned else []
        campaign["caller_id_ends"] = {case.case.shown: shown.ends} if shown.ends else {}
        campaign["ingress_proofs"] = {case.case.shown: shown.ingress_proof} if shown.ingress_proof else {}
        controller = {
            **structs.asdict(facts.controller), "name": "Acme", "country": country, "campaigns": [campaign],
        }  # fmt: skip
        controller["processors"] = controller.pop("collectors")
        yaml_files.write(folder / f"controllers/{facts.controller.id}.yaml", msgspec.to_builtins(controller))
    return loader.load(path)


def publish(config: Config, case: PreparedCase, lists: dict[str, bytes]) -> None:
    """Publish the registry answers of a case. A full list replaces the full list of the previous case.

    `lists` holds the last published content of each full list. Hundreds of cases have the same lists, which are not
    published again.
    """
    folder, modes = config.data / "snapshots", {law.id: law.mode for law in case_law(case.case).registries}
    for answer in case.facts.registries:
        if answer.answer == "unknown":
            continue
        if modes[answer.registry] == "full_list":
            merged = _whole_list(case, answer)
            published = msgspec.json.encode((merged.contents, merged.numbers.tolist()))
            if lists.get(answer.registry) == published:
                continue
            lists[answer.registry] = published
        else:
            merged = _answers(folder, case, answer)
        with publication.lock_folder(folder):
            publication.publish_answers(PublishTarget(folder=folder), merged, answer.consulted_at + HOUR)


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


async def fill_store(config: Config, group: list[PreparedCase]) -> None:
    keys = Keys.open(config.data / "keys.json")
    store = SqliteStore.open(config.data / "store.db")
    try:
        for case in group:
            shown = case.facts.caller_id
            if shown.proved_at:
                proof = CallerIdProof(
                    controller=case.facts.controller.id,
                    caller_id=shown.number,
                    at=shown.proved_at,
                    kind="probe",
                )
                await store.put_proof(proof)
            await remember(store, keys, case)
    finally:
        await store.close()
    count_calls(config, group)


async def load_lists(app: App, case: PreparedCase) -> None:
    for listing in case.facts.listings:
        origin = structs.asdict(listing.origin)
        ask = ListRequest(
            id=listing.list,
            campaigns=(case.facts.campaign.id,),
            controller=case.facts.controller.id,
            basis=listing.basis,
            origin=origin.pop("kind"),
            **origin,
        )
        rows = ["number,basis,place", f"{case.to},{listing.basis if listing.stated else ''},{listing.place}"]
        await app.registrar.call_lists.load_list(app.config.settings.clients[0], ask, from_lines(rows))


async def ask_group(folder: Path, group: list[PreparedCase]) -> Iterator[tuple[str, Any]]:
    """Let one gate decide the calls of a group. Returns the name of each case with the response."""
    config = write_config(folder, group)
    config.data.mkdir()
    await fill_store(config, group)
    hand, registry = world.Hand(group[0].facts.at), CollectorRegistry()
    app = await App.open(config, registry=registry, clock=hand)
    runner = await http_application.start(app, registry)
    answers: list[Any] = []
    lists: dict[str, bytes] = {}
    try:
        headers = {"Authorization": f"Bearer {world.KEY}"}
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with ClientSession(url, headers=headers) as session:
            for case in group:
                hand.at = case.facts.at
                publish(config, case, lists)
                await load_lists(app, case)
                await app.tick(patience=None)
                call = {
                    "to": case.to, "from": case.case.shown, "campaign": case.facts.campaign.id,
                    "call_type": case.facts.call_type,
                }  # fmt: skip
                async with session.post("/v1/check", json=call) as response:
                    answers.append(await response.json())
    finally:
        await runner.cleanup()
        await app.close()
    return zip((name_of(case.case) for case in group), answers, strict=True)


def groups(cases: list[PreparedCase]) -> list[list[PreparedCase]]:
    """Group the cases that can share a gate, in time order, because a gate's clock never goes back.

    Cases in a group have the same law and answers from the same registries. A published full list answers for every
    number, so a case without an answer from that registry needs a gate without the list.
    """
    together: defaultdict[bytes, list[PreparedCase]] = defaultdict(list)
    for case in cases:
        lists = [answer.registry for answer in case.facts.registries if answer.answer != "unknown"]
        together[msgspec.json.encode((case.case.law, sorted(lists)))].append(case)
    return [sorted(group, key=lambda case: case.facts.at) for group in together.values()]


@pytest.mark.timeout(600)  # the United States have 372 cases, each with a call list of its own
@pytest.mark.parametrize("country", COUNTRIES)
def test_each_case_is_decided_over_http_as_by_the_rules(country: str, tmp_path: Path) -> None:
    cases = [case for case in cases_of(country) if not case.pending and _is_a_call(case)]
    if os.environ.get("DIALGATE_HTTP_CASES") != "all":
        cases = list({_kind(case): case for case in cases}.values())
    names = count()

    async def ask_all() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for group in groups([prepare(place, case) for place, case in enumerate(cases)]):
            found.update(await ask_group(tmp_path / str(next(names)), group))
        return found

    answers = asyncio.run(ask_all())
    assert len(answers) == len(cases)
    different = {name_of(case): answers[name_of(case)] for case in cases if not _agrees(case, answers)}
    assert different == {}


def _is_a_call(case: Case) -> bool:
    """Return whether a case describes a real call.

    Cases in the `shared` and `scopes` books do not. They vary the facts that sections of the law depend on.
    """
    return "/shared/" not in case.file and not case.file.endswith("/scopes")


def _kind(case: Case) -> tuple[object, ...]:
    """Return the kind of a case. Over HTTP, one case of each kind is enough.

    The kind consists of the decision's legal basis, the denial reasons, the bases of the call list entries, and the
    registry answers.
    """
    facts = facts_of(case)
    decision = decide(facts, case_law(case))
    return (
        decision.basis,
        tuple((deny.code, deny.law) for deny in decision.reasons),
        tuple(sorted(listing.basis for listing in facts.listings)),
        tuple(answer.answer for answer in facts.registries),
    )


def _agrees(case: Case, answers: dict[str, Any]) -> bool:
    answer, decision = answers[name_of(case)], decide(facts_of(case), case_law(case))
    given = [(reason["code"], reason["severity"], reason["law"]) for reason in answer.get("reasons", ())]
    return (
        answer["decision"] == case.want.decision
        and given == [(deny.code, deny.severity, deny.law) for deny in decision.reasons]
        and answer.get("not_before", "") == (rfc3339(decision.not_before) if decision.not_before else "")
    )


async def test_a_gate_whose_country_has_no_registry_is_ready_without_answers(tmp_path: Path) -> None:
    case = prepare(0, cases_of("DE")[0])
    config = write_config(tmp_path, [case])
    assert not config.laws["DE"].registries
    app = await App.open(config, registry=CollectorRegistry(), clock=world.Hand(case.facts.at))
    await app.tick()
    assert app.gate.readiness() == {}
    await app.close()
