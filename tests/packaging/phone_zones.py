"""Generation of `dialgate/core/phone_zones.py` from `phonenumbers`: `python -m tests.packaging.phone_zones`, or `make lock`.

`phonenumberslite` is `phonenumbers` without the 40 MB of place names and without its map of time zones, which is needed.
"""

import ast
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from dialgate.core import phone_zones

_MODULE = Path(phone_zones.__file__)
_HEAD = '''"""Time zones by prefix of E.164 numbers, from `phonenumbers`. Generated: see tests/packaging/phone_zones.py.

Copyright (C) The Libphonenumber Authors, Apache License 2.0.
"""

from typing import Final

VERSION: Final = "{version}"

# fmt: off
PREFIXES: Final = {{  # by the names of their zones
'''


def upstream(release: str) -> dict[str, tuple[str, ...]]:
    """Return the map of a release of `phonenumbers`. Downloads it with pip."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "-d", folder, f"phonenumbers=={release}"], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with ZipFile(wheel) as archive:
            module = archive.read("phonenumbers/tzdata/data0.py").decode()
    zones: dict[str, tuple[str, ...]] = ast.literal_eval(
        module[module.index("\ndata = {") + len("\ndata = ") :]
    )
    return zones


def text(zones: dict[str, tuple[str, ...]], release: str) -> str:
    prefixes: dict[str, list[str]] = {}
    for prefix, names in sorted(zones.items()):
        prefixes.setdefault(" ".join(names), []).append(prefix)
    rows = (f'    "{names}": "{" ".join(found)}",\n' for names, found in sorted(prefixes.items()))
    return _HEAD.format(version=release) + "".join(rows) + "}\n"


if __name__ == "__main__":
    installed = version("phonenumberslite")
    _MODULE.write_text(text(upstream(installed), installed), "utf-8")
