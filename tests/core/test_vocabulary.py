"""Every key of the country vocabulary, by cases under small made-up laws.

A file of `tests/cases/vocabulary/` holds a `law`, the `facts` that its cases share, and `cases`. A case may change the law.
"""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from dialgate.core.decision import decide
from dialgate.core.law import parse_law
from dialgate.core.local_time import rfc3339
from dialgate.core.model import Facts
from tests.support.casebook import BASE, FOLDER, Wanted, build_facts, instant, load_yaml, merged, plain
from tests.support.citations import matches


class VocabularyCase(Struct, forbid_unknown_fields=True, kw_only=True):
    about: str
    at: str
    want: Wanted
    facts: dict[str, Any] = {}
    law: dict[str, Any] = {}


class VocabularyFile(Struct, forbid_unknown_fields=True, kw_only=True):
    law: dict[str, Any]
    cases: list[VocabularyCase]
    facts: dict[str, Any] = {}


def _read(path: Path) -> list[Any]:
    file = msgspec.convert(plain(load_yaml(path)), VocabularyFile)
    return [pytest.param(file, case, id=f"{path.stem}: {case.about}") for case in file.cases]


CASES = [case for path in sorted((FOLDER / "vocabulary").glob("*.yaml")) for case in _read(path)]


@pytest.mark.parametrize(("file", "case"), CASES)
def test_a_key_has_its_meaning(file: VocabularyFile, case: VocabularyCase) -> None:
    law = parse_law(merged(file.law, case.law))
    facts = build_facts(merged(merged(BASE, file.facts), case.facts), case.at, law)
    decision = decide(facts, law)
    want = case.want
    assert ("allow" if decision.allow else "deny", [reason.code for reason in decision.reasons]) == (
        want.decision,
        want.reasons,
    ), decision.reasons
    kinds = {name: type(outcome).__name__.lower() for name, outcome in decision.outcomes.items()}
    assert {name: kinds[name] for name in want.outcomes} == want.outcomes
    carried = {reason.code: f"{reason.severity} {reason.law}" for reason in decision.reasons}
    assert want.cites.keys() <= carried.keys()
    assert all(matches(carried[code], cited) for code, cited in want.cites.items()), carried
    assert want.basis is None or decision.basis == want.basis
    for wanted, given in ((want.valid_until, decision.valid_until), (want.not_before, decision.not_before)):
        assert wanted is None or given == (instant(wanted) if wanted else 0), rfc3339(given)
    stored = msgspec.json.decode(msgspec.json.encode(facts), type=Facts)
    assert decide(stored, law) == decision
