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
from dialgate.store import Muster, Shared, factory

app = typer.Typer()


@app.callback()
def nodes_app() -> None:
    """It is one of several commands."""


@app.command()
def nodes(
    *,
    forget: Annotated[
        str, typer.Option(metavar="NODE", help="Take a silent one off the list, that will not come back.")
    ] = "",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show the gates that share the store: what they run, and which are silent or on an old configuration or version.

    One that is forgotten is no longer missed by whoever asks about a person: keep its log where it can be looked into.

    Exit 0: all are as they should be. 1: one is not.

    dialgate nodes --json"""
    with reporting(as_json=as_json):
        try:
            muster = asyncio.run(_muster(load_config(config), forget))
        except (ConfigError, Unavailable) as error:
            raise Failure("store.unavailable", str(error)) from None
    found = membership.problems(muster, wall_clock())
    if as_json:
        rows = [{"node": each.node, "problem": found.get(each.node, ""), "version": each.version,
                 "config": each.config, "laws": each.laws, "at": each.at} for each in muster.present]  # fmt: skip
        show_json({"ok": not found, "nodes": rows})
    else:
        show_table(
            "",
            ("node", "version", "shared configuration", "last heard (UTC)", ""),
            [
                (each.node, each.version, each.config[:12], utc(each.at), found.get(each.node, ""))
                for each in muster.present
            ],
        )
    raise typer.Exit(NO if found else 0)


async def _muster(config: Config, forget: str) -> Muster:
    store = await factory.open_store(config)
    try:
        if not isinstance(store, Shared):
            raise Failure(
                "store.embedded", "The store is this gate's own: there is no other node.", status=MISUSE
            )
        if forget:
            await _forget(store, forget)
        return await store.muster()
    finally:
        await store.close()


async def _forget(store: Shared, name: str) -> None:
    muster = await store.muster()
    if name not in muster.gates:
        raise Failure("node.unknown", "No gate of this name was ever there.", field="forget", status=MISUSE)
    own = (each for each in muster.present if each.gate == name)
    if any(wall_clock() - each.at < membership.SILENT for each in own):
        raise Failure("node.at_work", "It is at work: stop it first.", field="forget")
    await store.forget(name)
