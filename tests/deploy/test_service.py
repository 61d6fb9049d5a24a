"""The gate as a service: `dialgate install` and the watchdog under a real systemd."""

import re

import pytest

from tests.support.booted_machine import needs_boot, run_session
from tests.support.paths import ROOT

UNITS = sorted(
    path.name for path in (ROOT / "deploy/systemd").iterdir() if path.suffix in {".service", ".timer"}
)
COMMANDS = ("dialgate", "registry-sync")

pytestmark = [pytest.mark.torture, needs_boot]  # half a minute


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what the administrator sees, by part."""
    script = (ROOT / "tests/deploy/service_session.sh").read_text("utf-8")
    _, *parts = re.split(
        r"^= (.*)\n", run_session(tmp_path_factory.mktemp("machine"), script), flags=re.MULTILINE
    )
    return dict(zip(parts[::2], parts[1::2], strict=True))


def states(part: str) -> dict[str, str]:
    """Return the state of each step."""
    return dict(re.findall(r"^(.*): (done|already done|to do)$", part, re.MULTILINE))


def test_install_does_each_step_and_a_second_run_none(session: dict[str, str]) -> None:
    steps = states(session["install"])
    files = {f"/etc/systemd/system/{name}" for name in UNITS} | {
        f"/usr/local/bin/{name}" for name in COMMANDS
    }
    assert {f"write {path}" for path in files} <= steps.keys()
    assert set(steps.values()) - {"already done"} == {"done"}
    assert steps["reload the units"] == "already done"  # systemd did not know any of them
    assert list(steps.values()).count("already done") == 1
    assert "Next:\n\n  systemctl start dialgate\n  dialgate " in session["install"]
    assert states(session["again"]) == dict.fromkeys(steps, "already done")
    assert session["again"].endswith("\nNothing to change.\n")


def test_a_dry_run_shows_the_steps_and_changes_nothing(session: dict[str, str]) -> None:
    """The session compares the files before and after it."""
    assert states(session["dry run"]).keys() == states(session["install"]).keys()
    assert set(states(session["dry run"]).values()) == {"to do", "already done"}


def test_the_gate_runs_ready_as_its_user_under_its_unit(session: dict[str, str]) -> None:
    assert session["service"].splitlines() == [
        "ActiveState=active", "StatusText=ready", "Type=notify", "enabled", "enabled", "active",
        "750 root:dialgate /etc/dialgate",
        "750 root:dialgate /etc/dialgate/config/controllers",
        "750 root:dialgate /etc/dialgate/config/countries",
        "640 root:dialgate /etc/dialgate/config/dialgate.yaml",
        "750 root:dialgate /etc/dialgate/config/policy",
        "640 root:dialgate /etc/dialgate/config/registries.yaml",
        "700 dialgate:dialgate /var/lib/dialgate",
        "600 dialgate:dialgate /var/lib/dialgate/keys.json",
    ]  # fmt: skip


def test_commands_need_neither_config_nor_user_and_record_who_ran_them(session: dict[str, str]) -> None:
    revoked, exported, actor, job = session["commands"].splitlines()
    assert revoked.startswith("revoked: entry 1.")
    assert exported.startswith("2 rows written")
    assert actor == '"anna"'
    assert '"parts":[]' in job


def test_systemd_restarts_a_frozen_gate(session: dict[str, str]) -> None:
    """The session stops the gate's process with SIGSTOP and waits for the next process to be ready."""
    timeout, stacks, decision = session["frozen"].splitlines()
    assert timeout == "dialgate.service: Watchdog timeout (limit 2s)!"
    assert stacks == "Fatal Python error: Aborted"
    assert "revocation.revoked" in decision


def test_undo_removes_the_installation_and_keeps_data_and_keys(session: dict[str, str]) -> None:
    first, second = session["undo"].split("Kept: ")[:2]
    steps = states(first)
    assert {
        "stop dialgate.service",
        "disable registry-sync.timer",
        f"remove /usr/local/bin/{COMMANDS[0]}",
    } <= steps.keys()
    assert "\nNothing to change.\n" in second
    kept = session["kept"].splitlines()
    assert {
        "/etc/dialgate/config/dialgate.yaml",
        "/var/lib/dialgate/keys.json",
        "/var/lib/dialgate/store.db",
    } <= {*kept}
    assert all(path.startswith(("/etc/dialgate/", "/var/lib/dialgate/")) for path in kept)


def test_data_is_deleted_only_after_its_path_was_typed(session: dict[str, str]) -> None:
    """The session checks that the machine has exactly the files that it had before."""
    cancelled, deleted = session["delete"].split("install.cancelled: nothing was removed\n")
    assert "proof for every call" in cancelled
    assert (
        states(deleted)["remove /var/lib/dialgate"] == states(deleted)["remove the user dialgate"] == "done"
    )


def test_refusals_say_what_to_do(session: dict[str, str]) -> None:
    user, option, hidden, systemd, *_ = session["refused"].splitlines()
    assert (
        user
        == "install.refused: only root can install a service. Run: sudo /opt/dialgate/bin/dialgate install"
    )
    assert option == "install.invalid: --delete-data: data is deleted only with --undo"
    assert hidden.startswith("install.refused: services cannot read /root/dialgate/bin. ")
    assert systemd.startswith("install.refused: systemd does not run here. ")
