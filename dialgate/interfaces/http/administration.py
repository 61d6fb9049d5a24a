"""The endpoints for a gate's administrator: retention, breaches, legal holds, key months, nodes and signing key.

They concern the gate as a whole. So the client needs every controller, and the scope `admin`, or for the officer's work `officer`.
"""

import asyncio
from datetime import datetime
from functools import partial
from typing import Annotated, Final, TypeAlias

from aiohttp import web
from msgspec import Meta, Struct

from dialgate.app import App
from dialgate.audit.configuration_diff import ConfigurationDiff, compare_file
from dialgate.audit.key_retirement import months, retire
from dialgate.audit.legal_holds import LegalHold
from dialgate.audit.log_proof import last_proof, prove_logs
from dialgate.audit.lookups import instant
from dialgate.cluster import membership
from dialgate.config.clients import Client, Scope
from dialgate.core.responses import when
from dialgate.crypto.keys import Keys
from dialgate.crypto.log_signing import renew
from dialgate.interfaces.http.administration_schemas import (
    HoldChange,
    HoldInfo,
    HoldList,
    HoldRequest,
    LogVerification,
    LookupsRequest,
    NodeInfo,
    NodeList,
    RemovalList,
    RetentionRequest,
    RetentionResult,
    Retirement,
    RetirementRequest,
    SigningKey,
)
from dialgate.interfaces.http.decisions import parse_number
from dialgate.interfaces.http.endpoint import EndpointGroup
from dialgate.interfaces.http.errors import Fault
from dialgate.interfaces.http.own_processes import run_for
from dialgate.ledger.schemas import described
from dialgate.runtime.instants import KeptInstants
from dialgate.subjects.breach import BreachPeriod, Exposure
from dialgate.subjects.removal_records import RemovalRecord

_When: TypeAlias = Annotated[datetime, Meta(tz=True)]

# Not `subjects`: a CRM has that scope to answer people, and on a gate with one controller it has every controller.
OFFICER: Final[tuple[Scope, ...]] = ("officer",)
_REMOVALS: Final = 100  # runs in an answer
ADMINISTRATION: Final = EndpointGroup(
    "Administration",
    "Retention, legal holds, breach reports, keys and nodes of a whole gate. The client needs every controller.",
    scope="admin",
    whole_gate=True,
    in_path={"node": "Name of the node."},
    errors=("store.unavailable", "gate.unavailable"),
)


# ---- retention and breaches ------------------------------------------------------------------------------------------


@ADMINISTRATION.endpoint("POST", "/v1/retention", also=OFFICER)
async def remove_expired_data(
    _: web.Request, app: App, client: Client, *, ask: RetentionRequest
) -> RetentionResult:
    """Remove the data whose retention period is over, as the gate does once a day (GDPR Article 5)."""
    kinds = await app.subjects.retire(app.gate.now(), drop=not ask.dry_run, actor=client.actor())
    return RetentionResult(not ask.dry_run, kinds)


@ADMINISTRATION.endpoint("GET", "/v1/retention", also=OFFICER)
async def list_removals(_: web.Request, app: App, __: Client) -> RemovalList:
    """Return what this gate removed after its retention period, and the months whose keys were destroyed. It contains no number."""
    runs = await asyncio.to_thread(app.subjects.removals.read)
    return RemovalList(runs[: -_REMOVALS - 1 : -1])


class _BreachQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    since: Annotated[_When, described("Start of the breach.")]
    until: Annotated[_When, described("End of the breach (exclusive).")]
    client: Annotated[str, described("Name of the client whose key was stolen.")] = ""
    node: Annotated[str, described("Name of the compromised node.")] = ""


@ADMINISTRATION.endpoint("GET", "/v1/exposure")
async def find_exposed_data(
    request: web.Request, app: App, client: Client, *, query: _BreachQuery
) -> Exposure:
    """Return the data that a stolen key (`client`) or a compromised `node` exposed (GDPR Article 33). This reads the whole log."""
    period = BreachPeriod(
        client=query.client, node=query.node, start=instant(query.since), end=instant(query.until)
    )
    if bool(period.client) == bool(period.node):
        raise Fault(400, "request.invalid", "Name either a client or a node.", field="client")
    if period.end <= period.start:
        raise Fault(400, "request.invalid", "The end must be later than the start.", field="until")
    return await app.subjects.exposure(period, partial(run_for, request, client))


# ---- legal holds -----------------------------------------------------------------------------------------------------


class HoldQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    number: Annotated[str, described("Only the hold on this number.")] = ""


@ADMINISTRATION.endpoint("GET", "/v1/holds", also=OFFICER, errors=("number.invalid",))
async def list_holds(_: web.Request, app: App, client: Client, *, query: HoldQuery) -> HoldList:
    """Return the legal holds, including lifted ones, or only the hold in force on a number."""
    number = parse_number(query.number, app.config, client.controllers) if query.number else ""
    return HoldList([_info(app, hold) for hold in await app.subjects.holds.list_holds(number)])


@ADMINISTRATION.endpoint(
    "POST", "/v1/holds", also=OFFICER, status=201, errors=("number.invalid", "hold.refused")
)
async def add_hold(_: web.Request, app: App, client: Client, *, ask: HoldRequest) -> HoldChange:
    """Place a legal hold on a number, on all gates that share the store. Decisions about it stay linked to it."""
    number = parse_number(ask.number, app.config, client.controllers)
    holds, by = app.subjects.holds, client.actor(ask.by)
    hold = await holds.place(number, at=app.gate.now(), by=by, reason=ask.reason)
    return HoldChange(_info(app, hold), {})


