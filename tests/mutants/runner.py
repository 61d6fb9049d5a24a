"""The test runner for mutants. Each mutant is tried in a new process, with the tests that execute a changed line.

Tests are collected once. For a change in a function or a constant, the collecting process forks. The child replaces the
function's code or the constant and runs the tests, which takes milliseconds. A change in a class body or a type is
written to a copy of the repository, where pytest starts again. `source` also tries unlisted survivors in this copy. A
mutant is killed if a test fails, if the changed module cannot be imported, or if a timeout expires.
"""

import functools
import gc
import importlib
import itertools
import json
import math
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import coverage
import pytest

from tests.mutants.operators import Change

# Slow third-party imports, done once before the first fork.
LIBRARIES = (
    "aiohttp.web", "asyncssh", "cryptography.x509", "holidays.countries.italy", "msgspec", "numpy", "openpyxl", "phonenumbers",
    "prometheus_client", "redis.asyncio", "structlog", "typer", "uvloop", "yaml",
)  # fmt: skip
OPTIONS = (
    "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:xdist",
    "-W", "ignore::pytest.PytestAssertRewriteWarning",
)  # fmt: skip
SURVIVED, KILLED, UNTESTED = 0, 1, 2
TIME = "time"
# Timeouts of a quick test in seconds. After the first it is tried again, because the machine may have been busy.
_PATIENCE = (15.0, 60.0)
_STEP = struct.Struct("d")
_FAILED = ("FAILED ", "ERROR ")
# Caches that are not cleared: mutants of Python do not change YAML, and parsing it takes most of the time of a case.
_KEPT = {"law_data"}


class Outcome(NamedTuple):
    """The result for a mutant.

    `by` is the test that failed, `TIME` after a timeout, or the reason why no test ran. For a survivor, `tests` are the
    tests that execute the changed lines.
    """

    status: int
    by: str = ""
    seconds: float = 0.0
    tests: tuple[str, ...] = ()


def run_collected(
    files: list[str], changes: list[Change], root: Path, most_seconds: float = math.inf
) -> Iterator[tuple[Change, Outcome]]:
    """Collect the tests of `files` in a forked process, and try each change there.

    A change is tried with the first tests that together take at most `most_seconds`, and with at least one test.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        with os.fdopen(writer, "w") as out:
            _silence()
            pytest.main([*OPTIONS, *files], plugins=[_Forking(changes, root, out, most_seconds)])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as lines:
        finished = 0
        for finished, line in enumerate(lines, start=1):  # noqa: B007 - counted
            index, status, by, seconds, tests = json.loads(line)
            yield changes[index], Outcome(status, by, seconds, tuple(tests))
    os.waitpid(child, 0)
    if finished < len(changes):
        raise RuntimeError(
            f"only {finished} of {len(changes)} mutants were tried. Check that the tests pass without a mutant: {' '.join(files)}"
        )


class Copy:
    """A copy of the repository with one changed file at a time.

    The changed code also runs in the child processes of the tests.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self._root, self.folder = root, folder
        names = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            check=True,
            capture_output=True,
            text=True,
            cwd=root,
        ).stdout
        for name in filter(None, names.split("\0")):
            if (root / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / name, folder / name, follow_symlinks=False)
        for built in root.glob(
            "dialgate/native/*.so"
        ):  # ignored by git, but tests compare it with the fallback
            shutil.copy(built, folder / built.relative_to(root))

    def run(self, files: list[str], change: Change | None, seconds: float) -> Outcome:
        """Run the tests of `files` with the change applied, until one fails."""
        begun, written = (
            time.monotonic(),
            "1" if change else "",
        )  # a module restored within a second would look unchanged to the bytecode cache
        if change is not None:
            (self.folder / change.mutant.file).write_text(change.source)
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-x", "--tb=no", *OPTIONS, *files],
            cwd=self.folder,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": written, "TMPDIR": str(self._temporary())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            output = f"FAILED {TIME}"
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if change is not None:
            shutil.copy(self._root / change.mutant.file, self.folder / change.mutant.file)
        shutil.rmtree(self._temporary(), ignore_errors=True)
        failed = next((line.split(" ", 1)[1] for line in output.splitlines() if line.startswith(_FAILED)), "")
        return Outcome(
            SURVIVED if process.returncode == pytest.ExitCode.OK else KILLED,
            failed,
            time.monotonic() - begun,
        )

    def _temporary(self) -> Path:
        """Create a folder for temporary files of the tests."""
        folder = self.folder / ".temporary"
        folder.mkdir(exist_ok=True)
        return folder


