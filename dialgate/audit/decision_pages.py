"""Pages of decisions, newest first, with masked numbers: for people who look for a decision, not for a person."""

from collections.abc import Iterator
from heapq import merge
from itertools import islice
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from dialgate.audit.search import DecisionQuery, Results
from dialgate.config.configuration import Config
from dialgate.core import local_time
from dialgate.core.model import MINUTE, Instant, Result
from dialgate.core.refusal import Refused
from dialgate.core.text_formats import Timestamp
from dialgate.crypto.keys import KeyRetired, Keys, MonthKeys
from dialgate.crypto.masking import mask_number
from dialgate.decision_log import span
from dialgate.decision_log.chains import Chains, shipped_until
from dialgate.decision_log.entry_columns import SEALED, Column, EntryColumns
from dialgate.decision_log.records import Position, Reader, columns_of, position
from dialgate.decision_log.span import LogSpan

_QUARTER = 15 * MINUTE  # in every time zone an hour begins with one
_SHOWN = (
    "allow",
    "shadow",
    "controller",
    "campaign",
    "caller_id",
    "reasons",
    "client",
    "interface",
    "call_id",
)


class DecisionPageOrder(Struct, frozen=True, kw_only=True):
    """A request for a page: the newest `limit` matches within the span, and before the decision with the id `before`.

    Only decisions of the local hours from `hours[0]` up to `hours[1]` in `zone` match, and only calls with the reported `outcome`.
    """

    query: DecisionQuery
    within: LogSpan = LogSpan()
    limit: int = 100
    before: str = ""
    zone: str = "UTC"
    hours: tuple[int, int] = (0, 24)
    outcome: Result | None = None
    agent: str = ""


class DecisionRow(Struct, frozen=True, kw_only=True):
    """A decision as one row. `number` is masked, or `•••` once the keys of its month were destroyed."""

    decision_id: str
    at: Timestamp
    decision: Literal["allow", "deny"]
    shadow: bool
    number: str
    controller: str
    campaign: str
    caller_id: str
    reasons: list[str]
    client: str
    interface: str
    call_id: str
    agent: str = ""


class DecisionPage(Struct, frozen=True, kw_only=True):
    """Decisions by all gates on the store, newest first.

    If there is `more`, send the last `decision_id` as `before`. `shadow` means that the call was let through in shadow mode.
    `shipped` has the time up to which the log of each other gate was searched.
    """

    decisions: list[DecisionRow]
    more: bool
    shipped: dict[str, Timestamp]


def find_page(config: Config, order: DecisionPageOrder) -> DecisionPage:
    """Read a page from the logs, in a process of its own. Raises `LogDamaged`, `Refused`."""
    chains = Chains(config.data, config.shipped)
    if order.agent:
        order = replace(order, query=replace(order.query, agents=chains.agents(order.agent)))
    cursor = _position(chains, order)
    found = merge(
        *(_newest_first(chains, reader, log, cursor, order) for log, reader in chains.readers.items()),
        key=lambda row: row[0],
        reverse=True,
    )
    rows = [row for _, row in islice(found, order.limit + 1)]
    return DecisionPage(
        decisions=rows[: order.limit], more=len(rows) > order.limit, shipped=shipped_until(chains.homes)
    )


def _position(chains: Chains, order: DecisionPageOrder) -> Position | None:
    """Return the position of the decision that ended the page before. It matched, so anyone who sends it may see it."""
    if not order.before:
        return None
    entry = chains.find(order.before)
    if entry is None or not len(order.query.matching(columns_of([entry.record])).seqs):
        text = "No decision that matches has this id. Start again without `before`."
        raise Refused("decision.unknown", text, "before", 404)
    return position(entry.record)


def _newest_first(
    chains: Chains, reader: Reader, log: str, cursor: Position | None, order: DecisionPageOrder
) -> Iterator[tuple[Position, DecisionRow]]:
    query, within = order.query, _until(order.within, log, cursor)
    names, results = query.columns, Results(chains, span.begin(reader, within), within.since)
    home = chains.home_of(log) or chains.homes[0]
    for entries in span.columns_backwards(reader, within, names, query.having):
        decisions = query.matching(entries.select(entries.is_decision))
        if order.hours != (0, 24) and len(decisions.seqs):
            hours = decisions.unit(_QUARTER).map(lambda at: local_time.hour_in(order.zone, at)[1])
            decisions = decisions.select(hours.where(range(*order.hours).__contains__))
        if order.outcome and len(decisions.seqs):
            decisions = decisions.select(results.of(decisions).where(order.outcome.__eq__))
        newest = decisions.select(slice(-(order.limit + 1), None))  # a page needs no more of a part
        if len(newest.seqs):
            yield from reversed([*_rows(newest, home.keys(log))])


def _until(within: LogSpan, log: str, cursor: Position | None) -> LogSpan:
    """Limit the span to entries of the log that come before the cursor in the order of `Position`."""
    if cursor is None:
        return within
    at, name, seq = cursor
    if name == log:
        return replace(within, last=min(within.last, seq - 1))
    return replace(within, until=min(within.until, at + (log < name)))


def _rows(decisions: EntryColumns, keys: Keys) -> Iterator[tuple[Position, DecisionRow]]:
    seqs, times = decisions.seqs.tolist(), decisions.times.tolist()
    shown = zip(*(decisions.column(name) for name in _SHOWN), strict=True)
    sealed = zip(*(_stored(decisions.column(name)) for name in ("nonce", "sealed", "agent")), strict=True)
    at_texts = np.datetime_as_string(decisions.times.astype("M8[ms]"), timezone="UTC").tolist()  # RFC 3339
    for seq, at, at_text, (nonce, box, agent), values in zip(
        seqs, times, at_texts, sealed, shown, strict=True
    ):
        month = _month(keys, at)
        allow, shadow, controller, campaign, caller_id, reasons, client, interface, call_id = values
        yield (
            (at, decisions.log, seq),
            DecisionRow(
                decision_id=f"{decisions.log}-{seq}",
                at=at_text,
                decision="allow" if allow else "deny",
                shadow=shadow,
                number=mask_number(month.called_number(nonce + box) if month and nonce and box else ""),
                controller=controller,
                campaign=campaign,
                caller_id="" if caller_id.endswith(SEALED) else caller_id,
                reasons=reasons.split(),
                client=client,
                interface=interface,
                call_id=call_id,
                agent=month.unseal(agent) if month and agent else "",
            ),
        )


def _stored(column: Column) -> Iterator[Any]:
    """Yield the values, or None for a row that is stored whole, without this column."""
    return (column.values[code] if code >= 0 else None for code in column.codes.tolist())


def _month(keys: Keys, at: Instant) -> MonthKeys | None:
    """Return the keys of the month, or None if they were destroyed."""
    try:
        return keys.month(at)
    except KeyRetired:
        return None
