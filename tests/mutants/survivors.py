"""Mutants that survive all tests, and the list of known survivors in `survivors.yaml`.

A mutant's name consists of its file, the function's qualified name or the section of the law, and the changed text. The
name does not change when lines move.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import yaml
from msgspec import Struct

from tests.support import yaml_files

FILE = Path(__file__).parent / "survivors.yaml"

Judgement = Literal["equivalent", "over-strict", "accepted"]


class Mutant(NamedTuple):
    """The name of a mutant. `file` is relative to the repository."""

    file: str
    where: str
    change: str

    def __str__(self) -> str:
        return f"{self.file}: {self.where}: {self.change}"


class Entry(Struct, forbid_unknown_fields=True, kw_only=True):
    """Known survivors in the same function or section of law, with the same judgement.

    - `equivalent`: the mutant decides no call differently
    - `over-strict`: the mutant denies calls that the law allows, but allows none that the law denies
    - `accepted`: any other mutant; `reason` explains why no test is needed
    """

    where: str
    judgement: Judgement
    reason: str
    changes: list[str]


class Difference(NamedTuple):
    """The difference between a run and the list.

    `unlisted` mutants survived but are not in the list. `outdated` mutants are in the list, but were killed or no
    longer exist.
    """

    unlisted: list[Mutant]
    outdated: list[Mutant]


def read(path: Path = FILE) -> dict[str, list[Entry]]:
    return msgspec.convert(yaml_files.read(path) or {}, dict[str, list[Entry]])


def index_entries(entries: dict[str, list[Entry]]) -> dict[Mutant, Entry]:
    """Return the entry of each listed mutant. Raises `ValueError` if a mutant is listed twice or without a reason."""
    by_mutant: dict[Mutant, Entry] = {}
    for mutant, entry in _pairs(entries):
        if mutant in by_mutant:
            raise ValueError(f"{mutant} is listed twice")
        if not entry.reason:
            raise ValueError(f"{mutant} has no reason")
        by_mutant[mutant] = entry
    return by_mutant


def _pairs(entries: dict[str, list[Entry]]) -> Iterator[tuple[Mutant, Entry]]:
    for file, several in entries.items():
        for entry in several:
            for change in entry.changes:
                yield Mutant(file, entry.where, change), entry


def compare(tried: Iterable[Mutant], survived: Iterable[Mutant], known: Iterable[Mutant]) -> Difference:
    """Compare a run with the list.

    A listed mutant is reported as outdated only if at least one mutant in the same file was tried.
    """
    surviving, names = set(survived), set(known)
    files = {mutant.file for mutant in tried}
    outdated = [mutant for mutant in names - surviving if mutant.file in files]
    return Difference(sorted(surviving - names), sorted(outdated))


def as_entries(mutants: Iterable[Mutant]) -> str:
    """Format survivors without a judgement as entries for `survivors.yaml`."""
    files: dict[str, dict[str, dict[str, Any]]] = {}
    for mutant in mutants:
        entry = {"where": mutant.where, "judgement": "?", "reason": "?", "changes": []}
        files.setdefault(mutant.file, {}).setdefault(mutant.where, entry)["changes"].append(mutant.change)
    entries = {file: list(places.values()) for file, places in files.items()}
    return yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=200)
