"""The gate as a service of systemd: what `dialgate install` changes on a machine, and how that is removed."""

import os
import pwd
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from msgspec import Struct

from dialgate.runtime.atomic_write import write_file

USER: Final = "dialgate"
SETTINGS: Final = Path("/etc/dialgate")
CONFIG: Final = SETTINGS / "config" / "dialgate.yaml"
DATA: Final = Path("/var/lib/dialgate")
_UNITS: Final = Path("/etc/systemd/system")
_COMMANDS: Final = Path("/usr/local/bin")
_SHIPPED: Final = Path(__file__).parents[1] / "resources" / "systemd"
_SHIPPED_PROGRAMS: Final = b"/opt/dialgate/bin"  # in the shipped files
# The units set ProtectHome and PrivateTmp.
_HIDDEN_FROM_SERVICES: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - not used as a folder


class InstallationStep(Struct, frozen=True):
    """One change of the machine. `is_done` returns whether the machine is already as `do` leaves it."""

    text: str
    is_done: Callable[[], bool]
    do: Callable[[], object]


class Installation(Struct, frozen=True):
    """The installation on this machine. `programs` is the folder with the commands `dialgate` and `registry-sync`.

    Steps depend on earlier ones, so do each before taking the next one. They raise `OSError` and `CalledProcessError`.
    """

    programs: Path = Path(sys.executable).parent

    def refusal(self) -> str:
        """Return why nothing can be installed here, or ""."""
        if os.geteuid() != 0:
            return f"only root can install a service. Run: sudo {self.programs}/dialgate install"
        if not shutil.which("systemctl") or not Path("/run/systemd/system").is_dir():
            return "systemd does not run here. Start `dialgate serve` with your service manager or in a container"
        if self.programs == _COMMANDS or not (self.programs / "dialgate").exists():
            return "dialgate is not in a virtual environment. Install it in one, for example in /opt/dialgate"
        for path in (self.programs, Path(sys.executable).resolve(), _SHIPPED):
            if any(map(path.is_relative_to, _HIDDEN_FROM_SERVICES)):
                return f"services cannot read {path}. Install dialgate and its Python elsewhere, for example in /opt/dialgate"
        return ""

    def steps(self, init_options: Iterable[str], units: Iterable[str]) -> Iterator[InstallationStep]:
        """Yield the steps of the installation. `units` are enabled and started."""
        yield InstallationStep(f"create the user {USER}", lambda: _ids() is not None, _add_user)
        yield _folder(SETTINGS, 0o750, is_own=False)
        yield _folder(DATA, 0o700)
        yield InstallationStep(f"write {CONFIG}", CONFIG.exists, partial(self._configure, init_options))
        for path, content, mode in self._files():
            is_written = partial(_contains, path, content)
            yield InstallationStep(f"write {path}", is_written, partial(_write, path, content, mode))
        yield from _reload()
        for unit in units:
            enable = partial(_systemctl, "enable", "--now", unit)
            yield InstallationStep(f"enable and start {unit}", partial(_is_enabled, unit), enable)

    def removal(self, *, with_data: bool) -> Iterator[InstallationStep]:
        """Yield the steps that undo the installation. Data, keys, configuration and user are removed only `with_data`."""
        for unit in _started():
            yield InstallationStep(f"stop {unit}", lambda: False, partial(_systemctl, "stop", unit))
        for unit in _enabled():
            yield InstallationStep(f"disable {unit}", lambda: False, partial(_systemctl, "disable", unit))
        for path, _, _ in self._files():
            yield InstallationStep(f"remove {path}", partial(_is_missing, path), path.unlink)
        yield from _reload()
        if with_data:
            for path in (SETTINGS, DATA):
                yield InstallationStep(
                    f"remove {path}", partial(_is_missing, path), partial(shutil.rmtree, path)
                )
            yield InstallationStep(
                f"remove the user {USER}", lambda: _ids() is None, partial(_run, "userdel", USER)
            )

    def _configure(self, init_options: Iterable[str]) -> None:
        """Run `dialgate init`, which prompts or lists the missing options, and let the user read the result."""
        folder = CONFIG.parent
        fixed = [f"{self.programs}/dialgate", "init", str(folder), "--container", "no", "--data", str(DATA)]
        # `init` asks the administrator on this terminal.
        subprocess.run([*fixed, *init_options], check=True, stdin=sys.stdin)  # noqa: S603 - a fixed command
        _, group = _ids() or (0, 0)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 0, group)
            path.chmod(0o750 if path.is_dir() else 0o640)

    def _files(self) -> Iterator[tuple[Path, bytes, int]]:
        """Yield the path, the content and the mode of each installed file."""
        for path in _shipped_units():
            yield _UNITS / path.name, self._adapted(path), 0o644
        for name in ("dialgate", "registry-sync"):
            yield _COMMANDS / name, self._adapted(_SHIPPED / "wrapper.sh"), 0o755

    def _adapted(self, path: Path) -> bytes:
        return path.read_bytes().replace(_SHIPPED_PROGRAMS, os.fsencode(self.programs))


