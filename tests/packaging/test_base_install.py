"""Tests of the wheel and the sdist, and of the base wheel in a new environment.

`make package` builds, installs and runs it before it runs them; they need the package index.
"""

import asyncio
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from dialgate.core.model import DAY
from dialgate.core.phone import AREAS
from dialgate.runtime import extras
from dialgate.runtime.clock import wall_clock
from tests.packaging.phone_areas import FILE, tables, text, upstream
from tests.support import world
from tests.support.paths import ROOT
from tests.support.running_gate import serving
from tests.support.world import CLEAR, LISTED

pytestmark = pytest.mark.package
LIMIT = 150  # MB of site-packages
# With it, `python -m` imports no module from the current folder.
SAFE = {"PYTHONSAFEPATH": "1"}


def run(
    *words: str | Path, status: int = 0, env: Mapping[str, str] = os.environ, cwd: Path | None = None
) -> str:
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**env, **SAFE},
        cwd=cwd,
    )
    assert done.returncode == status, (words, done.stdout, done.stderr)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def programs() -> Path:
    """Return the folder of the programs that `make try` installed from the wheel in dist/."""
    return ROOT / "build/try/bin"


def test_the_base_is_small(programs: Path) -> None:
    """Files of the wheels; compiled modules come on top, at their first import or with pip's own compilation of all."""
    (packages,) = programs.parent.glob("lib/python*/site-packages")
    size = sum(path.lstat().st_blocks * 512 for path in packages.rglob("*") if path.suffix != ".pyc")
    print(f"base: {size >> 20} MB")  # noqa: T201 - shown by `pytest -s`
    assert size >> 20 <= LIMIT


def test_every_command_has_help_in_the_base(programs: Path) -> None:
    assert "Commands:" in run(programs / "dialgate", "--help")
    program = (
        "from typer import Context; from typer.main import get_group; from dialgate.interfaces.cli import main\n"
        "from dialgate.runtime.extras import MissingExtra; group = get_group(main.app); missing = []\n"
        "for name in main.COMMANDS:\n"
        "  try: group.get_command(Context(group), name)\n"
        "  except MissingExtra: missing.append(name)\n"
        "import registry_sync.cli; print(missing)"
    )
    assert run(programs / "python", "-c", program) == "[]\n"


def test_the_base_makes_a_configuration(programs: Path, tmp_path: Path) -> None:
    options = {
        "name": "Zeta Servizi S.r.l.", "contact": "privacy@zeta.example", "country": "IT", "campaign": "zeta-insurance",
        "purpose": "sale", "sector": "insurance", "call-type": "agent", "caller-id": "+390844654321", "dialer": "asterisk",
    }  # fmt: skip
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    run(programs / "dialgate", "init", tmp_path / "config", *words)
    said = run(programs / "dialgate", "config", "check", "--config", tmp_path / "config/dialgate.yaml")
    assert "The configuration is valid." in said
    assert "dialgate[archive]" in said


async def test_the_base_decides_calls_and_names_a_missing_extra(programs: Path, tmp_path: Path) -> None:
    config = world.write_folder(tmp_path)
    world.publish_answers(tmp_path / "data", {CLEAR: False, LISTED: True}, wall_clock() - DAY)
    book = tmp_path / "list.xlsx"
    sheet = Workbook()
    sheet.active.append(["number"])  # type: ignore[union-attr]  # a new workbook has a sheet
    sheet.save(book)
    dialgate = programs / "dialgate"
    async with serving(config, ["env", "PYTHONSAFEPATH=1", str(dialgate)]) as gate:
        await gate.post("/v1/lists", world.LIST)
        answers = [await check(gate, number) for number in (CLEAR, LISTED)]
        while "list.unknown" in str(answers):  # until the gate has taken up the list
            answers = [await check(gate, number) for number in (CLEAR, LISTED)]
        assert "registry.listed" in str(answers[1])
        query = {name: str(value) for name, value in world.LIST.items() if name != "numbers"}
        query |= {"id": "sheet", "campaigns": "acme-fibre"}
        headers = {"Content-Type": "text/csv"}
        async with gate.client.post(
            "/v1/lists", params=query, data=book.read_bytes(), headers=headers
        ) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (501, "extra.missing")
        await asyncio.to_thread(run, dialgate, "log", "verify", "--config", config)
        for words, extra in {
            ("log", "archive"): "archive",
            ("report", "--out", str(tmp_path / "report.pdf")): "reports",
        }.items():
            said = await asyncio.to_thread(run, dialgate, *words, "--config", str(config), status=2)
            assert said.startswith("extra.missing: ")
            assert f"pip install 'dialgate[{extra}]'" in said


def test_laws_are_shown_without_a_configuration(programs: Path, tmp_path: Path) -> None:
    assert "Italy" in run(programs / "dialgate", "country", "show", "IT", cwd=tmp_path)


@pytest.mark.parametrize(
    ("setting", "extra"),
    [
        ({"shipping": {"to": "s3://bucket/prefix"}}, "s3"),
        ({"traces": {"endpoint": "http://127.0.0.1:4318/v1/traces"}}, "otel"),
    ],
)
def test_the_check_of_a_configuration_names_the_extra_that_a_setting_needs(
    programs: Path, tmp_path: Path, setting: dict[str, Any], extra: str
) -> None:
    path = world.write_folder(tmp_path, **setting)
    said = run(programs / "dialgate", "config", "check", "--config", path, status=2)
    assert f"extra.missing: The setting `{next(iter(setting))}" in said
    assert f"dialgate[{extra}]" in said


def test_every_extra_is_missing_in_the_base(programs: Path) -> None:
    program = (
        "from dialgate.runtime import extras\n"
        "for extra in extras.MODULES:\n"
        "  try: extras.require(extra, 'A feature')\n"
        "  except extras.MissingExtra as missing: print(missing)"
    )
    wanted = [f"A feature needs an extra: run `pip install 'dialgate[{extra}]'`." for extra in extras.MODULES]
    assert run(programs / "python", "-c", program).splitlines() == wanted


async def check(gate: Any, number: str) -> dict[str, Any]:
    answer: dict[str, Any] = await gate.post(
        "/v1/check", {"campaign": "acme-fibre", "to": number, "from": world.CALLER, "call_id": number}
    )
    return answer


def test_the_same_files_give_the_same_wheel_and_sdist(tmp_path: Path) -> None:
    run("make", "-s", "dist", f"DIST={tmp_path}", cwd=ROOT)
    sums = (tmp_path / "SHA256SUMS").read_text("utf-8")
    assert re.fullmatch(r"\w{64}  dialgate-[^ ]+-py3-none-any\.whl\n\w{64}  dialgate-[^ ]+\.tar\.gz\n", sums)
    assert sums == (ROOT / "dist/SHA256SUMS").read_text("utf-8")
    run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=tmp_path)


def test_the_table_of_areas_is_that_of_phonenumbers_with_our_corrections() -> None:
    release = AREAS.version
    assert FILE.read_text("utf-8") == text(tables(upstream(release)), release), (
        "run `python -m tests.packaging.phone_areas`"
    )
