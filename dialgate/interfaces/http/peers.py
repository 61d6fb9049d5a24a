"""Where the other gates on the store ask (`dialgate.cluster.peers`). No key of a client: what is sealed rightly is a gate's."""

from functools import partial
from typing import Any, Final

import structlog
from aiohttp import web

from dialgate.app import App
from dialgate.cluster import decision_search, list_replication
from dialgate.cluster.peers import (
    PATH,
    AboutNumber,
    Called,
    HoldLifted,
    HoldPlaced,
    HoldsKept,
    ListPart,
    OffLists,
    OfPerson,
    OneDecision,
    OutcomesOf,
    PeerRefused,
    Question,
)
from dialgate.core.faults import Unavailable
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http import decisions as http_decisions
from dialgate.interfaces.http import server
from dialgate.interfaces.http.errors import FAILURES, Fault, fault_of, response
from dialgate.interfaces.http.openapi import Endpoint
from dialgate.interfaces.http.operations import APP

_TURN: Final = "another gate"  # no client's name: these have no spaces
_log = structlog.get_logger(__name__)


async def _ask(request: web.Request) -> web.StreamResponse:
    app = request.app[APP]
    try:
        body = await http_body.whole(request, app.config.settings.limits)
        asked = app.subjects.peers.opened(body)
        server.note_admitted(request)
        kind = str(type(asked.question).__struct_config__.tag)
        app.metrics.peers.labels(kind).inc()
        if isinstance(asked.question, OffLists | HoldPlaced | HoldLifted):
            _log.info("another gate has this one act", node=asked.node, act=kind)
        answer = await app.subjects.peers.sealed(await _answer(request.app, app, asked.question), body)
    except PeerRefused as refused:
        app.metrics.peers.labels("refused").inc()
        return response(Fault(403, "peer.refused", f"It says: {refused}."))
    except Unavailable as error:
        return response(Fault(503, "gate.unavailable", f"It says: {error}."))
    except FAILURES as error:
        return response(fault_of(error))
    return web.Response(body=answer)


async def _answer(site: web.Application, app: App, question: Question) -> Any:
    inquire = partial(http_decisions.inquire, site, app, _TURN)
    match question:
        case AboutNumber():
            return await inquire(lambda inquiry: decision_search.about(inquiry, question))
        case OneDecision(id=name, sees=sees):
            found = await inquire(lambda inquiry: inquiry.one(name, sees))
            return [found] if found is not None else []
        case OutcomesOf(decisions=names):
            return await inquire(lambda inquiry: inquiry.outcomes(names))
        case Called(decision=name):
            called = await app.registrar.outcomes.called_here(name)
            return [called] if called is not None else []
        case OfPerson(controller=controller, number=number):
            return await app.subjects.share(controller, number)
        case OffLists(controller=controller, number=number):
            return await app.subjects.erasing.off_lists(controller, number)
        case HoldPlaced() | HoldLifted():
            return await app.subjects.holds.change(question)
        case HoldsKept():
            return await app.subjects.holds.kept()
        case ListPart():
            return await list_replication.part(app.config.data, question)


PEERS: Final = (
    Endpoint(
        method="POST",
        path=PATH,
        group="Between gates",
        about=(
            "For the other gates on the store: what this one alone holds, asked and answered in bytes that only their keys open. "
            "Not for a client."
        ),
        serve=_ask,
        media="application/octet-stream",
        answer_example="…",
        errors=("peer.refused", "store.unavailable", "gate.unavailable"),
    ),
)