@ADMINISTRATION.endpoint(
    "POST", "/v1/holds/lift", also=OFFICER, status=201, errors=("number.invalid", "hold.refused")
)
async def lift_hold(_: web.Request, app: App, client: Client, *, ask: HoldRequest) -> HoldChange:
    """Lift the legal hold on a number, on all gates that share the store."""
    number = parse_number(ask.number, app.config, client.controllers)
    holds, by = app.subjects.holds, client.actor(ask.by)
    hold = await holds.lift(number, at=app.gate.now(), by=by, reason=ask.reason)
    return HoldChange(_info(app, hold), {})


def _info(app: App, hold: LegalHold) -> HoldInfo:
    return HoldInfo.from_hold(hold, app.subjects.holds.masked_number(hold))


# ---- keys ------------------------------------------------------------------------------------------------------------


@ADMINISTRATION.endpoint("POST", "/v1/log/retire", also=OFFICER, errors=("hold.refused",))
async def retire_months(
    request: web.Request, app: App, client: Client, *, ask: RetirementRequest
) -> Retirement:
    """Destroy the keys of the months whose retention period is over.

    Their decisions become anonymous, except those about numbers under a legal hold.
    """
    config, now = app.config, app.gate.now()
    found = await run_for(request, client, partial(months, config, now))
    due = [month for month in found if month.over and (not ask.months or month.month in ask.months)]
    if not ask.dry_run:
        await asyncio.to_thread(KeptInstants(config.data).refuse_jump, now)
        await app.subjects.holds.sync()
        keys = Keys.open(config.data / "keys.json")
        for month in due:
            await asyncio.to_thread(retire, config, keys, month.month)
            record = RemovalRecord(at=when(now), actor=client.actor(), months=[month.month])
            await asyncio.to_thread(app.subjects.removals.add, record)
        await app.shipped_logs.retire([month.month for month in due])
    return Retirement(not ask.dry_run, due, [month for month in found if month not in due])


@ADMINISTRATION.endpoint("GET", "/v1/log/verification", also=OFFICER)
async def get_log_verification(_: web.Request, app: App, __: Client) -> LogVerification:
    """Return the result of the last verification of this gate's logs: of the night, by a request, or by `dialgate log verify`."""
    return LogVerification(await asyncio.to_thread(last_proof, app.config.data))


@ADMINISTRATION.endpoint("POST", "/v1/log/verification", also=OFFICER)
async def verify_log(request: web.Request, app: App, client: Client) -> LogVerification:
    """Verify this gate's logs now: every byte, the chain and the checkpoints. It takes about a minute for each million decisions."""
    work = partial(prove_logs, app.config.data, app.gate.now())
    return LogVerification(await run_for(request, client, work))


@ADMINISTRATION.endpoint("POST", "/v1/log/signing-key", status=201)
async def renew_signing_key(_: web.Request, app: App, __: Client) -> SigningKey:
    """Create a new key for checkpoints, and destroy the private half of the old one."""
    signer = await asyncio.to_thread(renew, app.config.data / "signing.json", app.gate.now())
    return SigningKey(signer.name)


# ---- a changed configuration -----------------------------------------------------------------------------------------


class ConfigurationDiffQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    days: Annotated[
        int, Meta(ge=1, le=366), described("Days to compare, up to the newest decision in the log.")
    ] = 7
    campaign: Annotated[str, described("Only the calls of this campaign.")] = ""


@ADMINISTRATION.endpoint("GET", "/v1/config/diff", errors=("config.invalid",))
async def get_configuration_diff(
    request: web.Request, app: App, client: Client, *, query: ConfigurationDiffQuery
) -> ConfigurationDiff:
    """Return what would change in recent decisions if the gate loaded the configuration that is now on its disk. Nothing is loaded.

    Each recorded call is decided again, alone, with what was looked up for it at the time. A call that the record does not settle counts as denied; `doubt` says why.
    """
    config = app.config
    work = partial(compare_file, config.path, (config.data, config.shipped), query.days, query.campaign)
    return await run_for(request, client, work)


# ---- nodes and look-ups ----------------------------------------------------------------------------------------------


@ADMINISTRATION.endpoint("GET", "/v1/nodes", errors=("store.embedded",))
async def list_nodes(_: web.Request, app: App, __: Client) -> NodeList:
    """Return the gates that share the store, with their versions, configurations and problems."""
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
    return NodeList(not problems, nodes)


@ADMINISTRATION.endpoint(
    "POST", "/v1/nodes/{node}/forget", errors=("store.embedded", "node.unknown", "node.at_work")
)
async def forget_node(request: web.Request, app: App, client: Client) -> NodeList:
    """Remove a decommissioned node permanently, and return the others."""
    await app.roster.forget(request.match_info["node"], app.gate.now())
    return await list_nodes(request, app, client)


@ADMINISTRATION.endpoint(
    "POST",
    "/v1/lookups",
    scope="read",
    whole_gate=False,
    status=204,
    errors=("number.invalid", "lookup.throttled"),
)
async def add_lookups(_: web.Request, app: App, client: Client, *, ask: LookupsRequest) -> web.StreamResponse:
    """Record that the client looks up data about numbers outside the gate, for example in files. Data subjects can see it."""
    owners = [name for name in client.controllers if ask.controller in {"", name}]
    for number in dict.fromkeys(parse_number(raw, app.config, owners) for raw in ask.numbers):
        await app.subjects.record_lookup(client, ask.controller, number, ask.what, ask.purpose)
    return web.Response(status=204)
