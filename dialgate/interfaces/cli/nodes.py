"""`dialgate nodes`: the gates that share a store."""

import asyncio
from typing import Annotated

import typer

from dialgate.cluster import membership
from dialgate.config.configuration import Config, ConfigError
from dialgate.core.faults import Unavailable
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    Failure,
    load_config,
    reporting,
)
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import MISUSE, NO, show_json, show_table, utc
from dialgate.store import Members, Shared, factory
from dialgate.store.membership import SILENT

app = typer.Typer()


@app.command()
def nodes(
    *,
    forget: Annotated[
        str,
        typer.Option(
            metavar="NODE",
            help="Remove a decommissioned node permanently, by its name or the name of its log.",
        ),
    ] = "",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show the gates that share the store, with their versions, configurations and problems.

    After --forget, reports about data subjects no longer list the removed node as missing, and an older copy of the store
    no longer waits for its log. Keep that log where it can be searched.

    Exit 0: no problem. 1: a node is silent, or has a different configuration or version.

    dialgate nodes --json
    """
    with reporting(as_json=as_json):
        try:
            members = asyncio.run(_members(load_config(config), forget))
        except (ConfigError, Unavailable) as error:
            raise Failure("store.unavailable", str(error)) from None
    problems = membership.problems(members, wall_clock())
    if as_json:
        rows = [{"node": node.node, "problem": problems.get(node.node, ""), "version": node.version,
                 "config": node.config, "laws": node.laws, "at": node.at} for node in members.present]  # fmt: skip
        show_json({"ok": not problems, "nodes": rows})
    else:
        show_table(
            "",
            ("node", "version", "shared configuration", "last heard (UTC)", ""),
            [
                (node.node, node.version, node.config[:12], utc(node.at), problems.get(node.node, ""))
                for node in members.present
            ],
        )
    raise typer.Exit(NO if problems else 0)


async def _members(config: Config, forget: str) -> Members:
    store = await factory.open_store(config)
    try:
        if not isinstance(store, Shared):
            raise Failure(
                "store.embedded",
                "The store is embedded, so there are no other nodes. To use a shared store, set `store`.",
                status=MISUSE,
            )
        if forget:
            await _forget(store, forget)
        return await store.members()
    finally:
        await store.close()


async def _forget(store: Shared, name: str) -> None:
    members = await store.members()
    if name not in members.gates | members.unsettled:
        raise Failure(
            "node.unknown",
            "The store has no node with this name. `dialgate nodes` lists them.",
            field="forget",
            status=MISUSE,
        )
    workers = (node for node in members.present if node.gate == name)
    if any(wall_clock() - node.at < SILENT for node in workers):
        raise Failure("node.at_work", "The node is running. Stop it first.", field="forget")
    await store.forget(name)
