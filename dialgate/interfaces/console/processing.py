"""The page with the record of processing activities and the impact assessment, and the same to print."""

from aiohttp import web

from dialgate.interfaces.console.visit import Visit
from dialgate.interfaces.http.errors import convert
from dialgate.interfaces.http.processing import DocumentRequest, export_record_of_processing, find_document


def _asked(visit: Visit) -> tuple[str, DocumentRequest]:
    """Return the kind of document and what is asked of it, by default the record of the client's first controller."""
    query = {name: value for name, value in visit.request.query.items() if value}
    kind = query.pop("document", "record")
    defaults = {"controller": visit.client.controllers[0], "language": visit.words.language}
    return kind, convert(defaults | query, DocumentRequest)


async def show_records(visit: Visit) -> web.StreamResponse:
    kind, ask = _asked(visit)
    document = await find_document(visit.app, visit.client, kind, ask)
    provider = visit.app.config.settings.processor
    kinds = ("record", "assessment", *(("processor_record",) if provider else ()))
    links = {page.path: page.name for group in visit.pages().values() for page in group}
    fields = {"controller": ask.controller, "document": kind}
    return visit.show("processing", document=document, fields=fields, kinds=kinds, links=links)


async def print_record(visit: Visit) -> web.StreamResponse:
    _, query = _asked(visit)
    return await export_record_of_processing(visit.request, visit.app, visit.client, query=query)
