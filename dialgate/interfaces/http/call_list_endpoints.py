"""The table of endpoints for call lists and files of numbers."""

from typing import Final

from dialgate.interfaces.http import file_requests, ledger
from dialgate.interfaces.http.endpoint import (
    BODY_ERRORS,
    JSON_ERRORS,
    NDJSON,
    Endpoint,
    EndpointGroup,
    Media,
    Parameter,
)
from dialgate.interfaces.http.errors import Failed
from dialgate.interfaces.http.headers import SCRUBBED
from dialgate.ledger.list_exports import Previews
from dialgate.ledger.request_fields import fields_of
from dialgate.ledger.schemas import (
    ListInfo,
    ListReport,
    ListRequest,
    Lists,
    PreviewRequest,
    RetiredList,
    ScrubRequest,
)
from dialgate.ledger.view_schemas import Exports
from dialgate.lists.call_list import RowProblem

_LISTS: Final = EndpointGroup("Call lists", "Load and retire call lists, with the origin of their numbers.")
_ID: Final = Parameter(name="id", about="List ID.", required=True, place="path")
_WHOSE_LIST: Final = Parameter(
    name="controller",
    about="Required only if several of the client's controllers have a list with this ID.",
)
LIST_FILES: Final = tuple(Media(name=name, kind=bytes) for name in ledger.LIST_FILES)
SKIPPED: Final = Parameter(
    name="skipped",
    about="`true`: the answer is NDJSON, with a line for each row that is left out. Its last line is the report, or the error.",
    required=False,
    schema={"type": "boolean"},
)
HINTS: Final = (
    Parameter(name="encoding", about="Encoding of the file. Default: detected.", required=False),
    Parameter(name="separator", about="Column separator of the file. Default: detected.", required=False),
    Parameter(
        name="column",
        about="Column with the number, by name, or by position from 1. Default: detected.",
        required=False,
    ),
)
UPLOAD_ERRORS: Final = (
    *BODY_ERRORS, "list.unreadable", "controller.unknown", "store.unavailable", "gate.unavailable", "extra.missing", "upload.busy", "upload.full",
    "upload.failed", "upload.no_space",
)  # fmt: skip
_TRANSFERS: Final = {"type": "string", "contentMediaType": "application/json"}
_UPLOADED: Final = (
    *(
        Parameter(
            name=field.name,
            about=f"{field.description} Only for a list that is sent as a file.",
            required=False,
            schema=_TRANSFERS if field.name == "transfers" else None,
        )
        for field in fields_of(ListRequest)
    ),
    *HINTS,
    SKIPPED,
)


CALL_LIST_ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path="/v1/scrub",
        name="scrubList",
        group=_LISTS,
        about=(
            "Return a copy of a list with a verdict on each row. The body is a text, CSV or XLSX file. The copy is recorded before"
            " it is sent."
        ),
        serve=file_requests.scrub,
        scope="admin",
        query=ScrubRequest,
        parameters=(*(Parameter(name=field.name, about=field.description) for field in fields_of(ScrubRequest)), *HINTS),
        also_asks=LIST_FILES,
        media="text/csv; charset=utf-8",
        headers={SCRUBBED: "The counts of verdicts, and the ledger entry, as JSON."},
        errors=(*UPLOAD_ERRORS, "campaign.unknown"),
    ),
    Endpoint(
        method="GET",
        path="/v1/exports",
        name="listExports",
        group=_LISTS,
        about="Return the recorded copies of lists with verdicts, and the recorded previews.",
        serve=file_requests.exports,
        scope="lists",
        answer=Exports,
        errors=("store.unavailable",),
    ),
    Endpoint(
        method="POST",
        path="/v1/lists/{id}/preview",
        name="previewCallList",
        group=_LISTS,
        about="Count the callable numbers on a call list, and the denied numbers by reason. The list must have at least 50 numbers. The preview is recorded.",
        serve=file_requests.preview,
        scope="admin",
        parameters=(_ID,),
        ask=PreviewRequest,
        answer=Previews,
        errors=(*JSON_ERRORS, "list.unknown", "list.too_short", "campaign.unknown", "store.unavailable", "gate.unavailable", "upload.failed"),
    ),
    Endpoint(
        method="GET",
        path="/v1/lists",
        name="listCallLists",
        group=_LISTS,
        about="Return the call lists of the client's controllers.",
        serve=ledger.lists,
        scope="lists",
        answer=Lists,
        errors=("store.unavailable",),
    ),
    Endpoint(
        method="POST",
        path="/v1/lists",
        name="loadCallList",
        group=_LISTS,
        about=(
            "Load a call list. Send JSON with `numbers`, or a text, CSV or XLSX file with the other fields in the query "
            "string. Repeat `campaigns` for each campaign, and send `transfers` as a JSON array. `in_force` in the response "
            "says when each node uses the list."
        ),
        serve=ledger.load_list,
        scope="lists",
        ask=ledger.ListUpload,
        also_asks=LIST_FILES,
        query=ListRequest,
        parameters=_UPLOADED,
        answer=ListReport,
        also_answers=(Media(name=NDJSON, kind=bytes, lines=(RowProblem, ListReport, Failed)),),
        status=201,
        errors=(*JSON_ERRORS, "list.unreadable", "list.exists", "list.too_many", "controller.unknown", "campaign.unknown",
                "store.unavailable", "extra.missing", "upload.busy", "upload.full", "upload.failed", "upload.no_space"),
    ),
    Endpoint(
        method="GET",
        path="/v1/lists/{id}",
        name="getCallList",
        group=_LISTS,
        about="Return a call list.",
        serve=ledger.one_list,
        scope="lists",
        parameters=(_ID,),
        answer=ListInfo,
        errors=("list.unknown", "store.unavailable"),
    ),
    Endpoint(
        method="POST",
        path="/v1/lists/{id}/retire",
        name="retireCallList",
        group=_LISTS,
        about=(
            "Retire a call list. It stays on record, but no later check on this node uses it. Other nodes follow within a"
            " second; `in_force` says when."
        ),
        serve=ledger.retire_list,
        scope="lists",
        parameters=(_ID, _WHOSE_LIST),
        answer=RetiredList,
        errors=("controller.unknown", "list.unknown", "store.unavailable"),
    ),
)  # fmt: skip
