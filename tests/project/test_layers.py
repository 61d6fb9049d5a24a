"""Tests of project rules that no linter checks: where libraries, clocks and broad excepts may be used; sizes; names.

import-linter checks the direction of imports (`make lint`; contracts in pyproject.toml).
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

import pytest

from dialgate.store import Attempts, Documents, Ledger, Shared
from tests.support.paths import ROOT

SOURCES = sorted([*(ROOT / "dialgate").rglob("*.py"), *(ROOT / "registry_sync").rglob("*.py")])
TEXTS = {path: path.read_text("utf-8") for path in SOURCES}

# The only modules outside a package.
OUTSIDE_PACKAGES = {"__init__", "__main__", "app", "client"}

# A library is imported in one place only, so that it can be replaced there.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "aiohttp": (
        "dialgate.interfaces",
        "dialgate.client",
        "dialgate.cluster.peers",
        "dialgate.tools.demo",
        "registry_sync.sources.https",
    ),
    "asyncssh": ("registry_sync.sources.sftp",),
    "phonenumbers": ("dialgate.core.phone", "dialgate.core.numbering_plan"),
    "sqlite3": ("dialgate.store",),
    "redis": ("dialgate.store",),
    "fpdf": ("dialgate.report.pdf",),
    "holidays": ("dialgate.core.local_time",),
    "dateutil": ("dialgate.core.day_sets",),
    "httptools": ("dialgate.interfaces.http.check_fast_path",),
    "jinja2": ("dialgate.runtime.templates",),
    "python_calamine": ("dialgate.lists.spreadsheet",),
    "xlsxwriter": ("dialgate.ledger.scrub_files",),
    "zoneinfo": ("dialgate.core.local_time",),
    "cryptography": (
        "dialgate.core.decision_ids",
        "dialgate.crypto",
        "dialgate.decision_log.timestamps",
        "dialgate.interfaces.http.certificates",
        "dialgate.tools.verifier",
    ),
    "pyarrow": ("dialgate.decision_log.archive",),
    "obstore": ("dialgate.shipping.target",),
    "rfc3161_client": ("dialgate.decision_log.timestamps",),
    "rich": ("dialgate.runtime.terminal", "dialgate.interfaces.cli.demo"),
    "opentelemetry": ("dialgate.observability.traces",),
    "typer": ("dialgate.interfaces.cli", "dialgate.runtime.command_group", "registry_sync"),
}
BROAD_EXCEPTS = {
    "dialgate.core.decision": 1,
    "dialgate.app": 1,
    "dialgate.gate.gate": 1,
    "dialgate.report.mailing": 1,  # one report that fails must not stop the others
}
CLOCKS = re.compile(r"\btime\.time(_ns)?\(|\bdatetime\.now\(|\bdate\.today\(|\.utcnow\(")
CLOCK_READERS = {"dialgate.runtime.clock", "dialgate.gate.gate"}
Node = TypeVar("Node", bound=ast.AST)
VAGUE = re.compile(r"util|helper|manager|common|misc|impl$", re.IGNORECASE)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def trees() -> dict[str, ast.Module]:
    """Return the syntax tree of each module."""
    return {name_of(path): ast.parse(text) for path, text in TEXTS.items()}


def nodes(*kinds: type[Node]) -> Iterator[tuple[str, Node]]:
    """Yield the module name and the node for each syntax-tree node of the given kinds."""
    for name, tree in trees().items():
        yield from ((name, node) for node in ast.walk(tree) if isinstance(node, kinds))


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def violations(name: str, source: str, tree: ast.AST) -> list[str]:
    found = [
        f"{name} must not import {library}"
        for target in imports(tree)
        for library, homes in ONLY_IN.items()
        if within(target, library) and not any(within(name, home) for home in homes)
    ]
    if CLOCKS.search(source) and name not in CLOCK_READERS:
        found.append(f"{name} reads the clock")
    return found


def test_libraries_and_the_clock_are_used_only_in_listed_modules() -> None:
    found = [
        violation
        for (name, tree), source in zip(trees().items(), TEXTS.values(), strict=True)
        for violation in violations(name, source, tree)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("dialgate.gate.gate", "import aiohttp"),
        ("dialgate.gate.facts", "import phonenumbers"),
        ("dialgate.gate.upkeep", "now = time.time()"),
    ],
)
def test_a_library_outside_its_module_is_reported(name: str, source: str) -> None:
    assert violations(name, source, ast.parse(source))


def private_uses(cls: ast.ClassDef) -> list[str]:
    """Return the private attributes that a class uses on `self`."""
    return [
        node.attr
        for node in ast.walk(cls)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
        if node.attr.startswith("_")
    ]


def test_subclasses_of_aiohttp_classes_use_only_public_names() -> None:
    extending = [
        node
        for _, node in nodes(ast.ClassDef)
        if any(ast.unparse(base).startswith(("web.", "aiohttp.", "Abstract")) for base in node.bases)
    ]
    assert {cls.name for cls in extending} >= {"Handler"}
    assert {cls.name: private_uses(cls) for cls in extending if private_uses(cls)} == {}
    assert private_uses(cast("ast.ClassDef", ast.parse("class A(B):\n def f(self): self._c()").body[0])) == [
        "_c"
    ]


def test_modules_are_in_packages() -> None:
    assert {path.stem for path in (ROOT / "dialgate").glob("*.py")} == OUTSIDE_PACKAGES


def test_every_package_has_a_docstring() -> None:
    packages = [name_of(path) for path in SOURCES if path.name == "__init__.py"]
    assert [name for name in packages if not ast.get_docstring(trees()[name])] == []


def test_broad_excepts_are_only_in_listed_modules() -> None:
    broad = {"Exception", "BaseException"}
    found = Counter(
        name
        for name, node in nodes(ast.ExceptHandler)
        if node.type is None or ast.unparse(node.type) in broad
    )
    assert found == BROAD_EXCEPTS


def test_names_contain_no_vague_words() -> None:
    names = [name.rpartition(".")[2] for name in trees()] + [node.name for _, node in nodes(ast.ClassDef)]
    assert [name for name in names if VAGUE.search(name)] == []


def test_functions_are_short_and_files_have_one_subject() -> None:
    functions = [node for _, node in nodes(ast.FunctionDef, ast.AsyncFunctionDef)]
    lengths = sorted((node.end_lineno or 0) - node.lineno + 1 for node in functions)
    assert lengths[len(lengths) // 2] <= 10
    assert lengths[len(lengths) * 9 // 10] <= 30
    assert lengths[-1] <= 60
    long = {name_of(path) for path, text in TEXTS.items() if len(text.splitlines()) > 400}
    assert long <= {
        "dialgate.store.sqlite.store",  # one class that implements a whole Protocol
        "dialgate.core.model",  # every stored value, and the reason codes
        "dialgate.tools.verifier.verify_evidence",  # a single file that is given to authorities
    }


@pytest.mark.parametrize("protocol", [Attempts, Ledger, Documents, Shared])
def test_protocols_of_the_store_are_small(protocol: type) -> None:
    methods = {name for name in dir(protocol) if not name.startswith("_")}
    assert 1 < len(methods) <= 15


def test_the_path_of_a_call_and_the_ledger_share_only_the_read() -> None:
    public = [{name for name in dir(protocol) if not name.startswith("_")} for protocol in (Attempts, Ledger)]
    assert public[0] & public[1] == {"read"}


def test_no_test_sleeps_or_mocks() -> None:
    banned = re.compile(r"\bsleep\((?!0\))|\bsleep [\d{$]|Mock\(|\bpatch\(|monkeypatch")
    this = Path(__file__)
    # They kill a gate at a random moment, pace a load on real servers, or poll programs of a pod until they are ready.
    waiting = {"test_crash.py", "test_kubernetes.py", "test_stack.py"}
    found = [
        f"{path.name}:{number}"
        for path in (ROOT / "tests").rglob("*.py")
        if path != this
        and path.name not in waiting
        and path.parent.name != "bench"  # a benchmark is not a test
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if banned.search(line)
    ]
    assert found == []
