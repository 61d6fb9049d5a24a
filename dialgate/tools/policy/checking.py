"""The check of a case: the decision on its facts, compared with the wanted one."""

from collections.abc import Callable, Iterable
from xml.etree import ElementTree as ET

from msgspec import Struct

from dialgate.core.decision import decide
from dialgate.core.law import Law
from dialgate.core.local_time import rfc3339
from dialgate.core.model import Decision, Facts
from dialgate.tools.policy.case_facts import CaseFault, build_facts, instant
from dialgate.tools.policy.case_file import PolicyCase, Wanted


class CheckedCase(Struct, frozen=True):
    """A case with its decision. `differences` is empty if the decision is the wanted one."""

    case: PolicyCase
    facts: Facts
    law: Law
    decision: Decision
    differences: list[str]


def check_cases(
    cases: Iterable[PolicyCase], law_of: Callable[[PolicyCase], Law]
) -> tuple[list[CheckedCase], list[str]]:
    """Decide all cases that are not pending. Return them, with a message for each case whose facts are faulty."""
    checked, problems = [], []
    for case in cases:
        if case.pending:
            continue
        try:
            law = law_of(case)
            facts = build_facts(case.facts, case.at, law, case.names)
        except CaseFault as fault:
            problems.append(f"{case.file}:{case.line}: {fault}")
            continue
        decision = decide(facts, law)
        checked.append(CheckedCase(case, facts, law, decision, differences(case.want, decision)))
    return checked, problems


def differences(want: Wanted, decision: Decision) -> list[str]:
    kinds = {name: type(outcome).__name__.lower() for name, outcome in decision.outcomes.items()}
    compared = (
        ("decision", want.decision, verdict(decision)),
        ("reasons", want.reasons, [reason.code for reason in decision.reasons]),
        ("outcomes", want.outcomes, {name: kinds.get(name, "none") for name in want.outcomes}),
        ("basis", want.basis, decision.basis),
        ("valid_until", _instant(want.valid_until), decision.valid_until),
        ("not_before", _instant(want.not_before), decision.not_before),
    )
    found = [
        f"{key}: {rfc3339(value) if type(value) is int else value}, not {getattr(want, key)}"
        for key, wanted, value in compared
        if wanted is not None and wanted != value
    ]
    cited = {reason.code: f"{reason.severity} {reason.law}".rstrip() for reason in decision.reasons}
    return found + [
        f"cites: {cited.get(code)}, not {named}"
        for code, named in want.cites.items()
        if not cites(cited.get(code, ""), named)
    ]


def cites(citation: str, named: str) -> bool:
    """Return whether a citation matches the one that a case names.

    `named` is a severity and the beginning of a source. A severity alone matches only a citation without a section.
    """
    return citation.startswith(named) if " " in named else citation == named


def verdict(decision: Decision) -> str:
    return "allow" if decision.allow else "deny"


def _instant(text: str | None) -> int | None:
    """Convert an expected instant to milliseconds. An empty string becomes 0, as in a decision without that instant."""
    return instant(text) if text else None if text is None else 0


def describe(checked: CheckedCase) -> list[str]:
    """Return the lines that show a red case: what is wanted, what was decided, and why."""
    want, decision = checked.case.want, checked.decision
    lines = [
        f"wanted: {want.decision}" + "".join(f" {code}" for code in want.reasons),
        f"got:    {verdict(decision)}" + (f" ({decision.basis})" if decision.basis else ""),
    ]
    lines += (
        f"        {reason.code}: {reason.text} ({reason.severity}{reason.law and f': {reason.law}'})"
        for reason in decision.reasons
    )
    return lines + [f"differs in {difference}" for difference in checked.differences]


def junit(checked: Iterable[CheckedCase], problems: Iterable[str]) -> bytes:
    """Return the results in the JUnit format, which CI systems show. A fault of a file is an error."""
    suite = ET.Element("testsuite", name="dialgate policy test")
    counts = {"tests": 0, "failures": 0, "errors": 0}
    for item in checked:
        counts["tests"] += 1
        case = ET.SubElement(
            suite, "testcase", classname=item.case.file, name=item.case.about, file=item.case.file, line=str(item.case.line)
        )  # fmt: skip
        if item.differences:
            counts["failures"] += 1
            failure = ET.SubElement(case, "failure", message="; ".join(item.differences))
            failure.text = "\n".join(describe(item))
    for problem in problems:
        counts["tests"] += 1
        counts["errors"] += 1
        case = ET.SubElement(suite, "testcase", classname="policy", name=problem)
        ET.SubElement(case, "error", message=problem)
    suite.attrib.update({name: str(count) for name, count in counts.items()})
    text: bytes = ET.tostring(suite, "utf-8", xml_declaration=True)
    return text
