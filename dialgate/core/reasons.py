"""The reason codes of denials, with their classes and meanings.

The class tells a dialer what to do after a denial:

| class | what to do |
|---|---|
| `number` | Do not call this number again. Only the person, the registry or a new consent changes that. |
| `call` | Do not make this call now. Another caller ID, a later time, a newer registry answer or an import may permit it. |
| `gate` | The gate made no decision. Retry in a few seconds. |

A dialer permanently drops a lead that is denied with the class `number`. In case of doubt, a code therefore has the
class `call`. If the number cannot be parsed or the campaign is unknown, the denial also has the class `call`, because
the number was not checked.
"""

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

ReasonClass: TypeAlias = Literal["number", "call", "gate"]
# Stored for years and documented in docs/reference/reasons.md. Never reuse a code with another meaning.
_CODES: Final[dict[str, tuple[ReasonClass, str]]] = {
    "number.invalid": ("number", "The called number is not valid, or can be read in more than one way."),
    "number.not_diallable": ("number", "Campaigns must not call numbers of this class, or numbers in a country without a law on file."),
    "law.draft": ("call", "The country file of the called number is a draft that the configuration does not accept."),
    "caller_id.withheld": ("call", "The caller ID is withheld, anonymous or unreadable."),
    "caller_id.not_assigned": ("call", "The caller ID is not assigned to this campaign, or not to this controller alone."),
    "caller_id.wrong_class": ("call", "Calls for this purpose must not use a caller ID in this class."),
    "caller_id.not_recallable": ("call", "There is no unexpired proof that calls back to the caller ID are answered."),
    "caller_id.wrong_country": ("call", "The law requires a caller ID from the called country."),
    "caller_id.not_callers": ("call", "The law requires a caller ID that is allotted to the company that makes the calls."),
    "caller_id.foreign_ingress": ("call", "A call with a caller ID from this country would enter the country from abroad."),
    "campaign.unknown": ("call", "This client has no such campaign."),
    "campaign.inactive": ("call", "The campaign is paused, has not started, or is over."),
    "campaign.sector_banned": ("call", "Calls for this sector and purpose are banned, and no exception is proved."),
    "campaign.ai_undisclosed": ("call", "No proof is recorded that the AI voice says what it is."),
    "list.unknown": ("call", "The number is not on any of the campaign's lists, and no consent, contract or request permits the call."),
    "list.ceded": ("call", (
        "The list was ceded without a complete chain of origin, or the number is enrolled with the "
        "registry.")),
    "registry.listed": ("number", "The opposition registry answered that the number is enrolled."),
    "registry.unknown": ("call", "The opposition registry was never consulted about this number for this controller."),
    "registry.expired": ("call", "The registry's last answer is too old."),
    "registry.uncovered": ("call", "The number is outside the part of the registry that the controller subscribed to."),
    "revocation.revoked": ("number", "The person objected to calls."),
    "consent.missing": ("number", "This call needs consent, and none is recorded."),
    "consent.expired": ("number", "The consent has expired, or is older than the limit set by the law or the operator."),
    "consent.withdrawn": ("number", "The consent was withdrawn."),
    "consent.incomplete": ("number", (
        "The consent does not state what the law requires, such as its period, goods or the caller, or is not in writing.")),
    "consent.out_of_scope": ("number", (
        "The consent does not cover this purpose, kind of goods or call type, or does "
        "not cover profiling.")),
    "consent.void": ("number", (
        "The consent is void: nothing proves it that the law accepts, its double opt-in was not confirmed, a later enrolment "
        "with the registry voided it, or it was ceded without a complete chain of origin or without consent to the cession.")),
    "consent.wrong_number": ("number", (
        "The number was reported to belong to another person. Earlier consents, contracts and requests do not "
        "count until the number is confirmed.")),
    "consent.reassigned": ("number", (
        "The number was disconnected, so it may belong to another person now. Earlier consents, contracts and requests do not "
        "count.")),
    "hours.outside": ("call", "The time is outside the hours in which the person may be called."),
    "hours.holiday": ("call", "It is a public holiday where the person is."),
    "frequency.exceeded": ("call", "The limit on calls to this person has been reached."),
    "frequency.rest": ("call", (
        "A silent or abandoned call was made, or the person refused the offer. No calls are allowed for some time. After a "
        "silent call, the law may then allow only calls by an agent until one is answered.")),
    "pacing.abandoned": ("call", (
        "The campaign has abandoned too large a share of its calls. It is paused until the share is within the limit again, or an "
        "officer lifts the pause.")),
    "gate.unavailable": ("gate", "The gate cannot decide or cannot record the decision. Retry in a few seconds."),
    "rate.exceeded": ("gate", "The client made more calls than its `calls_per_second`. Retry in a second."),
    "gate.rule_error": ("gate", "A rule failed because of an error, so the call is denied."),
}  # fmt: skip
REASONS: Final = {code: text for code, (_, text) in _CODES.items()}
REASON_CLASSES: Final = {code: class_ for code, (class_, _) in _CODES.items()}
_STRICTEST_FIRST: Final[tuple[ReasonClass, ...]] = ("number", "call", "gate")


def classify(codes: Iterable[str], *, number_read: bool = True) -> ReasonClass | Literal[""]:
    """Return the strictest class among the reasons for a denial, or "" if there are no reasons.

    `number_read` is False if the number could not be parsed. A code without a class, such as an error code, has the
    class `gate`.
    """
    codes = set(codes)
    classes = {REASON_CLASSES.get(code, "gate") for code in codes}
    if "number" in classes and ("campaign.unknown" in codes or not number_read):
        classes = classes - {"number"} | {"call"}
    return next((name for name in _STRICTEST_FIRST if name in classes), "")
