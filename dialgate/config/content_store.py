"""The archive of laws and configurations, to which decision records refer by content hash.

It is a folder of files, each named by the SHA-256 of its content (64 hexadecimal digits). Files never change, and are
kept as long as the records.

A configuration has an entry for each file: the text `<file name> <hash of the content>`. The configuration's list
contains the hash of each entry, sorted, one per line. The hash of this list is the hash of the configuration.

So evidence can prove that one file is part of a configuration, without the names or contents of the other files. In
evidence up to version 1, the list contained the entries instead of their hashes.
"""

import os
import re
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
import yaml
from msgspec import Struct

from dialgate.config.configuration import Config
from dialgate.config.settings import Settings
from dialgate.core.law import Law, parse_law
from dialgate.core.law_sections import LawError
from dialgate.runtime.atomic_write import write_file

_CAMPAIGNS: Final = re.compile(
    rb"""^["']?campaigns["']?[ \t]*:""", re.MULTILINE
)  # only a controller's file has them
_CONTROLLER_ID: Final = re.compile(
    rb"""^(?:\xef\xbb\xbf)?["']?id["']?[ \t]*:[ \t]*["']?([^\s"'#]+)""", re.MULTILINE
)
_WRITERS: Final = 16  # the disk syncs files together: 12 times as fast as one after the other


_NAMES: Final = re.compile(rb"[0-9a-f]{64}(\n[0-9a-f]{64})*|[^\n]+ [0-9a-f]{64}")
_COUNTRY: Final = re.compile(rb"""^["']?country["']?[ \t]*:""", re.MULTILINE)


class NotKept(Exception):
    """Archived content is missing or modified."""


def keep(folder: Path, config: Config) -> None:
    """Write a configuration to the archive, and sync it to disk. Raises `OSError`.

    Call this before the first decision, so that every decision can be explained later.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = [
        (folder / digest, raw) for digest, raw in config.contents.items() if not (folder / digest).exists()
    ]
    with ThreadPoolExecutor(_WRITERS) as writers:
        list(writers.map(_write, new))


def _write(file: tuple[Path, bytes]) -> None:
    path, raw = file
    # Several processes may write the same file: each needs its own temporary name.
    write_file(path, raw, temporary=path.with_suffix(f".{os.getpid()}.new"))


def content(folder: Path, digest: str) -> bytes:
    """Return the content with this hash. Raises `NotKept` if it is missing or modified."""
    try:
        raw = (folder / digest).read_bytes()
    except FileNotFoundError:
        raise NotKept(
            f"{folder / digest} is missing: restore it from a backup, because records refer to it"
        ) from None
    except OSError as error:
        raise NotKept(f"{folder / digest}: {error.strerror}") from error
    if sha256(raw).hexdigest() != digest:
        raise NotKept(
            f"{folder / digest} was modified: its SHA-256 differs from its file name; restore it from a backup"
        )
    return raw


def is_shipped(raw: bytes) -> bool:
    """Return whether archived content is a law, a controller's file, or one of the names that lead to them.

    Other files stay on the node, because they can contain passwords.
    """
    return bool(_NAMES.fullmatch(raw) or _COUNTRY.search(raw))


class ConfigFile(Struct, frozen=True):
    """A file in a configuration. `digest` is the hash of its content.

    `entry` is the hash of the text `<name> <digest>`.
    """

    entry: str
    name: str
    digest: str


def config_files(folder: Path, digest: str) -> list[ConfigFile]:
    """Return the files of the configuration with this hash. Raises `NotKept`."""
    files = []
    for line in content(folder, digest).decode().splitlines():
        name, _, file = content(folder, line).decode().rpartition(" ")
        files.append(ConfigFile(line, name, file))
    return files


def controller_of(raw: bytes) -> str:
    """Return the id in a controller's file, or "" for any other file."""
    with suppress(yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError):
        return msgspec.convert(yaml.load(raw, Loader=yaml.CSafeLoader), ArchivedController).id
    return ""


def controllers(folder: Path) -> set[str]:
    """Return the ids of the controllers in all archived configurations. Raises `OSError`."""
    # Parsing the files of several years as YAML would take a minute.
    files = (path.read_bytes() for path in folder.iterdir()) if folder.exists() else ()
    found = (_CONTROLLER_ID.search(raw) for raw in files if _CAMPAIGNS.search(raw))
    return {match[1].decode("utf-8", "replace") for match in found if match}


def owners(folder: Path, campaign: str) -> set[str]:
    """Return the controllers that had a campaign with this id in any archived configuration."""
    ids = set()
    for path in folder.iterdir():
        with suppress(yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError):
            read = msgspec.convert(yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader), ArchivedController)
            if any(item.id == campaign for item in read.campaigns):
                ids.add(read.id)
    return ids


class _Campaign(Struct):
    id: str
    dial_region: str = ""
    caller_ids: tuple[str, ...] = ()


class ArchivedController(Struct):
    """The fields of a controller's file that have the same meaning in every version of dialgate."""

    id: str
    campaigns: list[_Campaign]
    country: str = ""


def controllers_in(folder: Path, digest: str, known: Collection[str] = ()) -> list[ArchivedController]:
    """Return the controllers in the configuration with this hash, without the files whose hashes are `known`.

    Raises `NotKept`.
    """
    found = []
    for file in config_files(folder, digest):
        # Only laws and controllers are shipped to other nodes.
        if file.digest not in known and (folder / file.digest).exists():
            with suppress(yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError):
                raw = content(folder, file.digest)
                found.append(msgspec.convert(yaml.load(raw, Loader=yaml.CSafeLoader), ArchivedController))
    return found


def answer_seconds(folder: Path, digest: str) -> float:
    """Return the setting `answer_seconds` of the configuration with this hash. Raises `NotKept`."""
    for file in config_files(folder, digest):
        read = yaml.load(content(folder, file.digest), Loader=yaml.CSafeLoader)
        with suppress(msgspec.ValidationError):  # a country's or a controller's file
            return msgspec.convert(read or {}, Settings).answer_seconds
    raise NotKept(f"{folder / digest} contains no dialgate.yaml that this version of dialgate can read")


def law(folder: Path, digest: str) -> Law:
    """Return the law with this hash. Raises `NotKept`."""
    raw = content(folder, digest)
    try:
        return parse_law(yaml.load(raw, Loader=yaml.CSafeLoader))
    except LawError as error:
        raise NotKept(f"{folder / digest} was written for another version of dialgate: {error}") from error
