"""The first case file of a new configuration: a few cases that pass, to start from."""

from pathlib import Path
from typing import Any, Final

import yaml

from dialgate.config import loader
from dialgate.core.law import Law
from dialgate.core.local_time import day_in
from dialgate.core.model import DAY, Campaign, Instant, Number
from dialgate.runtime.atomic_write import write_file
from dialgate.tools.policy.call_facts import ConfiguredCalls
from dialgate.tools.policy.case_file import CaseBase, WrittenCase, expand
from dialgate.tools.policy.checking import check_cases, verdict
from dialgate.tools.policy.recorded_case import example_number

FIRST_CASES: Final = "policy/first.yaml"
_DAYS: Final = 10  # that are tried for a call within the hours
_HEAD: Final = """\
# What this configuration is expected to decide. `dialgate policy test` checks it; the page "Test your policy" of the documentation
# explains it. Add a case for each rule that your calls depend on.
"""


def write_first_cases(folder: Path, now: Instant) -> str:
    """Write the cases of a new configuration's first campaign, with today's decisions. Return the file's name."""
    calls = ConfiguredCalls(loader.load(folder / "dialgate.yaml"))
    line = next(iter(calls.config.lines.values()))
    law = calls.config.laws[line.home]
    call = {
        "campaign": line.campaign.id,
        "to": example_number(Number(kind="fixed", region=line.home)),
        "from": next(iter(line.caller_ids)),
    }
    stop = {"seq": 1, "at": "-1d", "scope": "controller"}
    drafts: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("A number on no list, without a consent, contract or request, is refused", call, {}),
        ("A person who objected is refused", call, {"known": {"revocations": [stop]}}),
        ("A withheld caller ID is refused", {**call, "from": "anonymous"}, {}),
        (
            "A call with a proved consent, a contract and clear registries",
            call,
            _permitted(law, line.campaign),
        ),
    ]
    cases = [_decided(calls, about, own, facts, law, now) for about, own, facts in drafts]
    text = _HEAD + yaml.safe_dump(cases, sort_keys=False, allow_unicode=True, width=120)
    (folder / FIRST_CASES).parent.mkdir(exist_ok=True)
    write_file(folder / FIRST_CASES, text.encode())
    return FIRST_CASES


def _permitted(law: Law, campaign: Campaign) -> dict[str, Any]:
    """Return what is held about a number that most laws permit to call."""
    goods = [campaign.goods] if campaign.goods else []
    consent = {"id": "c1", "collected_at": "-30d", "purposes": [campaign.purpose], "call_types": [campaign.call_type], "goods": goods, "form": "written", "proved": True}  # fmt: skip
    contract = {
        "id": "k1",
        "starts": "2020-01-01",
        "sector": campaign.sector,
        "goods": [*goods],
        "proved": True,
    }
    registries = {section.id for section in law.registries}
    return {
        "registries": [
            {"registry": id_, "answer": "clear", "consulted_at": "-1d"} for id_ in sorted(registries)
        ],
        "known": {"consents": [consent], "contracts": [contract]},
        "caller_id": {"proved_at": "-1d", "proof": "probe:1"},
    }


def _decided(
    calls: ConfiguredCalls, about: str, call: dict[str, Any], facts: dict[str, Any], law: Law, now: Instant
) -> dict[str, Any]:
    """Return a case with the decision as its wanted one, on the first of the next days on which the call is permitted."""
    decided = []
    for days in range(1, _DAYS):
        day = day_in(law.zone, now + days * DAY)
        case = {"about": about, "at": f"{day}T11:00", **call, "facts": facts}
        written = WrittenCase(about=about, at=case["at"], want="allow", to=call["to"], from_=call["from"], campaign=call["campaign"], facts=facts)  # fmt: skip
        (checked,), _ = check_cases(expand(written, CaseBase(), calls, ""), calls.law)
        want = "allow" if checked.decision.allow else [reason.code for reason in checked.decision.reasons]
        decided.append(
            (
                verdict(checked.decision) != "allow",
                len(checked.decision.reasons),
                days,
                {**case, "want": want},
            )
        )
    *_, best = min(decided, key=lambda item: item[:3])
    return best
