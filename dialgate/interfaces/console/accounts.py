"""The page with all accounts, for an operator, and the page with the visitor's password and sessions."""

from http import HTTPStatus
from typing import Any, get_args

from aiohttp import web

from dialgate.config.accounts import Role
from dialgate.core.refusal import Refused
from dialgate.interfaces.console.navigation import ROOT
from dialgate.interfaces.console.visit import Fields, Visit, redirect, serves_form
from dialgate.interfaces.http.errors import Fault, convert
from dialgate.people.roles import ALL
from dialgate.people.schemas import AccountRequest, AccountUpdate


async def _page(visit: Visit, fields: Fields, status: int = HTTPStatus.OK, **context: Any) -> web.Response:
    return visit.show(
        "accounts",
        "accounts",
        status,
        accounts=await visit.app.people.infos(),
        roles=get_args(Role),
        every=ALL,
        **{"fields": fields, "invitation": None, **context},
    )


async def show_accounts(visit: Visit) -> web.StreamResponse:
    return await _page(visit, {})


@serves_form(_page)
async def add(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Add an account and show its invitation, once."""
    values = {name: fields.get(name, "") for name in ("name", "role")}
    request = convert({**values, "controllers": fields.get("controllers", "").split()}, AccountRequest)
    return await _page(visit, {}, 201, invitation=await visit.app.people.add(visit.client, request))


@serves_form(_page)
async def change(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Invite again, confirm, disable, change the role or controllers, or end the sessions of the account in the path."""
    people, name = visit.app.people, visit.request.match_info["id"]
    match fields.get("do"):
        case "invite":
            return await _page(visit, {}, 201, invitation=await people.invite(visit.client, name))
        case "disable":
            await people.update(visit.client, name, AccountUpdate(disabled=True))
        case "confirm":
            await people.confirm(visit.client, name)
        case "end":
            await people.end_sessions(visit.client, name)
        case _:
            values = {"role": fields.get("role", ""), "controllers": fields.get("controllers", "").split()}
            await people.update(visit.client, name, convert(values, AccountUpdate))
    return redirect(f"{ROOT}/accounts")


# ---- the visitor's account -----------------------------------------------------------------------------------------------


async def _own_page(visit: Visit, _: Fields, status: int = HTTPStatus.OK, **context: Any) -> web.Response:
    if not visit.person:
        raise Fault(403, "auth.scope", "A key has no account.")
    own = await visit.app.people.info(visit.person)
    return visit.show("account", "account", status, **{"own": own, "changed": False, **context})


async def show_own(visit: Visit) -> web.StreamResponse:
    return await _own_page(visit, {})


@serves_form(_own_page)
async def change_own(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Change the visitor's password, or end one of their sessions."""
    if not visit.person:
        raise Fault(403, "auth.scope", "A key has no account.")
    if session := fields.get("session"):
        await visit.app.people.end_sessions(visit.client, visit.person, session)
        return redirect(f"{ROOT}/account")
    if fields.get("password") != fields.get("again"):
        raise Refused("console.passwords_differ", "The two passwords differ.", "again")
    await visit.app.people.change_password(visit.name, fields.get("current", ""), fields.get("password", ""))
    return await _own_page(visit, {}, changed=True)
