"""Numbers that nobody has, each with a fixed answer, so that an integrator can test every branch.

Their country code, 999, is assigned to no country (ITU-T E.164), so no network routes them and the rules deny them as invalid. The call is
decided and recorded as such. Only for a client with the setting `test_numbers` does the answer that leaves differ, and only
if the call was denied as invalid: should the code be assigned one day, its numbers are decided like all others.
"""

from typing import Final

from msgspec import structs

from dialgate.core.model import Instant
from dialgate.core.reasons import REASONS, classify
from dialgate.core.responses import Answer, Reason, refusal, when
from dialgate.gate.client_limits import THROTTLED

# By the last digits of the number. A number never changes its code: add new codes at the end.
_CODES: Final = (
    "", "number.invalid", "number.not_diallable", "law.draft", "caller_id.withheld", "caller_id.not_assigned", "caller_id.wrong_class",
    "caller_id.not_recallable", "caller_id.wrong_country", "caller_id.not_callers", "caller_id.foreign_ingress", "campaign.unknown",
    "campaign.inactive", "campaign.sector_banned", "list.unknown", "list.ceded", "registry.listed", "registry.unknown",
    "registry.expired", "registry.uncovered", "revocation.revoked", "consent.missing", "consent.expired", "consent.withdrawn",
    "consent.incomplete", "consent.out_of_scope", "consent.void", "consent.wrong_number", "consent.reassigned", "hours.outside",
    "hours.holiday", "frequency.exceeded", "frequency.rest", "pacing.abandoned", "gate.unavailable", THROTTLED, "gate.rule_error",
    "campaign.ai_undisclosed",
)  # fmt: skip
# Each number with its reason code, or "" for an allow.
TEST_NUMBERS: Final = {f"+99900000{place:03}": code for place, code in enumerate(_CODES)}
_INVALID: Final = "number.invalid"
_WITHOUT_DECISION: Final = frozenset({"gate.unavailable", THROTTLED})
_TEXT: Final = "test number: "


def answer_for_test(answer: Answer, to: str, ends: Instant) -> Answer:
    """Return the fixed answer if `to` is a test number that was denied as invalid, or else `answer`. `ends` is the end of an allow."""
    code = TEST_NUMBERS.get(to)
    if code is None or _INVALID not in [reason.code for reason in answer.reasons]:
        return answer
    if code in _WITHOUT_DECISION:
        return refusal(code, _TEXT + REASONS[code])
    fixed = Answer(
        decision="allow",
        decision_id=answer.decision_id,
        to=to,
        from_=answer.from_,
        valid_until=when(ends),
        caller_id_chosen=answer.caller_id_chosen,
    )
    if not code:
        return fixed
    reasons = [Reason(code, "gate", "", _TEXT + REASONS[code])]
    return structs.replace(
        fixed, decision="deny", valid_until="", reasons=reasons, reason_class=classify([code])
    )
