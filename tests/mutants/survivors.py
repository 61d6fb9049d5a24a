"""Mutants that survive all tests, and the list of known survivors in `survivors.yaml`.

A mutant's name consists of its file, the function's qualified name or the section of the law, and the changed text. The
name does not change when lines move.
"""

from collections.abc import Iterable
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


def read() -> dict[Mutant, Entry]:
    """Return the entry of each listed mutant. Raises `ValueError` if a mutant is listed twice or without a reason."""
    by_mutant: dict[Mutant, Entry] = {}
    files = msgspec.convert(yaml_files.read(FILE), dict[str, list[Entry]])
    for file, entries in files.items():
        for entry in entries:
            for mutant in (Mutant(file, entry.where, change) for change in entry.changes):
                if mutant in by_mutant or not entry.reason:
                    raise ValueError(f"{mutant} is listed twice, or has no reason")
                by_mutant[mutant] = entry
    return by_mutant


def as_entries(mutants: Iterable[Mutant]) -> str:
    """Format survivors without a judgement as entries for `survivors.yaml`."""
    files: dict[str, dict[str, dict[str, Any]]] = {}
    for mutant in mutants:
        entry = {"where": mutant.where, "judgement": "?", "reason": "?", "changes": []}
        files.setdefault(mutant.file, {}).setdefault(mutant.where, entry)["changes"].append(mutant.change)
    entries = {file: list(places.values()) for file, places in files.items()}
    return yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=200)
