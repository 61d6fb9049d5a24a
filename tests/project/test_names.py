"""Tests of names: a public class has a name of its own, so that a search finds one class and a reader needs no second look."""

import ast
from collections import defaultdict

from tests.support.paths import ROOT

# The verdict of a rule, and the answer to a client: the schema `Deny` of the API description.
SHARED = {"Deny"}


def test_a_public_class_name_occurs_once() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in (
        path for package in ("dialgate", "registry_sync") for path in (ROOT / package).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(places) > 500
    shared = {name: found for name, found in places.items() if len(found) > 1}
    assert shared.keys() == SHARED, shared
