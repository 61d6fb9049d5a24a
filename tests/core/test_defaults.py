"""The defaults of stored structs and of country files.

Records and country files omit fields with a default value. A changed default would change the meaning
of the records and files that already exist.
"""

import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any, get_args

import pytest
from msgspec import NODEFAULT, Struct, structs

from dialgate.core import consent_state, day_sets, law, law_sections, model, periods

# All other fields with a default have an empty one: 0, False, None, an empty text or an empty list.
OTHERS: dict[ModuleType, dict[str, Any]] = {
    model: {
        "Campaign.known": True,
        "Campaign.purpose": "sale",
        "Campaign.call_type": "automated",
        "Campaign.callee": "consumer",
        "Campaign.stops": "all",
        "CallerId.kind": "unknown",
        "Attempt.result": "pending",
        "Deny.severity": "statute",
    },
    law: {},
    law_sections: {
        "Dated.severity": "statute",
        "Consents.counting": "rolling",
        "Consents.renewal": "none",
        "Relation.goods": "same",
        "Registry.counting": "rolling",
        "Registry.about": "opposition",
        "CallerIdClass.serves": get_args(model.Purpose),
        "CallerIds.country": "any",
        "CallerIds.holder": "any",
        "Limit.after": 1,
        "Limit.among": "controller",
        "Ratio.of": "abandoned",
    },
    day_sets: {},
    consent_state: {},
}


def defaults(module: ModuleType) -> Iterator[tuple[str, Any]]:
    for name, class_ in inspect.getmembers(module, inspect.isclass):
        if issubclass(class_, Struct) and class_.__module__ == module.__name__:
            for field in structs.fields(class_):
                is_own = field.name in class_.__annotations__
                if is_own and field.default is not NODEFAULT and not isinstance(field.default, Struct):
                    yield f"{name}.{field.name}", field.default


@pytest.mark.parametrize("module", OTHERS, ids=lambda module: module.__name__)
def test_a_default_never_changes(module: ModuleType) -> None:
    found = {name: default for name, default in defaults(module) if default}
    assert found == OTHERS[module]
    assert periods.Span() == (0, 0, 0)
