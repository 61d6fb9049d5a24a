"""The page with all accounts, for an operator, and the page with the visitor's password and sessions."""

from typing import Any, get_args

from aiohttp import web

from dialgate.config.accounts import Role
from dialgate.core.refusal import Refused
from dialgate.interfaces.console.navigation import ROOT
from dialgate.interfaces.console.visit import EMPTY, Fields, Visit, redirect, serves_form
from dialgate.interfaces.http.errors import Fault, convert
from dialgate.people.roles import ALL
from dialgate.people.schemas import AccountRequest, AccountUpdate


async def show_accounts(visit: Visit, fields: Fields = EMPTY, **context: Any) -> web.Response:
    return visit.show(
        "accounts",
        accounts=await visit.app.people.infos(),
        roles=get_args(Role),
        every=ALL,
        **{"fields": fields, "invitation": None, **context},
    )


@serves_form(show_accounts)
async def add(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Add an account and show its invitation, once."""
    values = {name: fields.get(name, "") for name in ("name", "role")}
    request = convert({**values, "controllers": fields.get("controllers", "").split()}, AccountRequest)
    return await show_accounts(
        visit, status=201, invitation=await visit.app.people.add(visit.client, request)
    )


@serves_form(show_accounts)
async def change(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Invite again, confirm, disable, change the role or controllers, or end the sessions of the account in the path."""
    people, name = visit.app.people, visit.item
    match fields.get("do"):
        case "invite":
            invitation = await people.invite(visit.client, name)
            return await show_accounts(visit, status=201, invitation=invitation)
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


async def show_own(visit: Visit, _: Fields = EMPTY, **context: Any) -> web.Response:
    own = await visit.app.people.info(_person(visit))
    return visit.show("account", **{"own": own, "changed": False, **context})


@serves_form(show_own)
async def change_own(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Change the visitor's password, or end one of their sessions."""
    person = _person(visit)
    if session := fields.get("session"):
        await visit.app.people.end_sessions(visit.client, person, session)
        return redirect(f"{ROOT}/account")
    if fields.get("password") != fields.get("again"):
        raise Refused("console.passwords_differ", "The two passwords differ.", "again")
    await visit.app.people.change_password(visit.name, fields.get("current", ""), fields.get("password", ""))
    return await show_own(visit, changed=True)


def _person(visit: Visit) -> str:
    if not visit.person:
        raise Fault(403, "auth.scope", "A key has no account.")
    return visit.person
