"""The help of `dialgate` and `registry-sync` imports no command, because importing all of them takes seconds."""

import re
import subprocess
import sys

import pytest

from dialgate.interfaces.cli import main
from registry_sync import cli

# Everything that a listing of the commands may import, in addition to the standard library.
NEEDED = {"annotated_doc", "dialgate", "shellingham", "typer"}
MODULES = {
    "dialgate", "dialgate.__main__", "dialgate.core", "dialgate.core.refusal", "dialgate.interfaces", "dialgate.interfaces.cli",
    "dialgate.interfaces.cli.main", "dialgate.runtime", "dialgate.runtime.command_group", "dialgate.runtime.extras", "dialgate.runtime.garbage_collection",
    "dialgate.runtime.held_signals",
}  # fmt: skip
SYNC_MODULES = {
    "dialgate",
    "dialgate.runtime",
    "dialgate.runtime.command_group",
    "dialgate.runtime.garbage_collection",
}


def imported(package: str) -> set[str]:
    """Run a program with `--help`, and return the modules that the program imports."""
    program = (
        "import atexit, sys; before = set(sys.modules); sys.argv = [sys.argv[1], '--help']\n"
        "atexit.register(lambda: print('\\0', *(set(sys.modules) - before)))\n"
        f"from {package}.__main__ import main; main()"
    )
    command = [sys.executable, "-c", program, package]
    done = subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return set(done.stdout.partition("\0")[2].split())


@pytest.mark.parametrize(("package", "expected"), [("dialgate", MODULES), ("registry_sync", SYNC_MODULES)])
def test_help_imports_only_what_lists_the_commands(package: str, expected: set[str]) -> None:
    modules = imported(package)
    assert {name for name in modules if name.startswith("dialgate")} == expected
    packages = {name.partition(".")[0] for name in modules} - {"registry_sync"}
    assert (
        packages - sys.stdlib_module_names - {"org"} == NEEDED
    )  # copy.py tries to import `org.python` of Jython


@pytest.mark.parametrize("line", [line for _, line in (*main.COMMANDS.values(), *cli.COMMANDS.values())])
def test_each_command_has_a_line_that_fits(line: str) -> None:
    assert re.fullmatch(r"[A-Z].{9,63}\.", line), (
        "one sentence that fits into 80 columns beside the longest name"
    )
