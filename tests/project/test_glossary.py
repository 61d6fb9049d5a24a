"""The glossary matches the code: every name in it exists, and no module or class name has a word that it rules out."""

import ast
import pkgutil
import re
from pathlib import Path

from docs.reference_pages import exposed
from tests.support.paths import ROOT

GLOSSARY = (ROOT / "docs/reference/glossary.md").read_text("utf-8")
TERMS, RULED_OUT = GLOSSARY.split("## Words with another name")
MODULES = [path for package in ("dialgate", "registry_sync") for path in (ROOT / package).rglob("*.py")]


def rows(page: str) -> list[list[str]]:
    """Return the cells of every row of a page's tables, without the header rows."""
    lines = [
        line
        for line in page.splitlines()
        if line.startswith("| ") and not line.startswith(("| term", "| not"))
    ]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def words_of_names(path: Path) -> set[str]:
    """Return the words in the names of a module and of its classes, in lower case."""
    tree = ast.parse(path.read_text("utf-8"))
    names = [path.stem, *(node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]
    return {word.lower() for name in names for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def test_each_term_is_listed_once_with_a_meaning() -> None:
    terms = [term for term, *_ in rows(TERMS)]
    assert len(terms) > 60
    assert sorted(set(terms)) == sorted(terms)
    assert all(len(row) == 4 and row[2].endswith(".") for row in rows(TERMS))


def test_each_name_in_the_glossary_exists_in_the_code() -> None:
    named = set(re.findall(r"`(\w+(?:\.\w+)*)`", " ".join(row[3] for row in rows(TERMS))))
    metrics = {name for name in named if name.startswith("dialgate_")}
    assert metrics <= exposed().keys()
    assert len(named - metrics) > 50
    for name in named - metrics:
        pkgutil.resolve_name(name)  # raises where the module or the name is missing


def test_no_module_or_class_name_has_a_word_that_the_glossary_excludes() -> None:
    ruled_out = {word for word, _ in rows(RULED_OUT)}
    assert ruled_out
    assert {path.name: words for path in MODULES if (words := ruled_out & words_of_names(path))} == {}
