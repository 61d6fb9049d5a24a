"""The rule about the called number.

L. 5/2018 art. 1 c. 14 forbids generated numbers. An ambiguous string is therefore denied, because each reading would be
a guess. Emergency, premium, shared-cost and service numbers have no subscriber, so a campaign must not call them. Some
numbers in San Marino and the Vatican begin with +39, but these numbers are not in Italy. A call is denied if the gate
has no law for the number's country, or only a draft that the settings do not accept.
"""

from dialgate.core.law import Binding
from dialgate.core.model import Deny, Facts, Outcome, Pass


def number_valid(facts: Facts, law: Binding) -> Outcome:
    number = facts.number
    if number.kind == "invalid":
        return Deny("number.invalid", number.problem, severity="gate")
    if number.problem:
        return Deny("law.draft", number.problem, severity="gate")
    if number.region not in law.regions:
        return Deny(
            "number.not_diallable",
            f"no law is on file for {number.region or 'this country'}",
            severity="gate",
        )
    for section in law.diallable:
        if number.kind not in section.allows:
            class_ = number.kind.replace("_", " ")
            text = f"numbers of the class {class_} are no target of a campaign"
            return section.deny("number.not_diallable", text)
        if number.prefix.startswith(section.not_prefixes):
            text = f"numbers that begin with {number.prefix} are no target of a campaign"
            return section.deny("number.not_diallable", text)
    return Pass(number.kind)