def preload() -> None:
    for name in LIBRARIES:
        importlib.import_module(name)


# ---- processes -------------------------------------------------------------------------------------------------------


def _in_child(work: Callable[[int], int], seconds: float) -> Outcome:
    """Run `work` in a forked process with its own folder and process group, then kill the whole group.

    The process times out if it neither ends nor begins a step within `seconds`. `work` receives a descriptor, to which
    `begin_step` writes the timeout of the new step.
    """
    folder, begun = tempfile.mkdtemp(prefix="mutant-"), time.monotonic()
    steps, step = os.pipe()
    child = os.fork()
    if not child:
        status = KILLED
        with suppress(BaseException):
            os.setsid()
            os.environ["TMPDIR"] = tempfile.tempdir = folder
            _silence()
            status = work(step)
        os._exit(status)
    os.close(step)
    ended = _ends_in_time(child, steps, seconds)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _, code = os.waitpid(child, 0)
    os.close(steps)
    by = Path(folder, "failed").read_text() if Path(folder, "failed").exists() else ""
    shutil.rmtree(folder, ignore_errors=True)
    status = os.waitstatus_to_exitcode(code) if ended else KILLED
    return Outcome(
        status if status in (SURVIVED, UNTESTED) else KILLED,
        by or ("" if ended else TIME),
        time.monotonic() - begun,
    )


def _ends_in_time(child: int, steps: int, seconds: float) -> bool:
    process = os.pidfd_open(child)
    try:
        while True:
            ready, _, _ = select.select([process, steps], [], [], seconds)
            if process in ready or not ready:
                return bool(ready)
            written = os.read(steps, _STEP.size * 4096)
            if not written:  # the pipe is closed; the process is about to end
                return bool(select.select([process], [], [], seconds)[0])
            seconds = _STEP.unpack(written[-_STEP.size :])[0]
    finally:
        os.close(process)


def begin_step(step: int, seconds: float) -> None:
    os.write(step, _STEP.pack(seconds))


def _silence() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)


# ---- after collection ------------------------------------------------------------------------------------------------


class _Measured(NamedTuple):
    """Tests by file and line, and the duration of each test including its shared fixtures."""

    tests: dict[str, dict[int, set[str]]]
    seconds: dict[str, float]


