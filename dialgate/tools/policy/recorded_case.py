"""A case written from a recorded decision, without the called number.

The number is replaced by an example number of the same class and place, ids of consents and other entries by `c1`, `k1` and so on.
Dates stay, because sections of law are dated and limits count days. What differs from the configuration of today is written out, so
the case gives the recorded decision under the law of that decision.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import yaml
from msgspec import Struct, structs

from dialgate.core import phone
from dialgate.core.law import Law
from dialgate.core.local_time import rfc3339
from dialgate.core.model import Call, Facts, Number
from dialgate.decision_log.records import Record
from dialgate.tools.policy.call_facts import ConfiguredCalls
from dialgate.tools.policy.case_facts import INSTANTS, CaseFault
from dialgate.tools.policy.case_file import CaseBase, WrittenCase, expand
from dialgate.tools.policy.checking import check_cases, verdict

_NO_NUMBER: Final = "not a number"
_SHOWN: Final = {"withheld": "anonymous", "invalid": "sales"}
# The facts that follow from the configuration.
_CONFIGURED: Final = ("number", "controller", "campaign", "caller_id")
# Of each kind of entry: the letter of its new ids.
_ENTRIES: Final = {"consents": "c", "contracts": "k", "requests": "r"}


def write_case(record: Record, calls: ConfiguredCalls, law: Law) -> str:
    """Return the case as YAML. `law` is that of the decision.

    Raises `CaseFault` if the configuration no longer has the campaign, or if the case would not give the recorded decision.
    """
    facts = record.facts
    to = example_number(facts.number)
    shown = record.caller_id or _SHOWN.get(facts.caller_id.form) or example_number(Number(kind="fixed", region=record.country))  # fmt: skip
    campaign = facts.campaign.id
    call = calls.call(Call(to=to, from_=shown, campaign=campaign, call_type=facts.call_type))
    ids = {
        entry.id: f"{letter}{place}"
        for kind, letter in _ENTRIES.items()
        for place, entry in enumerate(getattr(facts.known, kind), 1)
    }
    written: dict[str, Any] = {"zones": [place.zone for place in facts.places], "call_type": facts.call_type}
    written |= {name: _changed(call.facts[name], getattr(facts, name)) for name in _CONFIGURED}
    written = {name: value for name, value in written.items() if value and value != call.facts[name]}
    written |= _stored(facts, ids)
    decision = record.decision
    want: dict[str, Any] = {"decision": verdict(decision)}
    if decision.allow:
        kind, _, id_ = decision.basis.partition(":")
        want["basis"] = f"{kind}:{ids.get(id_, id_)}" if id_ else kind
    else:
        want["reasons"] = [reason.code for reason in decision.reasons]
    case = {
        "about": f"A recorded call of {campaign} gets the same answer",
        "at": rfc3339(record.at),
        "campaign": campaign,
        "to": to,
        "from": shown,
        "facts": written,
        "want": want,
    }
    (again,) = expand(msgspec.convert(case, WrittenCase), CaseBase(), calls, "")
    _, problems = checked = check_cases([again], lambda _: law)
    if problems or checked[0][0].differences:
        raise CaseFault("", "; ".join(problems or checked[0][0].differences))
    return yaml.safe_dump([case], sort_keys=False, allow_unicode=True, width=120)


def example_number(number: Number) -> str:
    """Return the example number of a region that is most like `number`, never one from a record."""
    if number.kind == "invalid":
        return _NO_NUMBER
    found = phone.examples(number.region)
    same = [parsed for parsed in found if parsed.kind == number.kind]
    return (same or found)[0].e164 if found else _NO_NUMBER


def _stored(facts: Facts, ids: dict[str, str]) -> dict[str, Any]:
    """Return what is held about the number, with new ids and without references to people or files."""
    known = structs.replace(
        facts.known,
        revocations=tuple(structs.replace(stop, seq=place) for place, stop in enumerate(facts.known.revocations, 1)),
        attempts=tuple(structs.replace(attempt, decision=f"a{place}", basis=_renamed(attempt.basis, ids)) for place, attempt in enumerate(facts.known.attempts, 1)),
        wrong_numbers=tuple(structs.replace(report, seq=place, decision="") for place, report in enumerate(facts.known.wrong_numbers, 1)),
        objections=tuple(structs.replace(item, consent=ids.get(item.consent, "")) for item in facts.known.objections),
    )  # fmt: skip
    registries = tuple(structs.replace(answer, consultation="", snapshot="") for answer in facts.registries)
    data = msgspec.to_builtins({"listings": facts.listings, "registries": registries, "known": known})
    for kind in _ENTRIES:
        for entry in data["known"].get(kind, ()):
            entry["id"] = ids[entry["id"]]
    data["known"].pop("seq", None)
    plain: dict[str, Any] = {name: _plain(value) for name, value in data.items() if value}
    return plain


def _renamed(basis: str, ids: dict[str, str]) -> str:
    kind, colon, id_ = basis.partition(":")
    return f"{kind}{colon}{ids.get(id_, 'x')}" if colon else basis


def _changed(configured: dict[str, Any], held: Struct) -> dict[str, Any]:
    """Return the fields that are other ones in the configuration of today."""
    today = structs.asdict(msgspec.convert(configured, type(held)))
    changed = {name: value for name, value in structs.asdict(held).items() if value != today[name]}
    return {name: _plain(msgspec.to_builtins(value)) for name, value in changed.items()}


def _plain(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _plain(item, key) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return rfc3339(value) if name in INSTANTS and type(value) is int and value else value
