"""The endpoint that finds decisions by their time, campaign, list, caller ID, reason, answer, client or outcome."""

from datetime import datetime
from functools import partial
from typing import Annotated, Final, Literal, TypeAlias

from aiohttp import web
from msgspec import Meta, Struct
from msgspec.structs import replace

from dialgate.app import App
from dialgate.audit.decision_pages import DecisionPage, DecisionPageOrder, DecisionRow, find_page
from dialgate.audit.lookups import instant
from dialgate.audit.number_history import Visibility
from dialgate.audit.search import DecisionQuery
from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core.decision_ids import PATTERN, owner_of
from dialgate.core.model import Result
from dialgate.decision_log.span import LogSpan
from dialgate.interfaces.http.endpoint import EndpointGroup
from dialgate.interfaces.http.errors import Fault
from dialgate.interfaces.http.own_processes import run_for
from dialgate.interfaces.http.reports import controller_of
from dialgate.ledger.schemas import described

_When: TypeAlias = Annotated[datetime, Meta(tz=True)]
DecisionAnswer: TypeAlias = Literal["allow", "deny", "let_through"]

DECISION_SEARCH: Final = EndpointGroup(
    "Decision search",
    "Find decisions by what they have in common.",
    scope="read",
    errors=("gate.unavailable",),
)


class DecisionSearch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    since: Annotated[_When | None, described("Only decisions at this time or later.")] = None
    until: Annotated[_When | None, described("Only decisions before this time.")] = None
    from_hour: Annotated[
        int, Meta(ge=0, le=23, description="Only from this hour of each day on, 0 to 23.")
    ] = 0
    to_hour: Annotated[int, Meta(ge=1, le=24, description="Only before this hour of each day, 1 to 24.")] = 24
    controller: Annotated[str, described("Only this controller. Default: all of the client's.")] = ""
    campaign: Annotated[str, described("Only this campaign.")] = ""
    list: Annotated[str, described("Only numbers on this call list.")] = ""
    caller_id: Annotated[str, described("Only calls with this caller ID, in E.164.")] = ""
    reason: Annotated[
        str, described("Only denials with this reason code; `registry` selects all codes with that prefix.")
    ] = ""
    decision: Annotated[
        DecisionAnswer | None,
        described("Only this decision. `let_through`: denied, but let through in shadow mode."),
    ] = None
    outcome: Annotated[
        Result | None,
        described("Only calls with this reported outcome. `abandoned` selects silent calls."),
    ] = None
    client: Annotated[str, described("Only checks by this client.")] = ""
    agent: Annotated[str, described("Only calls of the agent with this ID.")] = ""
    limit: Annotated[
        int, Meta(ge=1, le=1000, description="Maximum number of decisions, 1 to 1000. Default: 100.")
    ] = 100
    before: Annotated[
        str, Meta(pattern=f"^({PATTERN})?$", description="Only decisions before the one with this ID.")
    ] = ""


@DECISION_SEARCH.endpoint(
    "GET", "/v1/decisions/search", errors=("controller.unknown", "decision.unknown", "store.unavailable")
)
async def search_decisions(
    request: web.Request, app: App, client: Client, *, query: DecisionSearch
) -> DecisionPage:
    """Find decisions by time, campaign, call list, caller ID, reason, answer, outcome or client, newest first.

    The called numbers are masked. For the decisions about one number, use `GET /v1/decisions`.
    """
    if query.to_hour <= query.from_hour:
        raise Fault(400, "request.invalid", "Send an hour after `from_hour`.", field="to_hour")
    before = app.registrar.ids.inside(client, query.before)
    if query.before and not before:
        raise Fault(404, "decision.unknown", "This client has no decision with this id.", field="before")
    limits = {"since": query.since, "until": query.until}
    order = DecisionPageOrder(
        query=_criteria(query, client, app.config),
        within=LogSpan(**{name: instant(at) for name, at in limits.items() if at is not None}),
        limit=query.limit,
        before=before,
        zone=zone_of(query.controller, client, app.config),
        hours=(query.from_hour, query.to_hour),
        outcome=query.outcome,
        agent=query.agent,
    )
    page = await run_for(request, client, partial(find_page, app.config, order))
    return replace(page, decisions=[_outside(row, app) for row in page.decisions])


def zone_of(controller: str, client: Client, config: Config) -> str:
    """Return the time zone of the controller, or of the client's first one."""
    owners = [config.controllers[name] for name in (controller, *client.controllers) if name]
    return config.laws[owners[0].country].zone if owners else "UTC"


def _criteria(query: DecisionSearch, client: Client, config: Config) -> DecisionQuery:
    """Return the criteria, limited to what the client may see. Raises `Fault`."""
    sees = Visibility.for_client(client.name, client.controllers)
    if query.controller:
        sees = Visibility(controllers=(controller_of(query.controller, client),))
    elif config.has_every_controller(client):
        sees = Visibility()  # also calls for unknown campaigns, which belong to no controller
    return DecisionQuery(
        sees=sees,
        controller=query.controller,
        campaign=query.campaign,
        list=query.list,
        caller_id=query.caller_id,
        code=query.reason,
        verdict="deny" if query.decision == "let_through" else query.decision or "",
        shadow=query.decision == "let_through",
        client=query.client,
    )


def _outside(row: DecisionRow, app: App) -> DecisionRow:
    owner = owner_of(row.controller, row.client)
    return replace(row, decision_id=app.registrar.ids.outside(row.decision_id, owner))
