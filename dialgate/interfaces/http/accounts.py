"""The endpoints for the accounts of people. Programs have keys instead (`clients` in dialgate.yaml)."""

from typing import Final

from aiohttp import web

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.interfaces.http.endpoint import EndpointGroup
from dialgate.people.schemas import (
    AccountInfo,
    AccountList,
    AccountRequest,
    AccountUpdate,
    Invitation,
    SessionEnd,
)

ACCOUNTS: Final = EndpointGroup(
    "Accounts",
    "People who sign in at the console: their roles, invitations and sessions. The client needs every controller.",
    scope="admin",
    whole_gate=True,
    in_path={"name": "Name of the account."},
    errors=("store.unavailable",),
)


@ACCOUNTS.endpoint("GET", "/v1/accounts")
async def list_accounts(_: web.Request, app: App, __: Client) -> AccountList:
    """Return all accounts with their sessions, also those of people who left."""
    return AccountList(await app.people.infos())


@ACCOUNTS.endpoint("POST", "/v1/accounts", status=201, errors=("account.exists", "controller.unknown"))
async def add_account(_: web.Request, app: App, client: Client, *, ask: AccountRequest) -> Invitation:
    """Add an account, and return the link with which the person sets a password within 72 hours. It is valid once."""
    return await app.people.add(client, ask)


@ACCOUNTS.endpoint(
    "POST", "/v1/accounts/{name}", errors=("account.unknown", "account.own", "controller.unknown")
)
async def update_account(
    request: web.Request, app: App, client: Client, *, ask: AccountUpdate
) -> AccountInfo:
    """Change a person's role or controllers, from the next request on, or disable the account of a person who leaves."""
    return await app.people.update(client, request.match_info["name"], ask)


@ACCOUNTS.endpoint(
    "POST", "/v1/accounts/{name}/invitation", status=201, errors=("account.unknown", "account.own")
)
async def invite_account(request: web.Request, app: App, client: Client) -> Invitation:
    """Invite a person again. Their password, codes and sessions are void at once."""
    return await app.people.invite(client, request.match_info["name"])


@ACCOUNTS.endpoint(
    "POST",
    "/v1/accounts/{name}/confirmation",
    errors=("account.unknown", "account.not_active", "account.second_person"),
)
async def confirm_account(request: web.Request, app: App, client: Client) -> AccountInfo:
    """Confirm that the account belongs to the person whose name it has, so that it counts where two people must act.

    Somebody other than who sent the invitation must. A key does not count.
    """
    return await app.people.confirm(client, request.match_info["name"])


@ACCOUNTS.endpoint("POST", "/v1/accounts/{name}/sessions/end", errors=("account.unknown",))
async def end_sessions(request: web.Request, app: App, client: Client, *, ask: SessionEnd) -> AccountInfo:
    """End one or all sessions of a person."""
    return await app.people.end_sessions(client, request.match_info["name"], ask.session)
