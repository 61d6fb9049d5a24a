"""The endpoint for requests from other gates that share the store (`dialgate.cluster.peers`).

The endpoint needs no client key, because only gates can encrypt such a request.
"""

from typing import Any, Final

import structlog
from aiohttp import web

from dialgate.app import App
from dialgate.cluster import list_replication
from dialgate.cluster import peer_questions as questions
from dialgate.cluster.peers import PATH
from dialgate.core.faults import Unavailable
from dialgate.core.refusal import Refused
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http.connection import connection_of
from dialgate.interfaces.http.endpoint import BODY_ERRORS, Endpoint, EndpointGroup, Media
from dialgate.interfaces.http.errors import FAILURES, Fault, fault_of, response
from dialgate.interfaces.http.operations import APP

_PEER: Final = "another gate"  # cannot be a client's name, because names have no spaces
_log = structlog.get_logger(__name__)


async def _serve(request: web.Request) -> web.StreamResponse:
    app = request.app[APP]
    peers, metric = app.subjects.peers, app.metrics.peers
    try:
        peers.refuse_without_peers()  # before the body is read, because anyone can send one
        body = await http_body.whole(request, app.config.settings.limits)
        opened = peers.open_request(body)
        connection_of(request).admit(_PEER)
        kind = str(type(opened.question).__struct_config__.tag)
        metric.labels(kind).inc()
        if isinstance(opened.question, questions.RemoveFromLists):
            _log.info("request from another gate executed", node=opened.node, act=kind)
        answer = peers.seal_answer(await _answer(app, opened.question), body)
    except Unavailable as error:
        return response(Fault(503, "gate.unavailable", f"This gate cannot answer now: {error}."))
    except FAILURES as error:
        if isinstance(error, Refused) and error.code == "peer.refused":
            metric.labels("refused").inc()
        return response(fault_of(error))
    return web.Response(body=answer)


async def _answer(app: App, question: questions.AnyQuestion) -> Any:
    match question:
        case questions.FindCall(decision=name):
            called = await app.registrar.outcomes.called_here(name)
            return [called] if called is not None else []
        case questions.FindPersonalData(controller=controller, number=number):
            return await app.subjects.share(controller, number)
        case questions.FindLookups(wanted=wanted):
            return await app.subjects.lookups.search(wanted)
        case questions.RemoveFromLists():
            return await app.subjects.erasing.remove_from_lists(question)
        case questions.FindProofsInUse():
            return sorted(await app.subjects.proofs.restricted_names())
        case questions.ReadListFile():
            return await list_replication.read_part(app.config.data, question)


_SEALED: Final = Media(name="application/octet-stream", kind=bytes)
PEERS: Final = (
    Endpoint(
        method="POST",
        path=PATH,
        name="sendToPeer",
        group=EndpointGroup("Between gates", "Requests between gates that share a store. Not for clients."),
        about=(
            "Answer a request from another gate that shares the store, for data that only this gate has. Not for clients: both bodies are"
            " encrypted with a key that the gates share."
        ),
        serve=_serve,
        also_asks=(_SEALED,),
        also_answers=(_SEALED,),
        errors=(*BODY_ERRORS, "peer.refused", "store.unavailable", "gate.unavailable"),
    ),
)
