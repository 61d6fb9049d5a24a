"""The class of each reason code, which says what a dialer does after a denial.

| class | what to do |
|---|---|
| `number` | Do not call this number again: only the person, the registry or a new consent changes that. |
| `call` | Not this call now: another caller ID, a later time, a newer registry answer or an import may open it. |
| `gate` | Nothing was decided: ask again in a few seconds. |

When in doubt a code is of class `call`: a dialer that stops a lead for good never starts it again. For the same reason no
denial is of class `number` where the call was not judged about its number: an unknown campaign has no dial region to read
the number by, and no registry answers, consents or stops; and a number that cannot be read as it is written has none either.
"""

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

ReasonClass: TypeAlias = Literal["number", "call", "gate"]
REASON_CLASSES: Final[dict[str, ReasonClass]] = {
    "number.invalid": "number",
    "number.not_diallable": "number",
    "caller_id.withheld": "call",
    "caller_id.not_assigned": "call",
    "caller_id.wrong_class": "call",
    "caller_id.not_recallable": "call",
    "caller_id.foreign_ingress": "call",
    "campaign.unknown": "call",
    "campaign.inactive": "call",
    "campaign.sector_banned": "call",
    "list.unknown": "call",
    "list.ceded": "call",
    "registry.listed": "number",
    "registry.unknown": "call",
    "registry.expired": "call",
    "registry.uncovered": "call",
    "revocation.revoked": "number",
    "consent.missing": "number",
    "consent.expired": "number",
    "consent.withdrawn": "number",
    "consent.out_of_scope": "number",
    "consent.void": "number",
    "consent.wrong_number": "number",
    "hours.outside": "call",
    "hours.holiday": "call",
    "frequency.exceeded": "call",
    "frequency.rest": "call",
    "gate.unavailable": "gate",
    "gate.rule_error": "gate",
}
_STRICTEST_FIRST: Final[tuple[ReasonClass, ...]] = ("number", "call", "gate")


def classify(codes: Iterable[str], *, number_read: bool = True) -> ReasonClass | Literal[""]:
    """Return the class of a denial for these reasons: the one that binds longest; "" without any reason.

    A code that is no reason of a decision, such as an error's, is of class `gate`: nothing was decided. `number_read`:
    false where the number could not be read as it was written; then, as with an unknown campaign, no reason binds it."""
    given = set(codes)
    found = {REASON_CLASSES.get(code, "gate") for code in given}
    if "number" in found and ("campaign.unknown" in given or not number_read):
        found = found - {"number"} | {"call"}
    return next((name for name in _STRICTEST_FIRST if name in found), "")