# ---- user and folders ------------------------------------------------------------------------------------------------


def _ids() -> tuple[int, int] | None:
    """Return the ids of the user and of its group, or None if the user does not exist."""
    try:
        found = pwd.getpwnam(USER)
    except KeyError:
        return None
    return found.pw_uid, found.pw_gid


def _add_user() -> None:
    options = ("--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin")
    _run("useradd", *options, "--home-dir", str(DATA), USER)


def _folder(path: Path, mode: int, *, is_own: bool = True) -> InstallationStep:
    """Return the step that creates a folder, whose group is the user's. `is_own`: it belongs to the user, not to root."""

    def is_done() -> bool:
        if not path.is_dir() or (ids := _ids()) is None:
            return False
        found = path.stat()
        owner = ids if is_own else (0, ids[1])
        return (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (*owner, mode)

    def do() -> None:
        user, group = _ids() or (0, 0)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(path, user if is_own else 0, group)
        path.chmod(mode)

    owner = USER if is_own else "root"
    return InstallationStep(f"create {path} for {owner}:{USER} with mode {mode:04o}", is_done, do)


# ---- units -----------------------------------------------------------------------------------------------------------


def _shipped_units() -> list[Path]:
    return sorted(path for path in _SHIPPED.iterdir() if path.suffix in {".service", ".timer"})


def _reload() -> Iterator[InstallationStep]:
    yield InstallationStep("reload the units", _is_reloaded, partial(_systemctl, "daemon-reload"))


def _is_reloaded() -> bool:
    names = [path.name for path in _shipped_units() if "@" not in path.name]
    return "yes" not in _systemctl("show", "--property=NeedDaemonReload", "--value", *names).split()


def _is_enabled(unit: str) -> bool:
    return unit in _enabled() and unit in _started()


def _enabled() -> list[str]:
    """Return the enabled units, with the instances of `dialgate@.service`."""
    names = {path.name for path in _shipped_units()}
    links = [path for path in _UNITS.glob("*.wants/*") if path.is_symlink()]
    return sorted({link.name for link in links if link.readlink().name in names})


def _started() -> list[str]:
    """Return the units that run, timers first, because a timer starts its service."""
    patterns = [path.name.replace("@", "@*") for path in _shipped_units()]
    states = "--state=active,activating,reloading,deactivating"
    lines = _systemctl("list-units", "--plain", "--no-legend", "--full", states, *patterns).splitlines()
    return sorted((line.split()[0] for line in lines), key=lambda unit: not unit.endswith(".timer"))


def _systemctl(*words: str) -> str:
    return _run("systemctl", *words)


def _run(*words: str) -> str:
    done = subprocess.run(words, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)  # noqa: S603 - fixed commands
    return done.stdout


def _is_missing(path: Path) -> bool:
    return not path.exists()


def _contains(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _write(path: Path, content: bytes, mode: int) -> None:
    write_file(path, content)
    path.chmod(mode)
