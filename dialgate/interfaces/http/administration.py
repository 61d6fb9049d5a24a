"""The endpoints for a gate's administrator: retention, breaches, legal holds, key months, nodes, clock and signing key.

They concern the gate as a whole. So the client needs the scope `admin` and every controller.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final, TypeAlias

from aiohttp import web
from msgspec import Meta, Struct

from dialgate.app import App
from dialgate.audit.key_retirement import months, retire
from dialgate.audit.legal_holds import HoldRefused, LegalHold
from dialgate.audit.lookups import instant
from dialgate.cluster import membership
from dialgate.cluster.peer_questions import LiftHold, PlaceHold
from dialgate.config.clients import Client
from dialgate.core.faults import Unavailable
from dialgate.core.responses import when
from dialgate.crypto.keys import Keys
from dialgate.crypto.log_signing import renew
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http.administration_schemas import (
    ClockConfirmation,
    ConfirmedClock,
    HoldChange,
    HoldInfo,
    HoldList,
    HoldRequest,
    LookupsRequest,
    NodeInfo,
    NodeList,
    RetentionRequest,
    RetentionResult,
    Retirement,
    RetirementRequest,
    SigningKey,
)
from dialgate.interfaces.http.decisions import parse_number
from dialgate.interfaces.http.endpoint import JSON_ERRORS, Endpoint, EndpointGroup, Parameter
from dialgate.interfaces.http.errors import AGAIN, Fault, convert
from dialgate.interfaces.http.own_processes import run_for
from dialgate.runtime.instants import KeptInstants
from dialgate.subjects.breach import BreachPeriod, Exposure

Serve: TypeAlias = Callable[[web.Request, App, Client], Awaitable[web.StreamResponse]]
_When: TypeAlias = Annotated[datetime, Meta(tz=True)]


def administering(serve: Serve) -> Serve:
    """Return a handler that refuses clients without every controller, and names the cause of `Unavailable`."""

    async def guarded(request: web.Request, app: App, client: Client) -> web.StreamResponse:
        if not app.config.is_administrator(client):
            raise Fault(
                403, "auth.scope", "This concerns the whole gate. Use a client with every controller."
            )
        try:
            return await serve(request, app, client)
        except HoldRefused as refused:
            raise Fault(409, "hold.refused", str(refused)) from None
        except Unavailable as error:
            code = "store.unavailable" if error.component == "store" else "gate.unavailable"
            raise Fault(503, code, str(error), headers=AGAIN) from None

    return guarded


# ---- retention and breaches ------------------------------------------------------------------------------------------


@administering
async def _retain(request: web.Request, app: App, _: Client) -> web.StreamResponse:
    dry_run = (await http_body.read_json(request, app, RetentionRequest)).dry_run
    kinds = await app.subjects.retire(app.gate.now(), drop=not dry_run)
    return http_body.reply_json(RetentionResult(not dry_run, kinds))


class _BreachQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    since: _When
    until: _When
    client: str = ""
    node: str = ""


@administering
async def _expose(request: web.Request, app: App, _: Client) -> web.StreamResponse:
    query = convert(dict(http_body.query(request)), _BreachQuery)
    period = BreachPeriod(
        client=query.client, node=query.node, start=instant(query.since), end=instant(query.until)
    )
    if bool(period.client) == bool(period.node):
        raise Fault(400, "request.invalid", "Name either a client or a node.", field="client")
    if period.end <= period.start:
        raise Fault(400, "request.invalid", "The end must be later than the start.", field="until")
    return http_body.reply_json(await app.subjects.exposure(period))


# ---- legal holds -----------------------------------------------------------------------------------------------------


class _HoldQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    number: str = ""


@administering
async def _holds(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    raw = convert(http_body.query_about_number(request), _HoldQuery).number
    number = parse_number(raw, app.config, client.controllers) if raw else ""
    return http_body.reply_json(
        HoldList([HoldInfo.from_hold(hold) for hold in await app.subjects.holds.list_holds(number)])
    )


@administering
async def _place(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    asked, number = await _hold_request(request, app, client)
    change = PlaceHold(number, app.gate.now(), asked.by or client.name, asked.reason)
    return _changed(*await app.subjects.holds.place_everywhere(change))


@administering
async def _lift(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    asked, number = await _hold_request(request, app, client)
    change = LiftHold(number, app.gate.now(), asked.by or client.name, asked.reason)
    return _changed(*await app.subjects.holds.lift_everywhere(change))


async def _hold_request(request: web.Request, app: App, client: Client) -> tuple[HoldRequest, str]:
    asked = await http_body.read_json(request, app, HoldRequest)
    return asked, parse_number(asked.number, app.config, client.controllers)


def _changed(hold: LegalHold | None, missing: dict[str, str]) -> web.Response:
    return http_body.reply_json(HoldChange(HoldInfo.from_hold(hold) if hold else None, missing), 201)


# ---- keys ------------------------------------------------------------------------------------------------------------


@administering
async def _retire(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    dry_run = (await http_body.read_json(request, app, RetirementRequest)).dry_run
    config, now = app.config, app.gate.now()
    found = await run_for(request, client, partial(months, config, now), HoldRefused)
    due = [month for month in found if month.over]
    if not dry_run:
        await asyncio.to_thread(KeptInstants(config.data).refuse_jump, now)
        await app.subjects.holds.copy_from_peers()
        keys = Keys.open(config.data / "keys.json")
        for month in due:
            await asyncio.to_thread(retire, config, keys, month.month)
    return http_body.reply_json(Retirement(not dry_run, due, [month for month in found if not month.over]))


@administering
async def _renew(_: web.Request, app: App, __: Client) -> web.StreamResponse:
    signer = await asyncio.to_thread(renew, app.config.data / "signing.json", app.gate.now())
    return http_body.reply_json(SigningKey(signer.name), 201)


# ---- nodes, clock and look-ups ---------------------------------------------------------------------------------------


@administering
async def _nodes(_: web.Request, app: App, __: Client) -> web.StreamResponse:
    members = await app.roster.members()
    problems = membership.problems(members, app.gate.now())
    nodes = [
        NodeInfo(
            node=member.node,
            problem=problems.get(member.node, ""),
            version=member.version,
            config=member.config,
            laws=member.laws,
            at=when(member.at),
        )
        for member in members.present
    ]
    return http_body.reply_json(NodeList(not problems, nodes))


@administering
async def _forget(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    await app.roster.forget(request.match_info["node"], app.gate.now())
    return await _nodes(request, app, client)


@administering
async def _confirm_clock(request: web.Request, app: App, _: Client) -> web.StreamResponse:
    asked = await http_body.read_json(request, app, ClockConfirmation)
    if not (asked.by.strip() and asked.reason.strip()):
        raise Fault(400, "request.invalid", "`by` and `reason` must not be blank.", field="reason")
    confirmed = await app.confirm_clock(asked.by, asked.reason)
    return http_body.reply_json(ConfirmedClock(when(confirmed.since), when(confirmed.at)), 201)


async def _note_lookups(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    asked = await http_body.read_json(request, app, LookupsRequest)
    owners = [name for name in client.controllers if asked.controller in {"", name}]
    for number in dict.fromkeys(parse_number(raw, app.config, owners) for raw in asked.numbers):
        await app.subjects.record_lookup(client, asked.controller, number, asked.what, asked.purpose)
    return web.Response(status=204)


# ---- descriptions for /openapi.json ------------------------------------------------------------------------------------

_GROUP: Final = EndpointGroup(
    "Administration",
    "Retention, legal holds, breach reports, keys, nodes and the clock of a whole gate. The client needs every controller.",
)
_FAULTS: Final = ("store.unavailable", "gate.unavailable")


def _of(method: str, path: str, name: str, about: str, serve: Serve, **more: Any) -> Endpoint:
    errors = (*(JSON_ERRORS if "ask" in more else ()), *more.pop("errors", ()), *_FAULTS)
    return Endpoint(
        method=method, path=path, name=name, group=_GROUP, about=about, serve=serve, errors=errors,
        **{"scope": "admin", **more},
    )  # fmt: skip


ADMINISTRATION: Final = (
    _of("POST", "/v1/retention", "removeExpiredData",
        "Remove the data whose retention period is over, as the gate does once a day (GDPR Article 5).",
        _retain, ask=RetentionRequest, answer=RetentionResult),
    _of("GET", "/v1/exposure", "findExposedData",
        "Return the data that a stolen key (`client`) or a compromised `node` exposed (GDPR Article 33). This reads the whole log.",
        _expose, query=_BreachQuery,
        parameters=(
            Parameter(name="since", about="Start of the breach."),
            Parameter(name="until", about="End of the breach (exclusive)."),
            Parameter(name="client", about="Name of the client whose key was stolen."),
            Parameter(name="node", about="Name of the compromised node."),
        ),
        answer=Exposure),
    _of("GET", "/v1/holds", "listHolds",
        "Return the legal holds, including lifted ones, or only the hold in force on a number.",
        _holds, query=_HoldQuery, parameters=(Parameter(name="number", about="Only the hold on this number."),), answer=HoldList,
        errors=("number.invalid",)),
    _of("POST", "/v1/holds", "addHold",
        "Place a legal hold on a number, on all gates that share the store. Decisions about it stay linked to it.",
        _place, ask=HoldRequest, answer=HoldChange, status=201, errors=("number.invalid", "hold.refused")),
    _of("POST", "/v1/holds/lift", "liftHold",
        "Lift the legal hold on a number, on all gates that share the store.",
        _lift, ask=HoldRequest, answer=HoldChange, status=201, errors=("number.invalid", "hold.refused")),
    _of("POST", "/v1/log/retire", "retireMonths",
        "Destroy the keys of the months whose retention period is over. Their decisions become anonymous, except those about numbers "
        "under a legal hold.",
        _retire, ask=RetirementRequest, answer=Retirement, errors=("hold.refused",)),
    _of("POST", "/v1/log/signing-key", "renewSigningKey",
        "Create a new key for checkpoints, and destroy the private half of the old one.",
        _renew, answer=SigningKey, status=201),
    _of("GET", "/v1/nodes", "listNodes",
        "Return the gates that share the store, with their versions, configurations and problems.",
        _nodes, answer=NodeList, errors=("store.embedded",)),
    _of("POST", "/v1/nodes/{node}/forget", "forgetNode",
        "Remove a decommissioned node permanently, and return the others.",
        _forget, parameters=(Parameter(name="node", about="Name of the node.", required=True, place="path"),), answer=NodeList,
        errors=("store.embedded", "node.unknown", "node.at_work")),
    _of("POST", "/v1/clock/confirm", "confirmClock",
        "Confirm that the clock is right after a jump, so that retention continues.",
        _confirm_clock, ask=ClockConfirmation, answer=ConfirmedClock, status=201),
    _of("POST", "/v1/lookups", "addLookups",
        "Record that the client looks up data about numbers outside the gate, for example in files. Data subjects can see it.",
        _note_lookups, ask=LookupsRequest, status=204, errors=("number.invalid", "lookup.throttled"), scope="read"),
)  # fmt: skip
