"""Property tests of the ledger and the gates, over random histories of a person and two controllers.

Three statements hold after every history:

- A person whose last word was stop is not called. If the model in `person` knows no word that permits a call, the gate
  must deny the call. The gate may deny more.
- A number is not called more often than the limit permits.
- No controller learns of another: what the second controller hears about a number is the same about a number for which
  the first controller sent nothing.

Each history is played over HTTP on one gate with SQLite, and on two gates with one Redis. Some histories must end with
an allow, so that the test can fail. Each uses its own numbers, so the same gates serve many histories.
DIALGATE_HISTORIES sets the number of random histories. Without this variable, the histories are the same in each run.
"""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.properties.found import FOUND
from tests.properties.histories import History, histories
from tests.properties.house import HISTORIES as A_HOUSE
from tests.properties.house import Engine, House
from tests.properties.player import Play

HISTORIES: Final = int(os.environ.get("DIALGATE_HISTORIES", "0"))
FEW: Final = 6  # histories in CI, on each store


class Street:
    """One house after another. Each serves as many histories as it has numbers."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder, self.engine, self.runner = folder, engine, asyncio.Runner()
        self.house: House | None = None
        self.played = self.allowed = 0

    def play(self, history: History) -> None:
        """Play a history in the newest house. After a failure the next history gets a new house."""
        if self.house is None or not self.played % A_HOUSE:
            self.leave()
            self.house = House(self.folder / str(self.played), self.engine)
            self.runner.run(self.house.open())
        self.played += 1
        try:
            self.allowed += self.runner.run(Play(self.house, history).run())
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        if self.house is not None:
            house, self.house = self.house, None
            self.runner.run(house.close())


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def street(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    street = Street(tmp_path_factory.mktemp(request.param), request.param)
    yield street
    street.leave()
    street.runner.close()


@pytest.mark.parametrize("name", FOUND)
def test_a_history_that_ended_in_an_unlawful_allow(street: Street, name: str) -> None:
    street.play(FOUND[name])


def test_the_last_word_binds_the_limit_holds_and_no_controller_learns_of_another(street: Street) -> None:
    played, allowed = street.played, street.allowed

    @settings(
        max_examples=HISTORIES or FEW,
        derandomize=not HISTORIES,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink] if HISTORIES else [Phase.generate],
    )
    @given(histories)
    def run(history: History) -> None:
        street.play(history)

    run()
    played, allowed = street.played - played, street.allowed - allowed
    assert allowed * 10 >= played, f"{allowed} of {played} histories end with an allow"
