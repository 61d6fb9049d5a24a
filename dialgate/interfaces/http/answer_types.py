"""Separate types for an allowed and a denied call, for the API description.

The gate itself uses `Answer`, which has the fields of both.
"""

from collections.abc import Iterable
from typing import Any, Final, Literal

from msgspec import UNSET, Struct, UnsetType, defstruct, structs

from dialgate.core.reasons import ReasonClass
from dialgate.core.responses import Answer

_TYPES: Final[dict[str, Any]] = {field.name: field.type for field in structs.fields(Answer)}


def _form(
    name: str,
    decision: Literal["allow", "deny"],
    about: str,
    always: Iterable[str],
    sometimes: Iterable[str],
    **types: Any,
) -> type[Struct]:
    """Return a struct type with some of the fields of `Answer`.

    `always` names the required fields, and `sometimes` the optional ones. `types` holds narrower types for some fields.
    """
    fields = _TYPES | types
    return defstruct(
        name,
        [
            *((field, fields[field]) for field in always),
            *((field, fields[field] | UnsetType, UNSET) for field in sometimes),
        ],
        tag_field="decision",
        tag=decision,
        rename={"from_": "from"},
        frozen=True,
        kw_only=True,
        namespace={"__doc__": about},
    )


Allow: Final = _form(
    "Allow",
    "allow",
    "The call may be placed until `valid_until`. Dial `to` and present `from` exactly. `permit`: only if requested.",
    ("decision_id", "to", "from_", "valid_until"),
    ("permit",),
)
Deny: Final = _form(
    "Deny",
    "deny",
    "The call must not be placed. `reason_class` says what to do next. If `decision_id` is missing, the gate made no decision: retry. "
    "`not_before`: the time from which the call may be permitted, if it is known.",
    ("reasons", "reason_class"),
    ("decision_id", "to", "from_", "not_before"),
    reason_class=ReasonClass,
)
