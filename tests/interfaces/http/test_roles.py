"""Every role at every endpoint: what the table of roles permits, and nothing of another controller."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args

import pytest
import pytest_asyncio

from dialgate.config.accounts import Role
from dialgate.config.clients import Scope
from dialgate.interfaces import http_application
from dialgate.interfaces.http import openapi
from dialgate.interfaces.http.endpoint import Endpoint
from dialgate.people.roles import ROLES
from tests.support import console_world, world
from tests.support.world import CLEAR, World

pytestmark = pytest.mark.asyncio(loop_scope="module")
ENDPOINTS: Final = [endpoint for endpoint in http_application.EVERY if endpoint.scope]
PLACE: Final = {
    "number": CLEAR,
    "id": "x",
    "name": "x",
    "node": "x",
    "seq": "1",
    "profile": "generic",
    "sha256": "a" * 64,
}
QUERY: Final = {"number": CLEAR, "purpose": "an audit", "controller": ""}
# A parameter that is refused after the role is known: that a role may make a report does not need the report.
WRONG: Final = {"limit": "x", "day": "x"}
# These start a process, which does not get the role. One role shows that they read nothing of another controller.
IN_A_PROCESS: Final = {"searchDecisions": "officer", "getReport": "supervisor"}
# Requests that an auditor may send though they are not a GET: they change nothing but the record of look-ups.
READING: Final = {"getShadowReport", "addLookups"}
OFFICERS: Final = {
    "exportEvidence", "removeExpiredData", "listRemovals", "listHolds", "addHold", "liftHold", "retireMonths", "getLogVerification",
    "verifyLog", "listHeldImports", "releaseHeldImport",
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    clients = [
        world.client(f"{role}-{name}", f"{role}-{name}", *scopes) | {"controllers": list(names)}
        for role, scopes in ROLES.items()
        for name, names in (("all", ("acme", "beta")), ("beta", ("beta",)))
    ]
    everything = world.client("tests", world.KEY, *world.SCOPES, "subjects")
    rest = [scope for scope in get_args(Scope) if scope not in {"officer", "admin", "audit"}]
    crm = world.client("crm", "crm", *rest) | {"controllers": ["acme", "beta"]}
    folder: Path = tmp_path_factory.mktemp("roles")
    async with console_world.running_console(folder, clients=[everything, crm, *clients]) as made:
        await made.post("/v1/revocations", {"number": CLEAR, "campaign": "acme-fibre", "scope": "campaign"})
        yield made


async def send(
    gate: World, endpoint: Endpoint, key: str, query: Mapping[str, Any], **fields: int
) -> tuple[int, str]:
    path = openapi.plain(endpoint.path).format(**PLACE)
    headers = {"Authorization": f"Bearer {key}"}
    body: dict[str, Any] | None = fields if endpoint.method == "POST" else None
    async with gate.client.request(endpoint.method, path, params=query, json=body, headers=headers) as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_opens_exactly_the_endpoints_of_its_scopes(gate: World, role: Role) -> None:
    opened = set()
    for endpoint in ENDPOINTS:
        may = bool({*ROLES[role]} & {*endpoint.scopes})
        status, text = await send(gate, endpoint, f"{role}-all", WRONG, unknown=1)
        assert ("auth.scope" in text) is not may, (role, endpoint.name, status, text)
        opened |= {endpoint.name} if may else set()
        if endpoint.whole_gate:
            status, _ = await send(gate, endpoint, f"{role}-beta", {})
            assert status == 403, (role, endpoint.name)
    assert opened


async def test_a_program_of_every_controller_opens_nothing_of_the_officers(gate: World) -> None:
    assert {endpoint.name for endpoint in ENDPOINTS if "officer" in endpoint.scopes} == OFFICERS
    for endpoint in ENDPOINTS:
        if endpoint.name in OFFICERS:
            status, text = await send(gate, endpoint, "crm", {})
            assert (status, "lacks the scope `admin` or `officer`" in text) == (403, True), (
                endpoint.name,
                text,
            )


async def test_an_auditor_reads_what_others_read_and_changes_nothing() -> None:
    table = {endpoint.name: endpoint for endpoint in ENDPOINTS if {*ROLES["auditor"]} & {*endpoint.scopes}}
    assert {name for name, endpoint in table.items() if endpoint.method != "GET"} == READING
    others = {scope for role, scopes in ROLES.items() if role != "auditor" for scope in scopes}
    readable = {
        endpoint.name
        for endpoint in ENDPOINTS
        if endpoint.method == "GET" and endpoint.scope in others - {"metrics"}
    }
    assert readable - table.keys() == {"exportLedger"}


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_sees_nothing_of_another_controller(gate: World, role: Role) -> None:
    answered = 0
    for endpoint in ENDPOINTS:
        if endpoint.method != "GET" or endpoint.whole_gate or endpoint.scope == "metrics":
            continue
        if IN_A_PROCESS.get(endpoint.name, role) != role:
            continue
        for query in ({}, QUERY):
            status, text = await send(gate, endpoint, f"{role}-beta", query)
            answered += status == 200
            assert "acme" not in text, (role, endpoint.name)
    assert answered or role == "agent"
