"""The page of one data subject's request: look up, carry out, write the letter, send it, close."""

from functools import partial
from typing import Any, Final

import msgspec
from aiohttp import web

from dialgate.core.request_deadlines import EXECUTED
from dialgate.interfaces.console.file_form import file_part
from dialgate.interfaces.console.requests import CHANNELS, elapsed_share, to_case
from dialgate.interfaces.console.visit import EMPTY, Fields, Visit, serves_form, shown
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http.attachments import AttachmentQuery, as_attachment, receive_attachment
from dialgate.interfaces.http.body import as_file
from dialgate.interfaces.http.errors import FAILURES, Fault, convert
from dialgate.interfaces.http.subjects import PurposeQuery, export_subject_letter
from dialgate.subjects.letter import LETTER_KINDS
from dialgate.subjects.letter_words import LetterWords
from dialgate.subjects.schemas import CaseStep, ExecutionRequest, LetterRequest

_DONE: Final = (
    "recorded", "shown", "executed", "answered", "refused", "extended", "withdrawn", "noted", "assigned", "sent",
    "attached",
)  # fmt: skip
_DIGITS: Final = 4  # that confirm an erasure


async def show_case(visit: Visit, fields: Fields = EMPTY, **context: Any) -> web.Response:
    view = await visit.app.casework.view(visit.client, visit.item)
    case = view.file.request
    return visit.show(
        "case",
        here="requests",
        view=view,
        file=view.file,
        case=case,
        elapsed=elapsed_share(case, visit.app.gate.now()),
        to_execute=case.kind in EXECUTED,
        kinds=_letter_kinds(case.kind),
        channels=CHANNELS,
        say_why=LetterWords(visit.words.language, visit.zone()).say,
        done=visit.done(_DONE),
        fields=fields,
        **context,
    )


def _letter_kinds(kind: str) -> list[str]:
    """Return the kinds of letter that a request can have, the usual one first."""
    others = ("why", "extension", "refusal") if kind in {"access", "complaint"} else ("extension", "refusal")
    return [name for name in (kind, *others) if name in LETTER_KINDS]


@serves_form(show_case)
async def look_up(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Show the number and the address on the page for an hour. The purpose is recorded."""
    query = convert({"purpose": fields.get("purpose", "")}, PurposeQuery)
    await visit.app.casework.show(visit.client, visit.item, query.purpose)
    return to_case(visit.item, "shown")


@serves_form(show_case)
async def record_step(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Close or extend the request, or add a remark."""
    step = convert({field: fields.get(field, "") for field in ("outcome", "reason", "actor")}, CaseStep)
    await visit.app.subjects.deadlines.move(visit.client, visit.item, step)
    return to_case(visit.item, step.outcome)


@serves_form(show_case)
async def execute(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Do what the request asks for. An erasure needs the last digits of the number, because it cannot be undone."""
    view = await visit.app.casework.view(visit.client, visit.item)
    if view.file.request.kind == "erasure" and not _is_confirmed(view.file.number, fields.get("confirm", "")):
        raise Fault(400, "console.confirm", "Enter the last digits of the number.", field="confirm")
    file = await visit.app.casework.execute(visit.client, visit.item, _order(fields))
    if file.missing:
        raise Fault(503, "console.incomplete", "A gate did not respond. Repeat it.")
    return to_case(visit.item, "executed")


def _is_confirmed(number: str, digits: str) -> bool:
    return len(digits) == _DIGITS and number.endswith(digits)


def _order(fields: Fields) -> ExecutionRequest:
    of, name, value = (fields.get(field, "") for field in ("of", "field", "value"))
    if not of:
        return ExecutionRequest()
    try:
        decoded: Any = msgspec.json.decode(value)
    except msgspec.DecodeError:
        decoded = value
    return convert({"of": int(of) if of.isdecimal() else 0, "fields": {name: decoded}}, ExecutionRequest)


@serves_form(show_case)
async def write_letter(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Return the letter, as a page to print or as PDF."""
    names = LetterRequest.__struct_fields__
    ask = convert({name: value for name, value in fields.items() if name in names and value}, LetterRequest)
    return await export_subject_letter(visit.request, visit.app, visit.client, ask=ask)


@serves_form(show_case)
async def export_portable(visit: Visit, _: Fields) -> web.StreamResponse:
    """Return the data that the person provided, as a file for the person or another controller."""
    name = visit.item
    data = await visit.app.casework.portable(visit.client, name, f"request {name}")
    body = msgspec.json.format(msgspec.json.encode(data)) + b"\n"
    return as_file(body, f"portability-{name}.json", "application/json")


async def attach(visit: Visit) -> web.StreamResponse:
    """Attach the file in the form to the request."""
    part = await file_part(visit, {})
    try:
        query = convert({"name": part.filename}, AttachmentQuery)
        read = partial(part.read_chunk, http_body.READ_BYTES)
        await receive_attachment(visit.request, visit.app, visit.client, query, read)
    except FAILURES as error:
        return await show_case(visit, **shown(error))
    return to_case(visit.item, "attached")


async def download_attachment(visit: Visit) -> web.StreamResponse:
    """Return an attachment, which needs the same look-up as the number on the page."""
    case, number = await visit.app.subjects.deadlines.find(visit.client, visit.item)
    if not await visit.app.casework.has_looked_up(visit.client, case, number):
        return await show_case(visit, status=403, error="console.look_first")
    digest = visit.request.match_info["sha256"]
    return as_attachment(*await visit.app.subjects.attachments.read(case, digest))


async def export_register(visit: Visit) -> web.StreamResponse:
    body = await visit.app.casework.register(visit.client)
    return as_file(body.encode(), "requests.csv", "text/csv; charset=utf-8")
