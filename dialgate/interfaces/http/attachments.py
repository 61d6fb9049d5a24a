"""The endpoints for the files attached to data-subject requests."""

from functools import partial
from typing import Annotated, Final

from aiohttp import web
from msgspec import Meta, Struct

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.core.model import Phrase
from dialgate.interfaces.http import body
from dialgate.interfaces.http.endpoint import BODY_ERRORS, EndpointGroup, Media
from dialgate.interfaces.http.errors import Fault
from dialgate.interfaces.http.file_requests import UPLOAD_FAULTS
from dialgate.interfaces.http.subjects import PurposeQuery
from dialgate.interfaces.http.uploads import Read, received_file
from dialgate.ledger.schemas import described
from dialgate.subjects.schemas import MOST_ATTACHED_MB, Attachment

ATTACHMENTS: Final = EndpointGroup(
    "Attachments of data-subject requests",
    "The person's letter, a copy of an identity document, what was sent. The gate that received the request keeps them.",
    scope="subjects",
    in_path={"id": "Request ID.", "sha256": "The SHA-256 of the file, in hexadecimal."},
)
_FILE: Final = Media(name="application/octet-stream", kind=bytes)


class AttachmentQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[
        str, Meta(min_length=1, max_length=256, description="Name of the file, such as `letter.pdf`.")
    ]
    actor: Annotated[
        Phrase, described("The person who attaches it. A person who signed in is recorded instead.")
    ] = ""


@ATTACHMENTS.endpoint(
    "POST", "/v1/subject-requests/{id}/attachments", status=201, also_asks=(_FILE,),
    errors=(
        *BODY_ERRORS, "subject.unknown", "attachment.too_many", "attachment.too_large", "store.unavailable", "gate.unavailable",
        *UPLOAD_FAULTS,
    ),
)  # fmt: skip
async def add_attachment(
    request: web.Request, app: App, client: Client, *, query: AttachmentQuery
) -> Attachment:
    """Attach a file of up to 8 MiB to a data-subject request, which may be closed. A request has at most 20.

    It is stored encrypted, and removed with the request. The same file sent again changes nothing.
    """
    read = partial(request.content.read, body.READ_BYTES)
    return await receive_attachment(request, app, client, query, read)


async def receive_attachment(
    request: web.Request, app: App, client: Client, query: AttachmentQuery, read: Read
) -> Attachment:
    """Attach the file that `read` returns to the request in the path. Raises `Refused` and `Fault`."""
    name = request.match_info["id"]
    await app.subjects.deadlines.find(client, name)  # before the file is received
    text = f"The file has more than {MOST_ATTACHED_MB} MiB. Scan it with a lower resolution, or split it."
    size = MOST_ATTACHED_MB, Fault(413, "attachment.too_large", text)
    async with received_file(request, app, client, read, size) as received:
        content = await received.pass_to(bytes)
    return await app.subjects.attachments.attach(client, name, query.name, content, query.actor)


@ATTACHMENTS.endpoint(
    "GET", "/v1/subject-requests/{id}/attachments/{sha256}", also_answers=(_FILE,),
    errors=(
        "subject.unknown", "attachment.unknown", "lookup.throttled", "store.unavailable", "gate.unavailable",
        "attachment.damaged",
    ),
)  # fmt: skip
async def get_attachment(
    request: web.Request, app: App, client: Client, *, query: PurposeQuery
) -> web.StreamResponse:
    """Return an attachment of a data-subject request, as a file. The look-up is recorded."""
    name, digest = request.match_info["id"], request.match_info["sha256"]
    return as_attachment(*await app.casework.read_attachment(client, name, digest, query.purpose))


def as_attachment(attachment: Attachment, content: bytes) -> web.Response:
    """Return a file from outside, which a browser must save and not show."""
    return body.as_file(content, attachment.name, _FILE.name)
