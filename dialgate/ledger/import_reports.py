"""The reports of bulk imports."""

from msgspec import Struct

from dialgate.core.text_formats import Timestamp
from dialgate.lists.tabular import Layout


class RevocationsReport(Struct, frozen=True, kw_only=True):
    """The result of an import. `known` counts the numbers already revoked on this channel for this or a wider scope.

    `doubtful` counts the rows revoked under every number that they can mean, because Excel may have dropped a zero or a
    plus. `reasons` counts the skipped rows by their problem.
    """

    rows: int
    revoked: int
    known: int
    duplicates: int
    refused: int
    at: Timestamp
    layout: Layout
    note: str = ""
    doubtful: int = 0
    reasons: dict[str, int] = {}


class EntriesReport(Struct, frozen=True, kw_only=True):
    """The result of an import.

    `known` counts the rows skipped because the ledger already has an identical entry. `outranked` counts recorded rows
    that would permit more than an earlier entry with the same id and date: to correct that one, name the fields in a
    `rectify` column. `doubtful` counts the rows skipped because Excel may have dropped a zero or a plus; `note` says what to do.
    `over_limit` counts the rows skipped because their number has 250 consents, contracts and call requests.
    `reasons` counts the skipped rows by their problem, doubtful ones too.
    """

    rows: int
    recorded: int
    known: int
    refused: int
    at: Timestamp
    layout: Layout
    outranked: int = 0
    doubtful: int = 0
    note: str = ""
    over_limit: int = 0
    reasons: dict[str, int] = {}
