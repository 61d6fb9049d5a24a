"""The record of processing activities and the impact assessment: what the configuration says appears, and nothing else."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dialgate import texts
from dialgate.config import loader
from dialgate.people.roles import ROLES
from dialgate.subjects import processing
from tests.interfaces.console.test_console import browser, get
from tests.support import console_world, world, yaml_files
from tests.support.people import join
from tests.support.world import World

PATH = "/v1/records-of-processing"
OPERATOR, AUDITOR = "key-operator", "key-auditor-2"
MARKUP = "<b>none</b>"


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    clients = [
        *console_world.clients(),
        world.client("operator", OPERATOR, *ROLES["operator"]) | {"controllers": ["acme", "beta"]},
        world.client("auditor", AUDITOR, *ROLES["auditor"]) | {"controllers": ["acme", "beta"]},
    ]
    async with console_world.running_console(tmp_path, clients=clients) as running:
        yield running


def reload(gate: World, controller: dict[str, Any], **settings: Any) -> None:
    for path, changes in (
        (gate.folder / "controllers/acme.yaml", controller),
        (gate.folder / "dialgate.yaml", settings),
    ):
        yaml_files.write(path, yaml_files.read(path) | changes)
    gate.app.reload(loader.load(gate.folder / "dialgate.yaml"))


async def statements(gate: World, kind: str, controller: str = "acme") -> dict[str, dict[str, str]]:
    """Return the statements of a document by name. Of several with one name, the last."""
    found = (await gate.get(f"{PATH}?language=en"))["documents"]
    document = next(each for each in found if (each["kind"], each["controller"]) == (kind, controller))
    every = [statement for section in document["sections"] for statement in section["statements"]]
    assert document["open"] == sum(
        "setting" in statement and statement["setting"] != "" for statement in every
    )
    return {statement["name"]: statement for statement in every}


async def test_what_nobody_states_is_not_stated_until_a_reload_states_it(gate: World) -> None:
    before = await statements(gate, "record")
    for name in ("transfers", "recipients", "measures", "joint_controllers", "representative", "categories"):
        assert (before[name]["text"], before[name]["setting"]) == ("", f"processing.{name}")
    assert before["provider"]["setting"] == "processor"
    own = {"transfers": "None: all servers are in Milan {rack 4}.", "risks": "Low."}
    reload(gate, {"processing": own}, processor={"name": "Callbridge", "contact": "dpo@callbridge.example"})
    after = await statements(gate, "record")
    assert (after["transfers"]["text"], after["transfers"]["setting"]) == (own["transfers"], "")
    assert after["provider"]["text"] == "Callbridge, dpo@callbridge.example"
    assert after["recipients"]["text"] == ""
    assessment = await statements(gate, "assessment")
    assert assessment["risks"]["text"] == "Low."
    assert assessment["conclusion"]["setting"] == "processing.conclusion"
    provider = await statements(gate, "processor_record", "")
    assert provider["party"]["text"] == "Callbridge"
    assert provider["transfers"]["setting"] == "processor.transfers"  # its own, not the controller's


async def test_the_values_of_the_configuration_appear_and_change_with_it(gate: World) -> None:
    before = await statements(gate, "record")
    assert before["decisions"]["text"].startswith("Linked to the number for 120 whole months")
    assert before["bases"]["text"].startswith("consent (D.Lgs. 196/2003 art. 130 c. 1 and 2")
    assert {
        "agents_off",
        "tls_off",
        "verification_off",
        "removal",
        "copies_off",
        "stops_all",
    } <= before.keys()
    reload(
        gate,
        {"record_agents": True, "stops": "marketing"},
        verify_log_nightly=True,
        storage={"daily": False, "lookups_days": 30},
        retention=[{"country": "IT", "allowed_months": 125, "refused_months": 121}],
        shadow_until="2026-12-31",
        shipping={"to": "s3://copies/gate"},
    )
    after = await statements(gate, "record")
    assert "125 whole months (allowed calls) or 121" in after["decisions"]["text"]
    assert {"agents", "verification", "removal_off", "stops_marketing"} <= after.keys()
    assert "agents_off" not in after
    assert after["shadow"]["setting"] == "shadow_until"
    assert after["shipping"]["text"] == "s3://copies/gate"
    assert after["removal_off"]["setting"] == "storage.daily"


async def test_accounts_are_a_measure_only_once_a_person_has_signed_in(gate: World) -> None:
    assert "accounts_off" in await statements(gate, "record")
    await join(gate.app.people, gate.hand(), "anna.rossi", "officer", "*")
    found = await statements(gate, "record")
    assert "one-time code" in found["accounts"]["text"]
    assert "accounts_off" not in found


async def test_officer_operator_and_auditor_see_their_own_controllers(gate: World) -> None:
    for key in (console_world.OFFICER, OPERATOR, AUDITOR):
        found = (await gate.get(PATH, Authorization=f"Bearer {key}"))["documents"]
        assert {document["controller"] for document in found} == {"acme", "beta"}
    for key in (console_world.SUPERVISOR, console_world.AGENT):
        await gate.get(PATH, 403, Authorization=f"Bearer {key}")
    stranger = f"Bearer {console_world.STRANGER}"
    assert {each["controller"] for each in (await gate.get(PATH, Authorization=stranger))["documents"]} == {
        "beta"
    }
    await gate.get(f"{PATH}/record?controller=acme", 404, Authorization=stranger)
    await gate.get(f"{PATH}/record?controller=", 404, Authorization=f"Bearer {OPERATOR}")  # which one?
    refused = await gate.get(f"{PATH}/processor_record", 400)
    assert refused["error"]["field"] == "id"


@pytest.mark.parametrize("key", [console_world.OFFICER, OPERATOR, AUDITOR])
async def test_the_page_and_its_print_have_the_same_texts(gate: World, key: str) -> None:
    reload(gate, {"processing": {"transfers": MARKUP}})
    async with browser(gate, key) as session:
        page = await get(session, "/console/records-of-processing?document=assessment&controller=acme")
        assert 'href="/console/records-of-processing"' in page  # in the menu
        assert "Not stated</span> Set: <code>processing.necessity</code>" in page
        await get(session, "/console/records-of-processing?controller=nobody", 404)
        printed = await get(
            session, "/console/records-of-processing/record?controller=acme&language=it&form=html"
        )
        assert "Registro delle attività di trattamento" in printed
        assert "non indicato: impostare <code>processing.recipients</code>" in printed
        assert "&lt;b&gt;none" in printed
        assert "<b>none" not in printed


def test_both_languages_have_the_same_statements_and_placeholders() -> None:
    def shape(language: texts.Language) -> Any:
        words = processing._words(language)
        names = {
            key: [sorted(re.findall(r"\{(\w+)\}", part)) for part in statement]
            for key, statement in words.statements.items()
        }
        return list(words.documents), list(words.sections), names

    assert shape("it") == shape("en")
