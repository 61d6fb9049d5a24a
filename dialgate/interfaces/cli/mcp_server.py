"""The MCP server of `dialgate mcp`. Its dependencies are in the extra `mcp`.

Each tool sends one request to a gate, which checks the arguments, the scopes of the key and whose data it is. A result is the gate's
answer and nothing else, because an agent may obey sentences in it. A tool's name and docstring are what the agent sees.
"""

import asyncio
from functools import partial
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from mcp import MCPError
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)
from msgspec import Meta, Struct

from dialgate import __version__
from dialgate.core.decision_ids import PATTERN
from dialgate.interfaces.cli.gate_client import GateClient, path_of
from dialgate.interfaces.cli.ledger_access import request
from dialgate.interfaces.cli.options import REPORTED, error_body, failure_of
from dialgate.interfaces.cli.revoke import record_stop
from dialgate.interfaces.http.check import SimulateRequest
from dialgate.ledger.schemas import RevocationRequest, described
from dialgate.texts import Language

_Json: TypeAlias = dict[str, Any]
# Fields of a stop that an agent cannot set. The actor is then the client whose key it is.
_FIXED: Final = {"actor": "", "channel": "mcp"}


class DecisionToExplain(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    decision_id: Annotated[
        str, Meta(pattern=f"^({PATTERN})$", description="`decision_id` of the check's response.")
    ]
    language: Annotated[Language | None, described("Language of the explanation. Default: English.")] = None


def explain_decision(gate: GateClient, arguments: _Json) -> _Json:
    """Explain a recorded decision about a call: what was decided, when, why, and under which law."""
    question = request(DecisionToExplain, arguments)
    path = path_of("/v1/decisions", question.decision_id)
    return gate.send("GET", path, _Json, query={"language": question.language})


def record_opt_out(gate: GateClient, arguments: _Json) -> _Json:
    """Record that a person wants no more calls.

    Once this succeeds, the stop binds every later decision and overrides every consent in its scope. If it fails, nothing was
    recorded: repeat it, or tell a colleague. Only an operator can lift a stop.
    """
    receipt: _Json = msgspec.to_builtins(record_stop(gate, {"number": "", **arguments, **_FIXED}))
    return receipt


def check_call(gate: GateClient, arguments: _Json) -> _Json:
    """Advise whether a call would be allowed, with the outcome of every rule.

    This is advice and no permission: the trunk enforces. Each call is checked there when it is placed, and may then be denied. No
    attempt and no decision is recorded.
    """
    return gate.send("POST", "/v1/simulate", _Json, arguments)


TOOLS: Final = {
    explain_decision: DecisionToExplain,
    record_opt_out: RevocationRequest,
    check_call: SimulateRequest,
}


async def serve(gate: GateClient) -> None:
    """Serve the tools until the agent's program closes standard input."""
    server = Server(
        "dialgate", version=__version__, on_list_tools=_list_tools, on_call_tool=partial(_call_tool, gate)
    )
    async with stdio_server() as (reader, writer):
        await server.run(reader, writer, server.create_initialization_options())


async def _list_tools(_: ServerRequestContext, __: PaginatedRequestParams | None) -> ListToolsResult:
    tools = []
    for tool, arguments in TOOLS.items():
        parts = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")[1]
        schema = {**parts.pop(arguments.__name__), "$defs": parts}
        schema["properties"] = {name: x for name, x in schema["properties"].items() if name not in _FIXED}
        tools.append(
            Tool(name=tool.__name__, description=" ".join((tool.__doc__ or "").split()), input_schema=schema)
        )
    return ListToolsResult(tools=tools)


async def _call_tool(
    gate: GateClient, _: ServerRequestContext, params: CallToolRequestParams
) -> CallToolResult:
    """Run a tool. An error has the shape of the HTTP API's."""
    tool = {tool.__name__: tool for tool in TOOLS}.get(params.name)
    if tool is None:
        raise MCPError(INVALID_PARAMS, f"There is no tool {params.name!r}. List the tools.")
    try:
        answer, is_error = await asyncio.to_thread(tool, gate, params.arguments or {}), False
    except REPORTED as error:
        answer, is_error = error_body(failure_of(error)), True
    text = TextContent(type="text", text=msgspec.json.encode(answer).decode())
    return CallToolResult(content=[text], structured_content=answer, is_error=is_error)
