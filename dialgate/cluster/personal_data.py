"""Personal data that one gate holds about a called person, as the access report shows it and as gates send it to each other.

Instants are RFC 3339."""

from typing import Literal

from msgspec import Struct

from dialgate.core.model import Origin
from dialgate.core.request_deadlines import Kind


class CaseInfo(Struct, frozen=True, kw_only=True):
    """`days_left`: until it is due, negative once it is late; 0 where it is closed. `closed_by`: who answered or refused."""

    id: str
    controller: str
    kind: Kind
    received_at: str
    due_at: str
    days_left: int
    identified: str
    actor: str
    channel: str
    proof: str
    extended_at: str = ""
    closed_at: str = ""
    refused: bool = False
    outcome: str = ""
    closed_by: str = ""


class OnList(Struct, frozen=True, kw_only=True):
    list: str
    campaigns: tuple[str, ...]
    basis: str
    origin: Origin
    loaded_at: str
    retired_at: str = ""


class FromRegistry(Struct, frozen=True, kw_only=True):
    registry: str
    answer: str
    consulted_at: str
    consultation: str


class Why(Struct, frozen=True, kw_only=True):
    code: str
    law: str
    text: str


class DecisionLine(Struct, frozen=True, kw_only=True):
    """`result`: what became of an allowed call, as far as it is known."""

    id: str
    at: str
    decision: Literal["allow", "deny"]
    campaign: str
    purpose: str
    caller_id: str
    basis: str
    result: str
    asked_by: str
    reasons: list[Why]
