from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dialgate.config import loader
from dialgate.ledger.registrar import Registrar
from tests.support.ledger import ledger_of
from tests.support.world import NOW, write_folder


@pytest.fixture
async def registrar(tmp_path: Path) -> AsyncIterator[Registrar]:
    async with ledger_of(loader.load(write_folder(tmp_path)), lambda: NOW) as opened:
        yield opened
