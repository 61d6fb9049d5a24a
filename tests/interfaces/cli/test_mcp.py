"""`dialgate mcp`, used by the client of the official SDK over standard input and output, on a real gate."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters

from dialgate.interfaces.cli import mcp_server
from dialgate.interfaces.cli.gate_client import GateClient
from tests.support import world
from tests.support.paths import ROOT
from tests.support.world import CALL, CLEAR, KEY, LISTED, SCOPES, World

PAGE: Final = (ROOT / "docs/how-to/connect-an-agent.md").read_text("utf-8")
READER: Final = "key-of-a-client-that-only-reads"


@asynccontextmanager
async def agent(gate: World, key_file: Path) -> AsyncIterator[Client]:
    """Start the command that the page configures, for a gate and a key file."""
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    entry = json.loads(block)["mcpServers"]["dialgate"]
    real = {
        "https://gate.example": f"http://127.0.0.1:{gate.port}",
        "/etc/dialgate/agent.key": str(key_file),
    }
    words = ["-m", entry["command"], *(real.get(word, word) for word in entry["args"])]
    async with Client(StdioServerParameters(command=sys.executable, args=words, cwd=ROOT)) as client:
        yield client


async def answer(client: Client, tool: str, **arguments: object) -> Any:
    """Return what a tool answers, or its error. Both are data, once as text and once as a structure."""
    result = await client.call_tool(tool, arguments)
    (part,) = result.content
    assert part.type == "text"
    assert json.loads(part.text) == result.structured_content
    assert result.is_error == ("error" in result.structured_content)
    return result.structured_content["error"] if result.is_error else result.structured_content


async def test_an_agent_explains_decisions_records_stops_and_asks_for_advice(tmp_path: Path) -> None:
    key_file = tmp_path / "agent.key"
    key_file.write_text(KEY)
    async with world.running(tmp_path / "gate") as gate, agent(gate, key_file) as client:
        await world.load_list(gate)
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools.keys() == {"explain_decision", "record_opt_out", "check_call"}
        assert "the trunk enforces" in str(tools["check_call"].description)
        assert tools["check_call"].input_schema["required"] == ["to", "from", "campaign"]
        assert tools["record_opt_out"].input_schema["properties"].keys().isdisjoint({"actor", "channel"})

        denied = await gate.post("/v1/check", {**CALL, "to": LISTED}, 200)
        account = await answer(client, "explain_decision", decision_id=denied["decision_id"], language="it")
        assert (account["decision"], account["reasons"][0]["code"]) == ("deny", "registry.listed")
        assert "Il numero è iscritto al registro delle opposizioni." in " ".join(account["words"])
        assert LISTED not in json.dumps(account)

        assert (await answer(client, "check_call", **CALL))["decision"] == "allow"
        assert len(gate.records()) == 1, "advice is not recorded as a decision"
        receipt = await answer(client, "record_opt_out", number=CLEAR, actor="Anna", proof="calls/7")
        assert (await gate.post("/v1/check", CALL, 200))["reasons"][0]["code"] == "revocation.revoked"
        assert (await answer(client, "check_call", **CALL))["decision"] == "deny"
        assert gate.sample("dialgate_lookups_total", what="simulation") == 2
        (entry,) = (
            entry
            for entry in await gate.app.registrar.access.store.since(0, 100)
            if entry.seq == receipt["seq"]
        )
        assert (entry.actor, entry.channel, entry.proof) == ("tests", "mcp", "calls/7")


async def test_errors_have_the_shape_of_the_api(tmp_path: Path) -> None:
    clients = [world.client("tests", KEY, *SCOPES), world.client("reader", READER, "read")]
    key_file = tmp_path / "agent.key"
    key_file.write_text(KEY)
    async with AsyncExitStack() as stack:
        gate = await stack.enter_async_context(world.running(tmp_path / "gate", clients=clients))
        async with agent(gate, key_file) as client:
            errors = [
                await answer(client, tool, **arguments)
                for tool, arguments in (
                    ("record_opt_out", {"number": "my number"}),
                    ("record_opt_out", {}),
                    ("explain_decision", {"decision_id": "00000000-1"}),
                    ("explain_decision", {"decision_id": "../ledger"}),
                    ("check_call", {**CALL, "priority": 1}),
                )
            ]
            with pytest.raises(MCPError, match="no tool 'lift'"):
                await client.call_tool("lift", {"number": CLEAR})
            key_file.write_text(READER)
            errors += [await answer(client, "record_opt_out", number=CLEAR)]
            errors += [await answer(client, "check_call", **CALL)]
            await stack.aclose()
            errors += [await answer(client, "record_opt_out", number=CLEAR)]
    assert [(error["code"], error["field"]) for error in errors] == [
        ("number.invalid", "number"),
        ("number.invalid", "number"),
        ("decision.unknown", "id"),
        ("request.invalid", "decision_id"),
        ("request.invalid", "priority"),
        ("auth.scope", ""),
        ("auth.scope", ""),
        ("gate.unreachable", ""),
    ]


async def test_a_stop_is_kept_while_the_gate_of_this_machine_does_not_run(tmp_path: Path) -> None:
    config = world.write_folder(tmp_path)
    (tmp_path / "data").mkdir()
    gate = GateClient(config)
    kept = await asyncio.to_thread(mcp_server.record_opt_out, gate, {"number": CLEAR})
    assert "in force before the gate decides a call" in kept["note"]
    async with world.serving(config) as app:
        (entry,) = await app.registrar.access.store.since(0, 100)
    assert (entry.actor.startswith("cli:"), entry.channel) == (True, "mcp")
