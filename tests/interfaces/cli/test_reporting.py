"""Tests that `reporting` gives each failure of a command its code, field and exit status."""

import json
from pathlib import Path

import pytest
import typer

from dialgate.config.content_store import NotKept
from dialgate.core.faults import Unavailable
from dialgate.core.refusal import Refused
from dialgate.interfaces.cli.options import Failure, reporting
from dialgate.runtime.extras import MissingExtra
from dialgate.runtime.terminal import MISUSE, NO
from dialgate.store import StoreUnavailable

FAILURES = [
    (Failure("clock.wrong", "Set it.", field="time", status=MISUSE), "clock.wrong", "time", MISUSE),
    (MissingExtra("xlsx", "Reading XLSX"), "extra.missing", "", MISUSE),
    (Refused("list.exists", "Send another `id`.", "id", 409), "list.exists", "id", NO),
    (StoreUnavailable("Redis does not answer."), "store.unavailable", "", NO),
    (Unavailable("The clock jumped."), "gate.unavailable", "", NO),
    (NotKept("config/archive/1: No such file"), "law.missing", "", NO),
]


@pytest.mark.parametrize(
    ("error", "code", "field", "status"), FAILURES, ids=[code for _, code, _, _ in FAILURES]
)
@pytest.mark.parametrize("as_json", [True, False])
def test_a_failure_has_its_code_and_exit_status(
    error: Exception, code: str, field: str, status: int, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as raised, reporting(as_json=as_json):
        raise error
    assert raised.value.exit_code == status
    shown = capsys.readouterr()
    if as_json:
        assert json.loads(shown.out)["error"] == {"code": code, "message": str(error), "field": field}
    else:
        assert shown.err.startswith(f"{code}: ")
        assert str(error) in shown.err


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "none"
    with pytest.raises(typer.Exit) as raised, reporting(as_json=False):
        missing.read_bytes()
    assert raised.value.exit_code == NO
    assert capsys.readouterr().err == f"file.unusable: {missing}: No such file or directory\n"
    with pytest.raises(BrokenPipeError), reporting(as_json=False):
        raise BrokenPipeError
