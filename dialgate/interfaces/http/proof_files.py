"""The endpoints for the files that prove consents."""

from functools import partial
from typing import Final

from aiohttp import web
from msgspec import Struct

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.core.local_time import rfc3339
from dialgate.core.model import DAY
from dialgate.core.refusal import Refused
from dialgate.interfaces.http import body
from dialgate.interfaces.http.endpoint import BODY_ERRORS, EndpointGroup, Media
from dialgate.interfaces.http.errors import Fault
from dialgate.interfaces.http.file_requests import UPLOAD_FAULTS
from dialgate.interfaces.http.ledger import HistoryQuery
from dialgate.interfaces.http.subjects import OnlyController
from dialgate.interfaces.http.uploads import received_file
from dialgate.ledger.view_schemas import MOST_PROOF_MB, ProofFile

PROOFS: Final = EndpointGroup(
    "Files that prove consents",
    "Signed forms and recordings, each kept by the gate that received it and enclosed in evidence.",
    in_path={"sha256": "The SHA-256 of the file, in hexadecimal."},
)
_FILE: Final = Media(name="application/octet-stream", kind=bytes)


class ProofFileQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    controller: OnlyController = ""


@PROOFS.endpoint(
    "POST", "/v1/proofs", scope="ledger", status=201, also_asks=(_FILE,),
    errors=(*BODY_ERRORS, "controller.unknown", "gate.unavailable", *UPLOAD_FAULTS),
)  # fmt: skip
async def add_proof_file(
    request: web.Request, app: App, client: Client, *, query: ProofFileQuery
) -> ProofFile:
    """Keep a file that proves a consent, such as a signed form or a recording, of up to 16 MiB.

    This gate keeps it encrypted, as long as an entry of the controller names its SHA-256, and encloses it in evidence.
    """
    owner, now = app.registrar.access.controller(client, query.controller), app.registrar.access.clock()
    keep = partial(app.subjects.proofs.files.keep, owner.id, now=now)
    text = f"The file has more than {MOST_PROOF_MB} MiB. Compress it, or keep it in the CRM and send its SHA-256 only."
    size = MOST_PROOF_MB, Fault(413, "request.too_large", text)
    read = partial(request.content.read, body.READ_BYTES)
    async with received_file(request, app, client, read, size) as received:
        try:
            digest = await received.pass_to(keep)
        except OSError as error:
            text = f"The gate cannot write to its data folder: {error.strerror}. Ask its operator, then send the file again."
            raise Refused("gate.unavailable", text, status=503) from None
    return ProofFile(sha256=digest, bytes=received.size, record_by=rfc3339(now + DAY))


@PROOFS.endpoint(
    "GET", "/v1/proofs/{sha256}", scope="subjects", also_answers=(_FILE,),
    errors=(
        "number.invalid", "controller.unknown", "proof.unknown", "lookup.throttled", "store.unavailable", "proof.damaged",
    ),
)  # fmt: skip
async def get_proof_file(
    request: web.Request, app: App, client: Client, *, query: HistoryQuery
) -> web.StreamResponse:
    """Return the file that proves a consent of a number. The look-up is recorded."""
    return await send_proof(app, client, query, request.match_info["sha256"])


async def send_proof(app: App, client: Client, query: HistoryQuery, digest: str) -> web.Response:
    """Record the look-up and return the file. Raises `Refused`."""
    owner, e164 = await app.subjects.look_up(client, query.controller, query.number, "consent", query.purpose)
    content = await app.subjects.proofs.find(owner, e164, digest)
    return body.as_file(content, digest.lower(), _FILE.name)
