"""What a record refers to by content hash, kept as long as the record: retired law and retired configuration.

A folder of files named by the SHA-256 of their content, 64 hexadecimal digits, written once and never changed.

The hash of a configuration names a list of hashes, one a line, sorted. Each is that of an entry `<file name> <hash>`, and
the hash in it that of the file. So evidence can show one file and prove that it is part of the whole, without the names
or the contents of the others. Up to version 1 of the evidence the list held the entries themselves.
"""

import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec
import yaml
from msgspec import Struct

from dialgate.config.configuration import Config
from dialgate.config.settings import Settings
from dialgate.core.law import Law, LawError, parse_law
from dialgate.runtime.atomic_write import write_file


class NotKept(Exception):
    """What a record rests on is not there, or is not what it was."""


def keep(folder: Path, config: Config) -> None:
    """Durable on return: no decision may rest on what could not be shown afterwards. Raises `OSError`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for digest, raw in config.contents.items():
        path = folder / digest
        if not path.exists():
            # Several workers may write the same file.
            write_file(path, raw, temporary=path.with_suffix(f".{os.getpid()}.new"))


def content(folder: Path, digest: str) -> bytes:
    """Raises `NotKept`, also where a byte of it was changed."""
    try:
        raw = (folder / digest).read_bytes()
    except FileNotFoundError:
        raise NotKept(
            f"{folder / digest} is not there: restore it from a copy, for records rest on it"
        ) from None
    except OSError as error:
        raise NotKept(f"{folder / digest}: {error.strerror}") from error
    if sha256(raw).hexdigest() != digest:
        raise NotKept(
            f"{folder / digest} was changed: its name is no longer its SHA-256; restore it from a copy"
        )
    return raw


class ConfigFile(Struct, frozen=True):
    """A file of a configuration. `entry` is the hash of its entry, or "" in a list of the older form."""

    entry: str
    name: str
    digest: str


def config_files(folder: Path, digest: str) -> list[ConfigFile]:
    """The files of the configuration that a record names. Raises `NotKept`."""
    found = []
    for line in content(folder, digest).decode().splitlines():
        older = " " in line
        name, _, file = (line if older else content(folder, line).decode()).rpartition(" ")
        found.append(ConfigFile("" if older else line, name, file))
    return found


def controller_of(raw: bytes) -> str:
    """The id of the controller whose file this is, or "" for any other file."""
    with suppress(yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError):
        return msgspec.convert(yaml.load(raw, Loader=yaml.CSafeLoader), _Owner).id
    return ""


def owners(folder: Path, campaign: str) -> set[str]:
    """The controllers that a campaign of this id was of, in any configuration. Reads all of them."""
    found = set()
    for path in folder.iterdir():
        with suppress(yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError):
            read = msgspec.convert(yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader), _Owner)
            if any(each.id == campaign for each in read.campaigns):
                found.add(read.id)
    return found


class _Campaign(Struct):
    id: str


class _Owner(Struct):
    """As much of a controller's file, of whatever version."""

    id: str
    campaigns: list[_Campaign]


def answer_seconds(folder: Path, digest: str) -> float:
    """For how long an allow held at most under the configuration that a record names. Raises `NotKept`."""
    for file in config_files(folder, digest):
        read = yaml.load(content(folder, file.digest), Loader=yaml.CSafeLoader)
        with suppress(msgspec.ValidationError):  # a law or a controller
            return msgspec.convert(read or {}, Settings).answer_seconds
    raise NotKept(f"{folder / digest} names no configuration of the gate that this version reads")


def law(folder: Path, digest: str) -> Law:
    """The law that a record names. Raises `NotKept`."""
    raw = content(folder, digest)
    try:
        return parse_law(yaml.load(raw, Loader=yaml.CSafeLoader))
    except LawError as error:
        raise NotKept(f"{folder / digest} is a law of another version of dialgate: {error}") from error
