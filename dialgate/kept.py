"""What a record refers to by content hash, kept as long as the record: retired law and retired configuration.

A folder of files named by the SHA-256 of their content, 64 hexadecimal digits, written once and never changed. The
configuration's own hash names a list of `<file name> <hash>` lines.
"""

import os
from pathlib import Path

import yaml

from dialgate.law import Law, parse_law
from dialgate.settings import Config


def keep(folder: Path, config: Config) -> None:
    """Durable on return: no decision may rest on what could not be shown afterwards. Raises `OSError`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for digest, raw in config.contents.items():
        path = folder / digest
        if not path.exists():
            _write(path, raw)


def _write(path: Path, raw: bytes) -> None:
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def law(folder: Path, digest: str) -> Law:
    """The law that a record names. Raises `FileNotFoundError` where it was not kept."""
    return parse_law(yaml.load((folder / digest).read_bytes(), Loader=yaml.CSafeLoader))
