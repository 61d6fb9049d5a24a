"""`dialgate nodes`: the gates that share a store."""

from typing import Annotated

import typer

from dialgate.interfaces.cli.gate_client import GateClient, asks_gate, misuse_of, path_of
from dialgate.interfaces.cli.options import AsJson, reporting
from dialgate.interfaces.http.administration_schemas import NodeList
from dialgate.runtime.terminal import NO, show_json, show_table

app = typer.Typer()


@app.command()
@asks_gate
def nodes(
    *,
    forget: Annotated[
        str,
        typer.Option(
            metavar="NODE",
            help="Remove a decommissioned node permanently, by its name or the name of its log.",
        ),
    ] = "",
    gate: GateClient,
    as_json: AsJson = False,
) -> None:
    """Show the gates that share the store, with their versions, configurations and problems.

    After --forget, reports about data subjects no longer list the removed node as missing, and an older copy of the store
    no longer waits for its log. Keep that log where it can be searched.

    Exit 0: no problem. 1: a node is silent, or has a different configuration or version.

    dialgate nodes --json
    """
    with reporting(as_json=as_json), misuse_of("store.embedded", "node.unknown"):
        if forget:
            found = gate.ask("POST", path_of("/v1/nodes", forget, "forget"), NodeList)
        else:
            found = gate.ask("GET", "/v1/nodes", NodeList)
    if as_json:
        show_json(found)
    else:
        show_table(
            "",
            ("node", "version", "shared configuration", "last heard (UTC)", ""),
            [(node.node, node.version, node.config[:12], node.at, node.problem) for node in found.nodes],
        )
    raise typer.Exit(0 if found.ok else NO)
