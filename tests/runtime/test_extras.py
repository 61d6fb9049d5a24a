"""The table of extras matches pyproject.toml. tests/packaging installs a base environment without extras."""

import tomllib

import pytest
from packaging.requirements import Requirement

from dialgate.runtime import extras
from tests.support.paths import ROOT

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]


def test_the_table_has_the_extras_of_the_project() -> None:
    assert extras.MODULES.keys() == EXTRAS.keys() - {"all"}
    (every,) = map(Requirement, EXTRAS["all"])
    assert every.extras == extras.MODULES.keys()


@pytest.mark.parametrize("extra", extras.MODULES)
def test_an_installed_extra_is_found(extra: str) -> None:
    assert extras.is_installed(extra)
    extras.require(extra, "A feature")
