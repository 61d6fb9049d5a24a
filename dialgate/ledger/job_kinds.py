"""The kinds of work that `file_jobs` does in a process of its own."""

from datetime import datetime
from typing import TypeAlias

from msgspec import Struct

from dialgate.ledger.export_requests import PlanRequest, ScrubRequest
from dialgate.ledger.request_lines import LineKind
from dialgate.ledger.schemas import EntriesRequest, RevocationsRequest
from dialgate.lists.call_list import BuildOrder
from dialgate.lists.tabular import NO_HINTS, Hints


class ImportRevocations(Struct, frozen=True, tag=True):
    request: RevocationsRequest
    hints: Hints = NO_HINTS


class ImportEntries(Struct, frozen=True, tag=True):
    request: EntriesRequest
    hints: Hints = NO_HINTS


class RecordLines(Struct, frozen=True, tag=True):
    """Requests in lines of JSON, which are answered while the job runs. The report is the number of lines."""

    kind: LineKind


class BuildCallList(Struct, frozen=True, tag=True):
    """A call list from the rows of the file. The report is a `BuildResult`."""

    order: BuildOrder


class Scrub(Struct, frozen=True, tag=True):
    """A copy of the file with verdicts, written to `out`."""

    request: ScrubRequest
    out: str
    hints: Hints = NO_HINTS


class PlanCalls(Struct, frozen=True, tag=True):
    """The plans of the numbers in the file, or of the loaded list `list`, written to `out`."""

    request: PlanRequest
    out: str
    hints: Hints = NO_HINTS
    list: str = ""


class PreviewList(Struct, frozen=True, tag=True):
    """A preview of a loaded list for each of `campaigns`. The job has no file."""

    list: str
    campaigns: tuple[str, ...]
    at: datetime | None = None


Job: TypeAlias = (
    ImportRevocations | ImportEntries | RecordLines | BuildCallList | Scrub | PlanCalls | PreviewList
)
