"""Tests of the client for Node.js. Node's own test runner runs them, against real gates and damaged answers."""

import asyncio
import os
import re
import shutil
from datetime import date
from pathlib import Path

import pytest

from tests.support import world
from tests.support.paths import ROOT
from tests.support.world import KEY, NOW, SCOPES

FOLDER = ROOT / "deploy/clients/node"
TESTER = world.client("tests", KEY, *SCOPES) | {"test_numbers": True}
# A declaration of the only function of Node.js that the client imports, in place of Node's types.
NODE_TYPES = 'declare module "node:crypto" { export function randomUUID(): string; }'
COMPILE = (
    "tsc --allowJs --checkJs --strict --declaration --emitDeclarationOnly --lib es2022,dom --target es2022 --module nodenext"
    " --outDir out dialgate.js node.d.ts"
)


async def run(folder: Path, *words: str, **environment: str) -> str:
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    process = await asyncio.create_subprocess_exec(
        *words, cwd=folder, env=os.environ | environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    return output


async def test_only_a_current_allow_of_the_gate_for_this_number_is_one(tmp_path: Path) -> None:
    async with (
        world.running(tmp_path / "enforcing", clients=[TESTER]) as gate,
        world.running(tmp_path / "shadow", shadow_until=date(2026, 11, 30)) as shadow,
    ):
        await world.load_list(gate)
        await world.load_list(shadow)
        output = await run(
            FOLDER, "node", "--test", "--test-reporter=tap",
            DIALGATE_URL=f"http://127.0.0.1:{gate.port}/", DIALGATE_SHADOW_URL=f"http://127.0.0.1:{shadow.port}",
            DIALGATE_KEY=KEY, DIALGATE_NOW=str(NOW),
        )  # fmt: skip
    counts = dict(re.findall(r"^# (pass|skipped) (\d+)$", output, re.MULTILINE))
    assert int(counts["pass"]) > 50
    assert counts["skipped"] == "0", output


@pytest.mark.torture  # installs TypeScript
async def test_the_types_are_those_of_the_code(tmp_path: Path) -> None:
    """`dialgate.d.ts` is what TypeScript generates from `dialgate.js`."""
    for name in ("dialgate.js", "package.json"):
        shutil.copy(FOLDER / name, tmp_path)
    (tmp_path / "node.d.ts").write_text(NODE_TYPES)
    await run(tmp_path, "npm", "install", "--no-audit", "--no-fund", "typescript@5.9.3")
    await run(tmp_path, "npx", *COMPILE.split())
    generated = (tmp_path / "out/dialgate.d.ts").read_text("utf-8")
    assert generated == (FOLDER / "dialgate.d.ts").read_text("utf-8")
