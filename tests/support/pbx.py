"""A gate with a FastAGI listener on a free port, and a simulated Asterisk that calls it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from dialgate.app import App
from dialgate.config import loader
from dialgate.config.configuration import Config
from dialgate.interfaces.fastagi.server import FastAgiServer
from dialgate.tools.conformance.asterisk import Channel, agi
from tests.support import world, yaml_files
from tests.support.asterisk import Quirks, StrictChannel
from tests.support.world import CALLER, CLEAR, KEY, SCOPES, World

PBX = {
    "name": "pbx",
    "controllers": ["acme"],
    "scopes": ["check", "revoke", "ledger"],
    "sources": ["127.0.0.1/32", "::1/128"],
}
CAMPAIGN = "acme-fibre"


class Pbx(Struct, frozen=True):
    made: World
    server: FastAgiServer
    port: int

    def channel(self, to: str = CLEAR, **changes: Any) -> StrictChannel:
        return StrictChannel(extension=to, caller=CALLER, **changes)

    async def run_check(
        self, to: str = CLEAR, *more: str, script: str = "check", quirks: Quirks | None = None, **changes: Any
    ) -> StrictChannel:
        """Run `AGI(agi://…/check,to,from,campaign)` and return the channel, including the variables that the script set."""
        channel = self.channel(to, quirks=quirks or Quirks(), **changes)
        given = (to, CALLER, CAMPAIGN, *more) if script == "check" else (to, CALLER, *more)
        await self.agi(channel, script, *given)
        return channel

    async def agi(self, channel: StrictChannel, script: str, *arguments: str) -> str:
        return await agi(channel, f"agi://127.0.0.1:{self.port}/{script}", *arguments)


def decision_and_reason(channel: Channel) -> tuple[str, str]:
    return channel.variables.get("DG_DECISION", ""), channel.variables.get("DG_REASON", "")


@asynccontextmanager
async def run_gate(folder: Path, **changes: Any) -> AsyncIterator[Pbx]:
    """Run a gate with one call list. `changes` replaces settings of dialgate.yaml, and adds to its `fastagi` section."""
    written = {
        "clients": [world.client("tests", KEY, *SCOPES), PBX],
        "fastagi": {"port": 0, "deadline_seconds": 10, **changes.pop("fastagi", {})},
        **changes,
    }
    async with world.running(folder, **written) as made:
        await world.load_list(made)
        server = FastAgiServer(made.app)
        try:
            yield Pbx(made, server, await server.start())
        finally:
            await server.close()


def reconfigured(config: Config, changes: dict[str, list[str]]) -> Config:
    """Apply `changes` to the client `pbx` and return the reloaded configuration."""
    path = config.folder / "dialgate.yaml"
    written = yaml_files.read(path)
    next(client for client in written["clients"] if client["name"] == "pbx").update(changes)
    yaml_files.write(path, written)
    return loader.load(path)


def present(app: App, caller_id: str) -> None:
    """Assign another caller ID to the campaign."""
    path = app.config.folder / "controllers" / "acme.yaml"
    written = yaml_files.read(path)
    written["campaigns"][0]["caller_ids"].append(caller_id)
    yaml_files.write(path, written)
    app.reload(loader.load(app.config.folder / "dialgate.yaml"))
