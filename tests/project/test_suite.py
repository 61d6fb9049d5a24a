"""Tests of the test suite: CI fails on a skipped test, every test has a time limit and asserts something."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LONG
from tests.support.paths import ROOT

SKIPPED = """
import pytest

@pytest.fixture
def absent():
    pytest.skip("no such program")

def test_fixture(absent): ...

@pytest.mark.skipif(True, reason="no such program")
def test_mark(): ...

@pytest.mark.parametrize("each", [])
def test_nothing(each): ...

@pytest.mark.xfail(reason="known", strict=True)
def test_expected(): raise AssertionError

def test_other(): ...
"""
SKIPPED_MODULE = """
import pytest

pytest.importorskip("no_such_module")
"""


def run(folder: Path, *words: str, ci: bool = True, **modules: str) -> tuple[int, str]:
    """Run pytest on `modules` with the settings of this project and the hooks of tests/support/skips.py."""
    folder.joinpath("conftest.py").write_text("from tests.support.skips import *\n")
    for name, text in modules.items():
        folder.joinpath(f"test_{name}.py").write_text(text)
    environment = {name: value for name, value in os.environ.items() if name not in {"CI", "PYTEST_ADDOPTS"}}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "-p", "no:randomly", *words, folder],
        cwd=ROOT, env=environment | ({"CI": "true"} if ci else {}), capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("ci", "code", "wanted"),
    [
        (True, pytest.ExitCode.TESTS_FAILED, "1 passed, 1 xfailed, 4 errors"),
        (False, pytest.ExitCode.OK, "1 passed, 4 skipped, 1 xfailed"),
    ],
)
def test_a_skipped_test_is_an_error_in_ci(tmp_path: Path, ci: bool, code: int, wanted: str) -> None:
    status, output = run(
        tmp_path, "--continue-on-collection-errors", ci=ci, skipped=SKIPPED, module=SKIPPED_MODULE
    )
    assert status == code
    assert wanted in output
    assert ("no such program\nWith CI set, a skipped test is a failure." in output) is ci


def test_every_test_has_a_limit(pytestconfig: pytest.Config) -> None:
    limit = float(pytestconfig.getoption("timeout") or pytestconfig.getini("timeout"))
    assert 0 < limit < float(pytestconfig.getini("faulthandler_timeout"))
    assert pytestconfig.getini("timeout_method") == "signal"
    assert pytestconfig.getini("faulthandler_exit_on_timeout")


def test_every_file_listed_as_slow_exists() -> None:
    assert set(LONG) - {path.stem for path in (ROOT / "tests").rglob("test_*.py")} == set()
    assert len(set(LONG)) == len(LONG)


@pytest.mark.parametrize(("ci", "code"), [("true", 2), ("", 0)])
def test_missing_packages_fail_in_ci(tmp_path: Path, ci: str, code: int) -> None:
    Path(tmp_path, "apt-get").symlink_to("/bin/false")
    environment = os.environ | {"CI": ci, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["make", "-s", "system", "SYSTEM=make no-such-package"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == code
    assert "could not install no-such-package; install these yourself" in done.stderr


# They fail by a crash or by a timeout.
WITHOUT_ASSERTION = {"test_a_cancelled_request_delays_no_other"}


def checks(node: ast.AST) -> bool:
    """Return whether a node is an assertion, expects an exception or is a Playwright expectation."""
    return isinstance(node, ast.Assert) or (
        isinstance(node, ast.Call) and find_callee(node) in {"raises", "warns", "expect"}
    )


def find_callee(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def test_every_test_asserts_something_itself_or_by_a_function_of_the_suite() -> None:
    """Called functions are matched by name only: a test passes if any function with the same name asserts."""
    checking: set[str] = set()
    calls: dict[tuple[str, str], set[str]] = {}
    for path in (ROOT / "tests").rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                nodes = list(ast.walk(function))
                calls[path.name, function.name] = {
                    find_callee(node) for node in nodes if isinstance(node, ast.Call)
                }
                checking |= {function.name} if any(map(checks, nodes)) else set()
    while more := {name for (_, name), named in calls.items() if named & checking} - checking:
        checking |= more
    tests = {name for file, name in calls if file.startswith("test_") and name.startswith("test_")}
    assert len(tests) > 1000
    assert tests - checking == WITHOUT_ASSERTION
