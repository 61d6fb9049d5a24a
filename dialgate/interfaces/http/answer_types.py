"""Separate types for an allowed and a denied call, for the API description.

The gate itself uses `Answer`, which has the fields of both.
"""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType, field

from dialgate.core.reasons import ReasonClass
from dialgate.core.responses import Reason
from dialgate.core.text_formats import Timestamp


class Allow(Struct, frozen=True, kw_only=True, tag_field="decision", tag="allow"):
    # A single paragraph, because the API description shows line breaks as they are.
    __doc__ = (
        "The call may be placed until `valid_until`. Dial `to` and present `from` exactly. In shadow mode, `would` is the "
        "decision: if it is `deny`, the gate would refuse the call for these `reasons`. If the request left the caller ID to the gate, "
        "`caller_id_chosen` says how many of the campaign's fit the call, and why others do not."
    )

    decision_id: str
    to: str
    from_: str = field(name="from")
    valid_until: Timestamp
    reasons: list[Reason] | UnsetType = UNSET
    reason_class: ReasonClass | UnsetType = UNSET
    would: Literal["allow", "deny"] | UnsetType = UNSET
    caller_id_chosen: str | UnsetType = UNSET


class Deny(Struct, frozen=True, kw_only=True, tag_field="decision", tag="deny"):
    # A single paragraph, because the API description shows line breaks as they are.
    __doc__ = (
        "The call must not be placed. `reason_class` says what to do next. If `decision_id` is missing, the gate made no "
        "decision: retry. `not_before`: the time from which the call may be permitted, if it is known. If the request left the caller ID "
        "to the gate, `caller_id_chosen` says what each of the campaign's lacks."
    )

    reasons: list[Reason]
    reason_class: ReasonClass
    decision_id: str | UnsetType = UNSET
    to: str | UnsetType = UNSET
    from_: str | UnsetType = field(name="from", default=UNSET)
    not_before: Timestamp | UnsetType = UNSET
    caller_id_chosen: str | UnsetType = UNSET
