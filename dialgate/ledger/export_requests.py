"""The requests for copies of lists with verdicts, for plans of calls and for previews."""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from dialgate.core.model import Phrase
from dialgate.ledger.schemas import Name, When, Words, described

PlanFormat: TypeAlias = Literal["json", "ndjson", "csv"]


class ScrubRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A copy of a list with a verdict on each row. It is recorded, with `actor` and `proof`."""

    campaign: Annotated[Name, described("The campaign that would call the numbers.")]
    at: Annotated[When | None, described("When the calls would be made. Default: now.")] = None
    actor: Annotated[
        Phrase, described("The person or system that receives the copy. Default: the client's name.")
    ] = ""
    proof: Annotated[Words, described("Why the copy is made: a ticket, a contract.")] = ""
    format: Annotated[
        Literal["csv", "xlsx"],
        described(
            "Format of the copy. `xlsx` has the numbers in E.164, as text, and a sentence for each reason code."
        ),
    ] = "csv"


class PlanRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Plans of the calls to the numbers of a list. They are recorded, with `actor` and `proof`."""

    campaign: Annotated[Name, described("The campaign that would call the numbers.")]
    days: Annotated[int, Meta(ge=1, le=14), described("Length of the plans, in days of 24 hours.")] = 7
    at: Annotated[When | None, described("When the plans begin. Default: now.")] = None
    now: Annotated[
        bool, described("Whether to leave out numbers to which a call is not permitted when the plans begin.")
    ] = False
    format: Annotated[
        PlanFormat,
        described(
            "Format of the plans. `csv` has a row for each span of time, `ndjson` a line for each number."
        ),
    ] = "json"
    actor: Annotated[
        Phrase, described("The person or system that receives the plans. Default: the client's name.")
    ] = ""
    proof: Annotated[Words, described("Why the plans are made: a ticket, a contract.")] = ""


class PreviewRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A count of the callable numbers on a list."""

    campaign: Annotated[
        str, described("The campaign that would call the list. Default: all campaigns of the list.")
    ] = ""
    at: Annotated[When | None, described("When the calls would be made. Default: now.")] = None
