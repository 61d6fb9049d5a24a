"""The endpoints for the keys of programs. What a client may do is in `clients` of dialgate.yaml."""

from typing import Final

from aiohttp import web

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.interfaces.http.endpoint import EndpointGroup
from dialgate.people.client_keys import ClientInfo, ClientList, KeyRequest, NewKey

CLIENT_KEYS: Final = EndpointGroup(
    "Keys",
    "The keys of programs: make, expire and disable them. What each program may do is in dialgate.yaml. The client needs every controller.",
    scope="admin",
    whole_gate=True,
    in_path={"name": "Name of the client in dialgate.yaml.", "id": "`id` of the key."},
    errors=("store.unavailable",),
)


@CLIENT_KEYS.endpoint("GET", "/v1/clients")
async def list_clients(_: web.Request, app: App, __: Client) -> ClientList:
    """Return all clients with their keys, also keys that are no longer valid. No key can be shown again."""
    return ClientList(app.client_keys.infos())


@CLIENT_KEYS.endpoint(
    "POST", "/v1/clients/{name}/keys", status=201, errors=("api_key.client_unknown", "api_key.two_valid")
)
async def add_key(request: web.Request, app: App, client: Client, *, ask: KeyRequest) -> NewKey:
    """Make a key for a client, in force now on this gate and within two seconds on others. It is returned once.

    A client has at most two valid keys, among them that of dialgate.yaml: the one in use, and the one that replaces it.
    A key that is added to dialgate.yaml later is valid, too; then no key can be made until less than two are valid.
    """
    return await app.client_keys.make(client, request.match_info["name"], ask)


@CLIENT_KEYS.endpoint(
    "DELETE", "/v1/clients/{name}/keys/{id}", errors=("api_key.client_unknown", "api_key.unknown")
)
async def disable_key(request: web.Request, app: App, client: Client) -> ClientInfo:
    """Disable a key for good, also one of dialgate.yaml: now on this gate, and within two seconds on others."""
    return await app.client_keys.disable(client, request.match_info["name"], request.match_info["id"])
