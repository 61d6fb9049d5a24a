"""`dialgate mcp`: tools for agents, over the Model Context Protocol."""

import asyncio

import typer

from dialgate.interfaces.cli.gate_client import GateClient, asks_gate
from dialgate.runtime.extras import require

app = typer.Typer()


@app.command(name="mcp")
@asks_gate
def serve_mcp(*, gate: GateClient) -> None:
    """Serve tools for agents on standard input and output, as the Model Context Protocol defines.

    An agent's program starts this command. The tools explain a decision, record a stop and simulate a check. They can do what the key permits.

    dialgate mcp --url http://127.0.0.1:8080 --key-file .data/sample.key
    """
    require("mcp", "Serving tools for agents")
    from dialgate.interfaces.cli.mcp_server import serve  # noqa: PLC0415 - in an extra

    asyncio.run(serve(gate))