class _Forking:
    """A pytest plugin that replaces the loop over the collected tests."""

    def __init__(self, changes: list[Change], root: Path, out: Any, most_seconds: float) -> None:
        self._changes, self._root, self._out, self._most_seconds = changes, root, out, most_seconds
        self._failed = ""
        self._patience = _PATIENCE[0]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        measured = self._measure(session)
        self._seconds = measured.seconds
        _clear_caches()
        gc.freeze()
        fame: dict[str, int] = {}
        for index, change in enumerate(self._changes):
            names = self._tests_of(change, measured)
            names.sort(
                key=lambda name: (
                    -fame.get(name, 0) if measured.seconds[name] < 1 else 0,
                    measured.seconds[name],
                )
            )
            together = itertools.accumulate(measured.seconds[name] for name in names)
            names = [
                name for name, sum_ in zip(names, together, strict=True) if sum_ <= self._most_seconds
            ] or names[:1]
            chosen = [items[name] for name in names]
            outcome = Outcome(UNTESTED, "no test executes it")
            for patience in _PATIENCE if chosen else ():
                self._patience = patience
                outcome = _in_child(functools.partial(self._run_changed, session, change, chosen), patience)
                if outcome.by != TIME:
                    break
            if outcome.by in items:
                fame[outcome.by] = fame.get(outcome.by, 0) + 1
            executing = [] if outcome.status == KILLED else names
            self._out.write(json.dumps([index, *outcome._replace(tests=tuple(executing))]) + "\n")
            self._out.flush()
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed = report.nodeid

    def _tests_of(self, change: Change, measured: _Measured) -> list[str]:
        lines = measured.tests.get(change.mutant.file, {})
        # A constant is read by functions of its module, which execute at any line, or by other modules.
        numbers: Iterable[int] = change.lines if change.in_body else lines
        names = set[str]().union(*(lines.get(line, ()) for line in numbers))
        return sorted(names if names or change.in_body else measured.seconds)

    def _run_changed(
        self, session: pytest.Session, change: Change, items: list[pytest.Item], step: int
    ) -> int:
        if not exchange(change, self._root):
            return UNTESTED
        return KILLED if self._run(session, items, step) else SURVIVED

    def _run(self, session: pytest.Session, items: list[pytest.Item], step: int) -> str:
        """Run the tests until one fails. Return its name, or an empty string."""
        session.config._tmp_path_factory._basetemp = Path(tempfile.mkdtemp(prefix="tests-"))  # type: ignore[attr-defined]
        for item, following in zip(items, [*items[1:], None], strict=True):
            begin_step(step, max(self._patience, self._patience / 4 * self._seconds[item.nodeid]))
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._failed:
                Path(tempfile.gettempdir(), "failed").write_text(self._failed)
                with suppress(BaseException):
                    session._setupstate.teardown_exact(None)
                break
        return self._failed

    def _measure(self, session: pytest.Session) -> _Measured:
        """Run every test once in a new process and record the lines that it executes. Skip tests that fail."""
        file = Path(tempfile.mkdtemp(prefix="measured-")) / "lines.json"
        _in_child(lambda _: self._write_measured(session, file), 1800)
        tests, seconds = json.loads(file.read_text())
        shutil.rmtree(file.parent)
        by_line = {
            name: {int(line): set(names) for line, names in lines.items()} for name, lines in tests.items()
        }
        return _Measured(by_line, seconds)

    def _write_measured(self, session: pytest.Session, file: Path) -> int:
        files = sorted({change.mutant.file for change in self._changes})
        watched = coverage.Coverage(
            data_file=None, include=[str(self._root / name) for name in files], config_file=False
        )
        caches = _caches()
        shared = _SharedFixtures(watched)
        session.config.pluginmanager.register(shared)
        seconds = {}
        watched.start()
        for item, following in zip(session.items, [*session.items[1:], None], strict=True):
            for cache in caches:
                cache.cache_clear()
            shared.test, shared.taken = item.nodeid, 0.0
            watched.switch_context(item.nodeid)
            begun, self._failed = time.monotonic(), ""
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            if not self._failed:
                seconds[item.nodeid] = time.monotonic() - begun - shared.taken
        watched.stop()
        seconds = {
            item.nodeid: seconds[item.nodeid] + shared.seconds(item)
            for item in session.items
            if item.nodeid in seconds
        }
        data, tests = watched.get_data(), {}
        for name in files:
            lines = data.contexts_by_lineno(str(self._root / name))
            tests[name] = {
                line: sorted(shared.users(contexts, session.items) & seconds.keys())
                for line, contexts in lines.items()
            }
        file.write_text(json.dumps([tests, seconds]))
        return 0


