"""The personal data that one gate has about a data subject, for the access report and for requests from other gates.

Times in string fields are in RFC 3339 format. Field names are part of the wire format of
`dialgate.cluster.peer_questions`.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal

from msgspec import Struct

from dialgate.audit.lookups import Seen
from dialgate.core.model import Block, Instant, Origin
from dialgate.core.request_deadlines import Kind
from dialgate.core.text_formats import OptionalTimestamp, ReasonCode, Timestamp
from dialgate.ledger.view_schemas import HistoryEntry


class CaseInfo(Struct, frozen=True, kw_only=True):
    """A data-subject request.

    `days_left` is negative if the request is overdue, and 0 if it is closed. `closed_by` is the person who answered or
    refused it. `person` is the number, masked. `assignee` works on it. `withdrawn` says that the person withdrew it,
    and `executed` that what was requested was done.
    """

    id: str
    controller: str
    kind: Kind
    received_at: Timestamp
    due_at: Timestamp
    days_left: int
    identified: str
    actor: str
    channel: str
    proof: str
    extended_at: OptionalTimestamp = ""
    closed_at: OptionalTimestamp = ""
    refused: bool = False
    outcome: str = ""
    closed_by: str = ""
    person: str = ""
    assignee: str = ""
    withdrawn: bool = False
    executed: bool = False


class OnList(Struct, frozen=True, kw_only=True):
    list: str
    campaigns: tuple[str, ...]
    basis: str
    origin: Origin
    loaded_at: Timestamp
    retired_at: OptionalTimestamp = ""


class FromRegistry(Struct, frozen=True, kw_only=True):
    registry: str
    answer: str
    consulted_at: Timestamp
    consultation: str
    blocks: tuple[Block, ...] = ()
    listed_since: OptionalTimestamp = ""


class Why(Struct, frozen=True, kw_only=True):
    code: ReasonCode
    law: str
    text: str


class DecisionLine(Struct, frozen=True, kw_only=True):
    """A decision about the number. `result` is an allowed call's outcome, if reported.

    `profiling` says whether the campaign selected people by profiling when the decision was made. `shadow` says whether the call was
    let through in shadow mode, whatever the decision.
    """

    id: str
    at: Timestamp
    decision: Literal["allow", "deny"]
    campaign: str
    purpose: str
    caller_id: str
    basis: str
    result: str
    asked_by: str
    reasons: list[Why]
    profiling: bool = False
    shadow: bool = False


class WaitingLetter(Struct, frozen=True, kw_only=True):
    """A message with the number that could not be applied. `body` is empty if the message may be about others, too."""

    webhook: str
    received_at: Timestamp
    of_one: bool
    body: str


class RequestFile(Struct, frozen=True, kw_only=True):
    """A file that is attached to the data-subject request `request`. `bytes` is its size."""

    request: str
    name: str
    at: Timestamp
    bytes: int


class Share(Struct, frozen=True, kw_only=True):
    """The data that only one gate holds about a number, for one controller.

    `used` is the time of the newest allowed call for each legal basis. `retired_months` (`YYYY-MM`) are the months with
    decisions whose keys are destroyed. An older gate does not send them.
    """

    restricted: list[HistoryEntry]
    lists: list[OnList]
    registries: list[FromRegistry]
    decisions: list[DecisionLine]
    lookups: list[Seen]
    requests: list[CaseInfo]
    used: dict[str, Instant]
    retired_months: list[str] = []
    letters: list[WaitingLetter] = []
    attachments: list[RequestFile] = []


def merge_shares(shares: Sequence[Share]) -> Share:
    # The gates' copies of a snapshot may differ in age, so the newest consultation counts.
    by_age = sorted(_collect(shares, "registries"), key=lambda answer: answer.consulted_at)
    registries = {answer.registry: answer for answer in by_age}
    lists = {entry.list: entry for entry in _collect(shares, "lists")}
    # A gate may have started with a copy of another gate's log.
    decisions = {decision.id: decision for decision in _collect(shares, "decisions")}
    used: dict[str, Instant] = {}
    for share in shares:
        used |= {basis: max(at, used.get(basis, 0)) for basis, at in share.used.items()}
    return Share(
        restricted=sorted(_collect(shares, "restricted"), key=lambda entry: entry.seq),
        lists=list(lists.values()),
        registries=[registries[name] for name in sorted(registries)],
        decisions=sorted(decisions.values(), key=lambda decision: decision.at, reverse=True),
        lookups=sorted(_collect(shares, "lookups"), key=lambda lookup: lookup.at),
        requests=sorted(_collect(shares, "requests"), key=lambda case: case.received_at),
        used=used,
        retired_months=sorted({*_collect(shares, "retired_months")}),
        letters=sorted(_collect(shares, "letters"), key=lambda letter: letter.received_at),
        attachments=sorted(_collect(shares, "attachments"), key=lambda file: file.at),
    )


def _collect(shares: Iterable[Share], name: str) -> Iterator[Any]:
    return chain.from_iterable(getattr(share, name) for share in shares)
