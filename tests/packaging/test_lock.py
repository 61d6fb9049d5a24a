"""`requirements/` locks exactly what pyproject.toml asks for, with hashes. `make lock` updates it."""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dialgate.core.phone import AREAS
from tests.support.paths import ROOT

LOCKS = ("all", "build", "dev", "generators")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def locked(name: str) -> dict[str, tuple[str, int]]:
    """Return the version and the number of hashes of each package in a lock."""
    text = (ROOT / f"requirements/{name}.txt").read_text("utf-8").replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    found: dict[str, tuple[str, int]] = {}
    for line in lines:
        match = re.fullmatch(
            r"([a-z0-9._-]+)==([^ ;]+)(?: ; [^\-]+?)?((?: +--hash=sha256:[0-9a-f]{64})+) *", line
        )
        assert match, line
        found[canonicalize_name(match[1])] = (match[2], match[3].count("--hash"))
    return found


def group(name: str) -> Iterator[str]:
    for item in PROJECT["dependency-groups"][name]:
        if isinstance(item, str):
            yield item
        else:
            yield from group(item["include-group"])


def direct(name: str) -> list[Requirement]:
    """Return the requirements in pyproject.toml that a lock has to meet."""
    if name == "generators":
        texts = [*group(name)]
    elif name == "build":
        texts = [*group(name), *PROJECT["build-system"]["requires"]]
    else:
        extras: dict[str, Any] = PROJECT["project"]["optional-dependencies"]
        parts = [extras[extra] for extra in extras if extra != "all"]
        texts = [*PROJECT["project"]["dependencies"], *(text for part in parts for text in part)]
        texts += group("dev") if name == "dev" else []
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_meets_every_requirement(name: str) -> None:
    versions = locked(name)
    missed = [
        str(requirement)
        for requirement in direct(name)
        if not requirement.specifier.contains(versions.get(canonicalize_name(requirement.name), ("0", 0))[0])
    ]
    assert missed == [], "run `make lock`"


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_no_requirement_that_the_project_dropped(name: str) -> None:
    text = (ROOT / f"requirements/{name}.txt").read_text("utf-8")
    blocks = re.split(r"\n(?=[a-z0-9])", text)[1:]
    direct_ = {
        canonicalize_name(block.split("==")[0]) for block in blocks if "dialgate (pyproject.toml" in block
    }
    required = {canonicalize_name(requirement.name) for requirement in direct(name)}
    assert direct_ == required, "run `make lock`"


def test_development_tests_the_versions_that_the_container_installs() -> None:
    assert locked("all").items() <= locked("dev").items()


def test_the_map_of_time_zones_is_of_the_installed_telephone_numbers() -> None:
    assert version("phonenumberslite") == AREAS.version, "run `make lock`"