class _SharedFixtures:
    """A plugin that attributes the lines and time of a shared fixture to all tests that use it, not only to the first.

    `taken` counts the seconds spent in fixtures since the last reset.
    """

    def __init__(self, watched: coverage.Coverage) -> None:
        self._watched, self.test, self.taken = watched, "", 0.0
        self._seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[None]:  # noqa: ARG002 - the hook's own names
        if fixturedef.scope == "function":
            return (yield)
        self._watched.switch_context(f"fixture {fixturedef.argname}")
        begun = time.monotonic()
        try:
            return (yield)
        finally:
            self._watched.switch_context(self.test)
            self._seconds[fixturedef.argname] = time.monotonic() - begun
            self.taken += self._seconds[fixturedef.argname]

    def seconds(self, item: pytest.Item) -> float:
        """Return the duration of the shared fixtures of a test."""
        return sum(self._seconds.get(name, 0.0) for name in getattr(item, "fixturenames", ()))

    @staticmethod
    def users(contexts: Iterable[str], items: list[pytest.Item]) -> set[str]:
        names = set(contexts)
        fixtures = {name.removeprefix("fixture ") for name in names if name.startswith("fixture ")}
        if fixtures:
            names |= {
                item.nodeid for item in items if fixtures.intersection(getattr(item, "fixturenames", ()))
            }
        return names


def _caches() -> list[Any]:
    """Return the function caches of the project. A filled cache would keep later tests from executing lines."""
    return [
        value
        for name, module in list(sys.modules.items())
        if name.split(".")[0] in ("dialgate", "tests", "registry_sync")
        for value in list(vars(module).values())
        if isinstance(value, functools._lru_cache_wrapper) and value.__name__ not in _KEPT
    ]


def _clear_caches() -> None:
    for cache in _caches():
        cache.cache_clear()


# ---- apply a change --------------------------------------------------------------------------------------------------


def exchange(change: Change, root: Path) -> bool:
    """Apply a change to its module, which is already imported. Return whether the module is different now."""
    path = root / change.mutant.file
    module = sys.modules[change.mutant.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")]
    code = compile(change.source, str(path), "exec", dont_inherit=True)
    return _exchange_code(change, code, module) if change.in_body else _exchange_values(code, module)


def _exchange_code(change: Change, module_code: types.CodeType, module: types.ModuleType) -> bool:
    codes = {code.co_qualname: code for code in _codes(module_code)}
    code, found = codes.get(change.function), False
    for function in _functions(vars(module).values(), module.__name__):
        if (
            code is not None
            and function.__qualname__ == change.function
            and function.__code__.co_filename == module_code.co_filename
        ):
            if function.__code__.co_freevars != code.co_freevars:
                return False
            function.__code__, found = code, True
    return found


def _exchange_values(module_code: types.CodeType, module: types.ModuleType) -> bool:
    """Execute the changed module, and replace the constants that differ, including in modules that import them.

    Classes are not replaced: other modules would still use the old class, and instances of the new class would not be
    instances of the old one.
    """
    values = dict(vars(module))
    with suppress(Exception):  # a copy of the repository shows whether the module can be imported
        exec(module_code, values)
    found = False
    for name, value in values.items():
        before = vars(module).get(name)
        if isinstance(value, (type, types.FunctionType)) or name == "__builtins__" or value == before:
            continue
        for other in [module, *sys.modules.values()]:
            if getattr(other, name, None) is before and (other is module or _imports_from(other, module)):
                setattr(other, name, value)
                found = True
    return found


def _imports_from(importing: types.ModuleType, module: types.ModuleType) -> bool:
    file = getattr(importing, "__file__", None) or ""
    return file.endswith(".py") and f"from {module.__name__} import" in Path(file).read_text("utf-8")


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _codes(constant)


def _functions(values: Iterable[Any], module: str) -> Iterator[types.FunctionType]:
    """Yield every function in `values`, including those of classes, properties and decorators."""
    for value in list(values):
        match value:
            case types.FunctionType():
                yield value
                yield from _functions([getattr(value, "__wrapped__", None)], module)
            case staticmethod() | classmethod():
                yield from _functions([value.__func__], module)
            case property():
                yield from _functions([value.fget, value.fset], module)
            case functools.cached_property():
                yield from _functions([value.func], module)
            case functools._lru_cache_wrapper():
                yield from _functions([value.__wrapped__], module)
            case type() if value.__module__ == module:
                yield from _functions(vars(value).values(), module)
