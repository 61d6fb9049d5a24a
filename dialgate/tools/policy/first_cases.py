"""The first case file of a new configuration: a few cases that pass, to start from."""

import json
from operator import itemgetter
from pathlib import Path
from string import Template
from typing import Any, Final

import msgspec
import yaml

from dialgate.config import loader
from dialgate.core.local_time import day_in
from dialgate.core.model import DAY, Instant, Number
from dialgate.runtime.atomic_write import write_file
from dialgate.tools.policy.call_facts import ConfiguredCalls
from dialgate.tools.policy.case_file import CaseBase, WrittenCase, expand
from dialgate.tools.policy.checking import check_cases
from dialgate.tools.policy.recorded_case import example_number

FIRST_CASES: Final = "policy/first.yaml"
_TEMPLATE: Final = Path(__file__).parents[2] / "resources/first/cases.yaml"
_DAYS: Final = 10  # that are tried for a call within the hours
_HEAD: Final = """\
# What this configuration is expected to decide. `dialgate policy test` checks it; the page "Test your policy" of the documentation
# explains it. Add a case for each rule that your calls depend on.
"""


def write_first_cases(folder: Path, now: Instant) -> str:
    """Write the cases of a new configuration's first campaign, with today's decisions. Return the file's name."""
    calls = ConfiguredCalls(loader.load(folder / "dialgate.yaml"))
    line = next(iter(calls.config.lines.values()))
    campaign, law = line.campaign, calls.config.laws[line.home]
    registries = sorted({section.id for section in law.registries})
    written = Template(_TEMPLATE.read_text("utf-8")).substitute(
        purpose=campaign.purpose,
        call_type=campaign.call_type,
        sector=json.dumps(campaign.sector),
        goods=json.dumps([campaign.goods] if campaign.goods else []),
        registries=json.dumps(
            [{"registry": id_, "answer": "clear", "consulted_at": "-1d"} for id_ in registries]
        ),
    )
    days = [day_in(law.zone, now + days * DAY) for days in range(1, _DAYS)]
    call = {
        "campaign": campaign.id,
        "to": example_number(Number(kind="fixed", region=line.home)),
        "from": next(iter(line.caller_ids)),
    }
    cases = []
    for case in yaml.safe_load(written):
        variants = [{"about": "", "at": f"{day}T11:00", **call, **case} for day in days]
        cases.append(min((_decided(calls, variant) for variant in variants), key=itemgetter(0))[1])
    text = _HEAD + yaml.safe_dump(cases, sort_keys=False, allow_unicode=True, width=120)
    (folder / FIRST_CASES).parent.mkdir(exist_ok=True)
    write_file(folder / FIRST_CASES, text.encode())
    return FIRST_CASES


def _decided(calls: ConfiguredCalls, case: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return the number of reasons against the call, and the case with the decision as its wanted one."""
    written = msgspec.convert({**case, "want": "allow"}, WrittenCase)
    (checked,), _ = check_cases(expand(written, CaseBase(), calls, ""), calls.law)
    reasons = [reason.code for reason in checked.decision.reasons]
    return len(reasons), {**case, "want": reasons or "allow"}
