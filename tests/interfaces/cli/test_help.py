"""`dialgate --help` imports no command, because importing all of them takes seconds."""

import re
import subprocess
import sys

import pytest

from dialgate.interfaces.cli import main

# Everything that a listing of the commands may import, in addition to the standard library.
NEEDED = {"annotated_doc", "dialgate", "shellingham", "typer"}
MODULES = {
    "dialgate", "dialgate.__main__", "dialgate.interfaces", "dialgate.interfaces.cli", "dialgate.interfaces.cli.main",
    "dialgate.interfaces.workers", "dialgate.interfaces.workers.held_signals", "dialgate.runtime", "dialgate.runtime.extras",
}  # fmt: skip


def imported(*words: str) -> set[str]:
    """Run `dialgate WORDS`, and return the modules that it imports."""
    program = (
        "import atexit, sys; before = set(sys.modules); sys.argv = ['dialgate', *sys.argv[1:]]\n"
        "atexit.register(lambda: print('\\0', *(set(sys.modules) - before)))\n"
        "from dialgate.__main__ import main; main()"
    )
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return set(done.stdout.partition("\0")[2].split())


def test_help_imports_only_what_lists_the_commands() -> None:
    modules = imported("--help")
    assert {name for name in modules if name.startswith("dialgate")} == MODULES
    packages = {name.partition(".")[0] for name in modules}
    assert (
        packages - sys.stdlib_module_names - {"org"} == NEEDED
    )  # copy.py tries to import `org.python` of Jython


@pytest.mark.parametrize("name", main.COMMANDS)
def test_each_command_has_a_line_that_fits(name: str) -> None:
    _, line = main.COMMANDS[name]
    assert re.fullmatch(r"[A-Z].{9,63}\.", line), (
        "one sentence that fits into 80 columns beside the longest name"
    )
