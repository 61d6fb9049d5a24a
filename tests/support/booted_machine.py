"""A copy of this machine that systemd boots, in namespaces and on a file system in memory. Nothing on this machine changes."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PATIENCE = 240
needs_boot = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("systemd-nspawn"), reason="needs root and systemd-nspawn"
)
# As the page says, dialgate is in /opt/dialgate. It has the packages of this environment, whose folders may be hidden from services.
_INSTALL = """\
trap 'test $? = 0 || journalctl --no-pager --lines=60 >&2' EXIT
echo /opt/python/lib > /etc/ld.so.conf.d/python.conf
ldconfig
/opt/python/bin/python3 -m venv --without-pip /opt/dialgate
printf '%s\\n' /opt/source "/opt/source/{packages}" > "$(echo /opt/dialgate/lib/python3.*/site-packages)/source.pth"
for module in dialgate registry_sync; do
  program="/opt/dialgate/bin/$(echo $module | tr _ -)"
  printf '%s\\n' '#!/opt/dialgate/bin/python' "from $module.__main__ import main" 'main()' > "$program"
  chmod 755 "$program"
done
"""
_UNIT = """\
[Unit]
After=basic.target
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/bin/sh -eux /session/session.sh
StandardOutput=file:/session/output
StandardError=file:/session/errors
"""
_BOOT = """\
mount --make-rprivate /
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/machine
mount -t tmpfs tmpfs /run/machine
cd /run/machine
mkdir upper work root changes scratch source
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
mount -t overlay overlay -o "lowerdir=$2,upperdir=changes,workdir=scratch" source
# The gate's user must read compiled files, or it compiles all modules again at each start. dialgate writes private ones.
find source/dialgate source/registry_sync source/.venv '(' -name __pycache__ -o -name '*.pyc' ')' ! -perm -go+r -exec chmod a+rX {} +
cp "$1/session.service" root/etc/systemd/system/
systemd-nspawn --quiet --directory=root --machine=dialgate-test --register=no --keep-unit --private-network --link-journal=no \\
  --bind="$1:/session" --bind-ro="$PWD/source:/opt/source" --bind-ro="$3:/opt/python" --boot --console=pipe -- --unit=session.service
find /sys/fs/cgroup/payload /sys/fs/cgroup/supervisor -depth -type d -exec rmdir {} +
"""


def run_session(folder: Path, script: str) -> str:
    """Boot, run `script` as root until its first failure, and return its output."""
    packages = Path(sysconfig.get_path("purelib")).relative_to(ROOT)
    text = f"{_INSTALL.format(packages=packages)}{script}\necho complete\n"
    (folder / "session.sh").write_text(text, "utf-8")
    (folder / "session.service").write_text(_UNIT, "utf-8")
    # As the first process of a namespace, the shell takes all others with it when it ends.
    boot = (
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-eu",
        "-c",
        _BOOT,
        "boot",
    )
    subprocess.run(
        [*boot, folder, ROOT, sys.base_prefix], check=False, timeout=PATIENCE, stdin=subprocess.DEVNULL
    )
    output, errors = ((folder / name).read_text("utf-8") for name in ("output", "errors"))
    assert output.endswith("complete\n"), output + errors
    return output
