"""The endpoints for imports of registry answers that wait for their release."""

from typing import Final

from aiohttp import web
from msgspec import Struct

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.interfaces.held_imports import HeldImport, held_imports, release_import
from dialgate.interfaces.http.administration import OFFICER
from dialgate.interfaces.http.endpoint import EndpointGroup

REGISTRIES: Final = EndpointGroup(
    "Registries",
    "Imports of registry answers that change too much, until two people release them. An import that concerns all controllers needs a client with every controller.",
    scope="admin",
    in_path={"id": "`id` of the held import."},
    errors=("release.unreadable",),
)


class HeldImports(Struct, frozen=True):
    holds: list[HeldImport]


@REGISTRIES.endpoint("GET", "/v1/registries/holds", also=OFFICER)
async def list_held_imports(_: web.Request, app: App, client: Client) -> HeldImports:
    """Return the imports that the nightly job holds for the client's controllers, oldest first."""
    return HeldImports(await held_imports(app, client.controllers))


@REGISTRIES.endpoint(
    "POST",
    "/v1/registries/holds/{id}/release",
    also=OFFICER,
    errors=("release.unknown", "release.repeated", "release.people_only", "store.unavailable"),
)
async def release_held_import(request: web.Request, app: App, client: Client) -> HeldImport:
    """Approve a held import under the client's own name. Two different people must, then the job's next run publishes it.

    A key does not count as a person: send it over the gate's socket, or use the console.
    """
    return await release_import(app, client, request.match_info["id"])
