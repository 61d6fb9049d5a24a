"""`dialgate nodes`: the gates that share a store."""

from typing import Annotated

import typer

from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.gate_client import GateClient, path_of
from dialgate.interfaces.http.administration_schemas import NodeList
from dialgate.runtime.terminal import show_table

app = typer.Typer()


def _show(nodes: NodeList) -> None:
    show_table(
        "",
        ("node", "version", "shared configuration", "last heard (UTC)", ""),
        [(node.node, node.version, node.config[:12], node.at, node.problem) for node in nodes.nodes],
    )


@app.command()
@command(_show, ok=lambda nodes: nodes.ok, misuses=("store.embedded", "node.unknown"))
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
) -> NodeList:
    """Show the gates that share the store, with their versions, configurations and problems.

    After --forget, reports about data subjects no longer list the removed node as missing, and an older copy of the store
    no longer waits for its log. Keep that log where it can be searched.

    Exit 0: no problem. 1: a node is silent, or has a different configuration or version.

    dialgate nodes --json
    """
    if forget:
        return gate.send("POST", path_of("/v1/nodes", forget, "forget"), NodeList)
    return gate.send("GET", "/v1/nodes", NodeList)
