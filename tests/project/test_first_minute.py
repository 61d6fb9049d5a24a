"""Tests of the quick start: `make run`, the two calls of the README and `dialgate demo`, on a pseudo-terminal."""

import ast
import asyncio
import json
import os
import re
import shlex
import sys
import tomllib
from pathlib import Path
from shutil import copy
from typing import Any

import pytest

from tests.project.test_docs import PAGES, README, blocks
from tests.support import moving_picture, world
from tests.support.commands import run_command
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.running_gate import program
from tests.support.terminal import PATIENCE, copy_clone, on_a_terminal


@pytest.fixture
def clone(tmp_path: Path) -> tuple[Path, int]:
    """Return the folder of a copied clone, and its port."""
    folder = tmp_path / "clone"
    return folder, copy_clone(folder)


def readme_commands(port: int) -> list[str]:
    """Return the commands of the section "Run it", starting with `make run`, with the port replaced."""
    section = README.partition("\n## Run it\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    lines = re.sub(r"\\\n\s*|#.*\n", "", "".join(blocks)).splitlines()
    return [line.replace("localhost:8080", f"localhost:{port}") for line in lines if line]


def readme_answers() -> list[dict[str, Any]]:
    return [json.loads(text) for text in re.findall(r"```json\n(\{\"decision\".*?)\n```", README, re.DOTALL)]


async def shell(line: str, folder: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", line, cwd=folder, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    return await process.wait(), out.decode()


async def test_make_run_and_the_commands_of_the_readme_and_of_the_guides(clone: tuple[Path, int]) -> None:
    """One gate runs the commands of the README first, and then those of the guides."""
    folder, port = clone
    prepare_guides(folder)
    make_run, *commands = readme_commands(port)
    # pip has already built the environment; the rest of the target runs.
    words = [*make_run.split(), "--old-file=.venv/installed"]
    async with on_a_terminal(words, folder) as terminal:
        await terminal.until(rf"ready .*127\.0\.0\.1:{port}|\"event\":\"ready\"")
        await check_readme(folder, *commands)
        await run_guides(folder, port)
        terminal.type("\x03")
        await terminal.wait_for_end()
        assert "stopped" in terminal.shown
        assert "Traceback" not in terminal.shown


async def check_readme(folder: Path, allowed: str, refused: str, verify: str) -> None:
    """The commands of the README's moving picture still show the same words."""
    picture = moving_picture.draw(await moving_picture.record(folder))
    committed = moving_picture.PICTURE.read_text("utf-8")
    assert moving_picture.words(picture) == moving_picture.words(committed), "run `make pictures`"
    answers = []
    for line, shown in zip((allowed, refused), readme_answers(), strict=True):
        status, text = await shell(line, folder)
        assert status == 0, text
        answers.append(answer := json.loads(text))
        assert answer.keys() == shown.keys()
        assert [answer[key] for key in ("decision", "to", "from")] == [
            shown[key] for key in ("decision", "to", "from")
        ]
    assert [answer["decision"] for answer in answers] == ["allow", "deny"]
    (reason,) = answers[1]["reasons"]
    assert reason["code"] == "registry.listed"
    status, text = await shell(verify, folder)
    assert status == 0, text


def test_the_moving_picture_is_small_and_on_the_front_page() -> None:
    assert moving_picture.PICTURE.stat().st_size < 1_000_000
    assert f"]({moving_picture.PICTURE.relative_to(ROOT)})" in "\n".join(README.splitlines()[:25])


# The pages whose commands run on the sample gate, in this order.
RUNNABLE = (
    "tutorials/first-call", "how-to/load-a-call-list", "how-to/use-the-http-api", "how-to/answer-a-person", "how-to/replay-a-draft-law",
    "how-to/record-a-stop", "how-to/handle-wrong-numbers", "how-to/prove-caller-ids", "how-to/prove-the-log", "how-to/retain-and-destroy",
    "how-to/answer-an-authority", "how-to/make-a-report", "how-to/back-up-and-restore", "how-to/change-the-configuration",
    "how-to/supervisor-day", "how-to/officer-desk", "how-to/connect-a-crm", "how-to/pause-a-campaign", "how-to/rotate-keys",
)  # fmt: skip
# Commands that need something the sample lacks: another machine, a packed file or the name of a key; or that never end.
ELSEWHERE = (
    "make run", "curl -sN", "dialgate caller-id probe", "dialgate key disable", "duckdb", "(cd .data/log && sha256sum", "python verify_evidence", "rm ", "sudo systemctl",
)  # fmt: skip


def page_commands(page: str, port: int) -> list[str]:
    """Return the commands of a page, adapted to the clone and its port."""
    text = "".join(blocks(PAGES[f"docs/{page}.md"], "sh"))
    lines = re.sub(r"\\\n\s*|#.*\n", "", text).splitlines()
    lines = [line for line in lines if line and not line.startswith(ELSEWHERE)]
    clone = {
        "localhost:8080": f"localhost:{port}",
        "curl -s ": "curl -s --fail-with-body ",
        "/mnt/elsewhere/": "elsewhere-",
    }
    for written, here in clone.items():
        lines = [line.replace(written, here) for line in lines]
    return [re.sub(r"^(?=(?:dialgate|registry-sync) )", ".venv/bin/", line) for line in lines]


async def run_line(line: str, folder: Path) -> tuple[int, str]:
    """Run a command line. A plain `dialgate` or `registry-sync` command runs without a shell or a new interpreter."""
    program, *words = shlex.split(line)
    if program not in {".venv/bin/dialgate", ".venv/bin/registry-sync"} or re.search(r"[|<>$;&`~*]", line):
        return await shell(line, folder)
    done = await asyncio.to_thread(run_command, Path(program).name, *words, folder=folder)
    return done.code, done.out + done.err


def prepare_guides(folder: Path) -> None:
    """Write the files that the guides name, and the setting without which their evidence has no checkpoint yet."""
    with (folder / "config/dialgate.yaml").open("a") as settings:
        settings.write("checkpoint_seconds: 1\n")
    copy(folder / "config/countries/it.yaml", folder / "draft.yaml")
    sample, more = (folder / "config/sample/list.csv").read_text(), range(50)  # a preview needs a long list
    (folder / "list.csv").write_text(sample + "".join(f"+390612344{at:03}\n" for at in more))
    (folder / "asked.txt").write_text("+390612345678\n")
    (folder / "stops.csv").write_text("number\n+390612345680\n")


async def run_guides(folder: Path, port: int) -> None:
    lines = [(page, line) for page in RUNNABLE for line in page_commands(page, port)]
    assert len(lines) > 30
    answers = []
    for page, line in lines:
        status, text = await run_line(line, folder)
        while "evidence.missing" in text:  # until the next checkpoint, which is signed each second
            status, text = await run_line(line, folder)
        answers.append((page, line, status, text))
    failed = [line for _, line, status, _ in answers if status != 0]
    simulated = [line for line in failed if " simulate " in line]
    assert len(simulated) == 3  # of a mobile number without consent, of an enrolled one, and of a stopped one
    assert failed == simulated, [answer for answer in answers if answer[1] in failed]


@pytest.mark.torture  # CI runs the commands of the other guides, and checks those of every page
async def test_tutorial_leads_from_a_first_list_to_a_first_call(clone: tuple[Path, int]) -> None:
    folder, port = clone
    status, text = await shell("make sample --old-file=.venv/installed", folder)
    assert status == 0, text
    controller, *entries = blocks(PAGES["docs/tutorials/first-list.md"], "yaml")
    (folder / "config/controllers/zeta.yaml").write_text(controller)
    for name, entry in zip(("dialgate.yaml", "registries.yaml"), entries, strict=True):
        path, head = folder / "config" / name, entry.partition("\n")[0]
        assert path.read_text("utf-8").count(f"\n{head}\n") == 1
        path.write_text(path.read_text("utf-8").replace(f"\n{head}\n", f"\n{entry}"), "utf-8")
    key, check, *lines = page_commands("tutorials/first-list", port)
    for line in (key, check):
        status, text = await run_line(line, folder)
        assert status == 0, text
    answers: list[dict[str, Any]] = []
    async with (
        on_a_terminal(["make", "run", "--old-file=.venv/installed"], folder) as terminal,
        asyncio.timeout(PATIENCE),
    ):
        await terminal.until(rf"ready .*127\.0\.0\.1:{port}|\"event\":\"ready\"")
        for line in lines:
            status, text = await run_line(line, folder)
            while answers and "registry.unknown" in text:  # until the gate uses the new answers
                status, text = await run_line(line, folder)
            assert status == 0, text
            if line.startswith("curl"):
                answers.append(json.loads(text))
    assert [answer.get("reasons", [{"code": "allow"}])[0]["code"] for answer in answers] == [
        "registry.unknown", "allow", "registry.listed",
    ]  # fmt: skip


@pytest.mark.torture  # CI runs the demonstration twice, without a terminal
async def test_the_demo_shows_a_key_at_once_and_decisions_untouched(tmp_path: Path) -> None:
    port = free_port()
    words = program("demo", "--folder", str(tmp_path / "demo"), "--port", str(port), "--numbers", "5000")
    async with on_a_terminal(words, ROOT) as terminal:
        key = (await terminal.until(r"key: (\S+)"))[1]
        assert f"http://127.0.0.1:{port}/console" in terminal.shown
        assert "call lists" not in terminal.shown.partition(key)[0]
        # The live screen shows the key too, before the rows that 24 lines cannot hold. Then calls are allowed.
        await terminal.until(rf" calls · [^\r]*\r\n[^\r]*{key}[^\r]*\r\n[^\r]*Ctrl-C")
        await terminal.until(r"calls · [1-9]\d*% allowed")
        terminal.type("\x03")
        assert await terminal.wait_for_end() == 0
        assert "dialgate log search" in terminal.shown
        assert "Traceback" not in terminal.shown


async def test_a_command_asks_only_where_its_question_can_be_seen(clone: tuple[Path, int]) -> None:
    """A command whose error stream is captured, for example by another program, must not ask a question."""
    folder, _ = clone
    (folder / ".data").mkdir()
    (folder / ".data/sample.key.sha256").write_text("0" * 64)
    load = "list load config/sample/list.csv --id sample --campaign acme-fibre --basis directory --origin public_directory --collected-by me --collected-on 2026-11-02"
    async with world.serving(folder / "config/dialgate.yaml"):
        async with on_a_terminal(["sh", "-c", f"{' '.join(program())} {load} 2>errors"], folder) as terminal:
            assert await terminal.wait_for_end() == 0, (folder / "errors").read_text()
        async with on_a_terminal(
            program(*load.replace("sample -", "shown -").split(), "--yes"), folder
        ) as terminal:
            await terminal.until(r"sending list\.csv[^\n]*")
            await terminal.until(r"list\.csv is sent, the gate works on it[^\n]*0:00:0")
            assert await terminal.wait_for_end() == 0
        async with on_a_terminal(program("ledger", "export", "ledger.ndjson"), folder) as terminal:
            await terminal.until("exporting .* bytes")
        async with on_a_terminal(program(*load.replace("sample -", "again -").split()), folder) as terminal:
            with pytest.raises(AssertionError, match="it asks a question"):
                await terminal.until("never")
            terminal.type("n\n")
            assert await terminal.wait_for_end() == 1
        (folder / "two.csv").write_text("telefono;cellulare\n0612345678;3331234567\n")
        load = load.replace("config/sample/list.csv", "two.csv")
        line = f"{' '.join(program())} {load} 2>errors"
        async with on_a_terminal(["sh", "-c", line], folder) as terminal:
            assert await terminal.wait_for_end() == 1
        refused = (folder / "errors").read_text()
        assert "More than one column may hold the number: 1 (`telefono`), 2 (`cellulare`)." in refused
        assert "Set `column` (option --column), for example to 1" in refused
        async with on_a_terminal(program(*load.split()), folder) as terminal:
            await terminal.until(r"Which column has the number\? 1 \(`telefono`\), 2 \(`cellulare`\): \Z")
            terminal.type("3\n")  # asked again
            await terminal.until(r": 3\s+Which[^\n]*: \Z")
            terminal.type("2\n")
            with pytest.raises(AssertionError, match="2 cellulare"):
                await terminal.until("never")
            terminal.type("n\n")
            assert await terminal.wait_for_end() == 1


def _children(path: Path) -> list[ast.Call]:
    text = path.read_text("utf-8")
    if "subprocess" not in text:  # to parse all files takes a second
        return []
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    starts = {"subprocess.run", "subprocess.Popen", "asyncio.create_subprocess_exec"}
    return [call for call in calls if ast.unparse(call.func) in starts]


def test_no_child_process_inherits_a_terminal_to_ask_on() -> None:
    children = [
        (path, call)
        for name in ("dialgate", "registry_sync")
        for path in (ROOT / name).rglob("*.py")
        for call in _children(path)
    ]
    assert len(children) > 5
    bare = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path, call in children
        if not {"stdin", "input"} & {keyword.arg for keyword in call.keywords}
    ]
    assert bare == [], "pass stdin=DEVNULL, or a child process that asks a question waits for ever"


@pytest.mark.parametrize("name", ["dialgate", "registry_sync"])
async def test_ctrl_c_during_start_shows_no_traceback(tmp_path: Path, name: str) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", name, "--help", cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate()
    assert errors == b""
    assert process.returncode == 130


def test_the_installed_commands_start_there_too() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    assert scripts == {"dialgate": "dialgate.__main__:main", "registry-sync": "registry_sync.__main__:main"}
