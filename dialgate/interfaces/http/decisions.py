"""Look-ups of recorded decisions: all decisions about a number, or one decision by its ID.

A client sees decisions for its controllers. It also sees its own checks for campaigns that belong to no controller. All
other decisions are reported as unknown.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Final, TypeAlias, TypeVar

from aiohttp import web
from msgspec import Meta, Struct, structs

from dialgate import texts
from dialgate.app import App
from dialgate.audit import explanation
from dialgate.audit.explanation import Account, Accounts
from dialgate.audit.lookups import instant
from dialgate.audit.number_history import BEGINNING, FoundDecision, Inquiry, Visibility
from dialgate.audit.response_slots import whole_slots
from dialgate.cluster.shipped_logs import Coverage
from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core import phone
from dialgate.core.decision_ids import PATTERN, owner_of
from dialgate.core.name_suggestions import choose
from dialgate.crypto.keys import Keys, KeysUnusable
from dialgate.decision_log.chains import Chains
from dialgate.interfaces.http.concurrency_limits import Turns
from dialgate.interfaces.http.endpoint import EndpointGroup
from dialgate.interfaces.http.errors import Fault
from dialgate.interfaces.http.subjects import LookupPurpose
from dialgate.ledger.schemas import described
from dialgate.texts import Language

_T = TypeVar("_T")
# One look-up at a time, because reading the log must not slow down checks.
TURN: Final = web.AppKey("TURN", Turns)


_When: TypeAlias = Annotated[datetime, Meta(tz=True)]


_Worded: TypeAlias = Annotated[
    Language | None, described("Text language, `it` or `en`. Default: from `Accept-Language`.")
]

DECISIONS: Final = EndpointGroup(
    "Decisions",
    "Look up recorded decisions, with their reasons worded for the data subject.",
    scope="read",
    in_path={"id": "`decision_id` of the check's response."},
    errors=("gate.unavailable",),
)


class _AboutNumber(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    number: Annotated[str, described("The data subject's number, in E.164.")]
    purpose: LookupPurpose
    controller: Annotated[str, described("Only decisions for this controller.")] = ""
    since: Annotated[_When | None, described("Only decisions at this time or later.")] = None
    until: Annotated[_When | None, described("Only decisions before this time.")] = None
    language: _Worded = None
    limit: Annotated[
        int, Meta(ge=1, le=1000, description="Maximum number of decisions, 1 to 1000. Default: 100.")
    ] = 100
    before: Annotated[
        str, Meta(pattern=f"^({PATTERN})?$", description="Only decisions before the one with this ID.")
    ] = ""


class _OneDecision(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    language: _Worded = None


@DECISIONS.endpoint(
    "GET", "/v1/decisions", errors=("number.invalid", "controller.unknown", "lookup.throttled")
)
async def find_decisions(request: web.Request, app: App, client: Client, *, query: _AboutNumber) -> Accounts:
    """Return all decisions about a number, newest first, worded for the data subject.

    Includes those of retired lists and past campaigns. Excludes months whose keys were destroyed, and lists these months.
    """
    language = query.language or _preferred(request)
    number = _number(query, client, app.config)
    sees = _visible(query, client, app.config)
    await app.subjects.record_lookup(client, query.controller, number, "decisions", query.purpose)
    start = app.registrar.ids.inside(client, query.before)

    def look_up(inquiry: Inquiry) -> tuple[list[FoundDecision], list[str]]:
        before = inquiry.one_position(start, sees) if query.before else None
        if query.before and before is None and inquiry.may_come(start):
            raise _not_shipped()
        before = before or (BEGINNING if query.before else None)
        return inquiry.find(number, sees, before=before, most=query.limit + 1), inquiry.retired()

    found, retired = await inquire(request.app, app, client.name, look_up)
    coverage = await app.shipped_logs.coverage(app.config)
    accounts = [
        _with_caller_id(client_account(app, decision, language), decision, app, client)
        for decision in found[: query.limit]
    ]
    return Accounts(
        decisions=accounts,
        more=len(found) > query.limit,
        retired_months=retired,
        notices=explanation.notices(
            language,
            retired,
            coverage.shipped,
            coverage.missing,
            nothing=not accounts and not query.before,
            dated=bool(query.since or query.until),
        ),
        language=language,
        missing=coverage.missing,
        shipped=coverage.shipped,
    )


@DECISIONS.endpoint("GET", "/v1/decisions/{id}", errors=("decision.unknown", "peer.unheard"))
async def get_decision(request: web.Request, app: App, client: Client, *, query: _OneDecision) -> Account:
    """Return a decision, with the outcome of its call."""
    decision, coverage = await find_decision(request, app, client)
    account = client_account(app, decision, query.language or _preferred(request))
    return structs.replace(account, missing=coverage.missing, shipped=coverage.shipped)


async def find_decision(request: web.Request, app: App, client: Client) -> tuple[FoundDecision, Coverage]:
    """Return the decision whose id is in the path, and how far the logs of the other gates can be read.

    Raises `Fault` if the decision does not exist or the client may not see it.
    """
    sees = Visibility.for_client(client.name, client.controllers)
    name = app.registrar.ids.inside(client, request.match_info["id"])

    def look_up(inquiry: Inquiry) -> FoundDecision | None:
        decision = inquiry.one(name, sees)
        if decision is None and inquiry.may_come(name):
            raise _not_shipped()
        return decision

    decision = await inquire(request.app, app, client.name, look_up) if name else None
    coverage = await app.shipped_logs.coverage(app.config)
    if decision is not None:
        return decision, coverage
    if name and coverage.missing:
        raise _not_shipped(coverage.missing)
    raise Fault(404, "decision.unknown", "This client has no decision with this id. Check `id`.", field="id")


def client_account(app: App, decision: FoundDecision, language: Language) -> Account:
    """Describe a decision for a client.

    If several controllers share the gate, the position in the log is omitted and internal ids are replaced.
    """
    account = explanation.account(decision, language, _names(app.config))
    if not app.config.shared:
        return account
    record = decision.record
    owner = owner_of(record.facts.controller.id, record.client)
    return structs.replace(
        account,
        decision_id=app.registrar.ids.outside(record.id, owner),
        seq=0,
        reasons=app.registrar.ids.worded(account.reasons),
    )


def _visible(query: _AboutNumber, client: Client, config: Config) -> Visibility:
    sees = Visibility.for_client(client.name, client.controllers, query.controller)
    if config.is_administrator(client) and not query.controller:
        sees = Visibility()  # also calls for unknown campaigns, which belong to no controller
    span = {"since": query.since, "until": query.until}
    return structs.replace(sees, **{name: instant(at) for name, at in span.items() if at is not None})


def _with_caller_id(account: Account, decision: FoundDecision, app: App, client: Client) -> Account:
    """Add an encrypted caller ID, which may be a private person's number, for the gate's administrator only."""
    sealed = decision.record.caller_sealed
    if not sealed or not app.config.is_administrator(client):
        return account
    with suppress(KeysUnusable):
        keys = Chains(app.config.data, app.config.shipped).month_keys(decision.record)
        return structs.replace(account, caller_id=keys.unseal(sealed))
    return account


def _not_shipped(missing: Mapping[str, str] | None = None) -> Fault:
    """Return the error for a decision that may be in the log of another gate."""
    reasons = [f"{node}: {why}" for node, why in (missing or {}).items()] or [
        "its gate has not shipped it yet"
    ]
    text = (
        f"This gate cannot read the decision with this id ({'; '.join(reasons)})."
        " Ask the gate that made it, or repeat the request later."
    )
    return Fault(503, "peer.unheard", text)


async def inquire(site: web.Application, app: App, client: str, look_up: Callable[[Inquiry], _T], /) -> _T:
    """Run a look-up in the logs that are here, in a thread. Look-ups run one at a time."""
    config = app.config

    def run() -> _T:
        return look_up(Inquiry(config.data, Keys.open(config.data / "keys.json"), config.shipped))

    async with site[TURN].hold(client), whole_slots(shared=app.config.shared):
        return await asyncio.to_thread(run)


def _preferred(request: web.Request) -> Language:
    return texts.preferred(request.headers.get("Accept-Language", ""))


def _names(config: Config) -> dict[str, str]:
    return {controller.id: controller.name for controller in config.controllers.values()}


def _number(query: _AboutNumber, client: Client, config: Config) -> str:
    """Return the number in E.164. Raises `Fault`.

    The country code can be omitted if the number has only one reading in the countries that the controller calls, or that
    all of the client's controllers call if the query has no `controller`.
    """
    owned = [name for name in client.controllers if query.controller in {"", name}]
    if not owned:
        text = choose("Use one of your controllers", client.controllers)
        raise Fault(404, "controller.unknown", text, field="controller")
    return parse_number(query.number, config, owned)


def parse_number(number: str, config: Config, controllers: Iterable[str]) -> str:
    """Return the number in E.164, as these controllers dial it. Raises `Fault`."""
    regions = [config.controllers[name].dial_regions() for name in controllers]
    try:
        return phone.parse(number, " ".join(dict.fromkeys(" ".join(regions).split()))).e164
    except phone.NotANumber as problem:
        raise Fault(
            400,
            "number.invalid",
            f"The number {problem}. Send it in E.164: a plus, the country code and the number.",
            field="number",
        ) from None
