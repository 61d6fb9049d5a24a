"""Clients generated from /openapi.json: they are generated without warnings and work with a gate.

The commands and programs are those of the how-to page.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.project.test_docs import PAGES, blocks
from tests.support import world
from tests.support.world import CLEAR, KEY

PAGE: Final = PAGES["docs/how-to/generate-a-client.md"]
FETCH, PYTHON_COMMANDS, TYPESCRIPT_COMMANDS = blocks(PAGE, "sh")
(PYTHON,) = blocks(PAGE, "python")
(TYPESCRIPT,) = blocks(PAGE, "ts")
COMPILE: Final = "npx tsc --strict --skipLibCheck --noEmitOnError --module nodenext --target es2022 --rewriteRelativeImportExtensions"


async def shell(script: str, folder: Path) -> str:
    """Run a script, and return its output. Fails if the script fails or warns."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", script,
        cwd=folder, env=os.environ | {"PATH": path}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    assert "warn" not in output.lower(), output
    return output


@pytest.mark.torture  # other tests compare the description with what the gate answers
async def test_generated_clients_check_calls_record_stops_and_read_errors(tmp_path: Path) -> None:
    async with world.running(tmp_path / "gate") as running:
        await world.load_list(running)
        address = f"127.0.0.1:{running.port}"
        folder = tmp_path / "client"
        (folder / ".data").mkdir(parents=True)
        (folder / ".data/sample.key").write_text(KEY)
        (folder / "example.py").write_text(PYTHON.replace("localhost:8080", address))
        (folder / "example.mts").write_text(
            TYPESCRIPT.replace("localhost:8080", address).replace("Bearer KEY", f"Bearer {KEY}")
        )
        await shell(FETCH.replace("localhost:8080", address), folder)
        _, _ = await asyncio.gather(
            shell(PYTHON_COMMANDS, folder), shell(f"{TYPESCRIPT_COMMANDS}\n{COMPILE} example.mts", folder)
        )
        assert f"call {CLEAR} until 2026-11-24T" in await shell("node example.mjs", folder)
        lines = (await shell("python example.py", folder)).splitlines()
        assert lines[0] == f"call {CLEAR} until 2026-11-24 09:15:00+00:00"
        assert lines[1].startswith("recorded 1 at 2026-")
        assert lines[2].startswith("not recorded: number.invalid ")
        assert await shell("node example.mjs", folder) == "do not call: [ 'revocation.revoked' ]\n"
        assert "do not call: revocation.revoked" in await shell("python example.py", folder)
