"""A benchmark of `decide` alone, with the facts of one allowed call and one denied call."""

import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from msgspec.structs import replace

from dialgate.config import loader
from dialgate.config.configuration import Config
from dialgate.core import local_time
from dialgate.core.decision import decide
from dialgate.core.law import Law
from dialgate.core.model import DAY, Facts, Instant, Listing, Number, Origin, RegistryAnswer
from tests.bench import COUNTRIES, BenchError, Figure, world

_TUESDAY: Instant = 1_795_514_400_000  # 2026-11-24T10:00:00Z
_DECISIONS = 5_000
_REPEATS = 5


def run(countries: Path = COUNTRIES) -> Iterator[Figure]:
    """Yield the time per decision for an allowed call, and the time for a denied call.

    Each time is the best of several runs. The core does no I/O, so only interference makes a run slower.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = loader.load(world.write_config(Path(folder), countries))
    law = config.laws["IT"]
    clear = facts(config, law)
    listed = replace(clear, registries=(replace(clear.registries[0], answer="listed", listed_at=1),))
    for name, call_facts, allow in (("allow", clear, True), ("deny", listed, False)):
        if decide(call_facts, law).allow is not allow:
            raise BenchError(f"the law should {name} the test call but does not. Check `countries`.")
        yield Figure(f"decide.{name}", round(_fastest(call_facts, law) * 1e6, 2), "us")


def facts(config: Config, law: Law) -> Facts:
    """Return the facts of a sales call by an agent, to a number in the directory but not in the registry."""
    line = config.lines[world.CAMPAIGN]
    return Facts(
        at=_TUESDAY,
        today=date(2026, 11, 24),
        number=Number(kind="fixed", region="IT"),
        controller=line.controller,
        campaign=line.campaign,
        call_type="agent",
        caller_id=line.caller_ids[world.CALLER_ID],
        places=(local_time.place(law.zone, law.day_sets, _TUESDAY),),
        listings=(
            Listing(
                list="l",
                basis="directory",
                origin=Origin(collected_by=line.controller.id, collected_on=date(2026, 1, 1)),
            ),
        ),
        registries=(RegistryAnswer(registry="rpo", answer="clear", consulted_at=_TUESDAY - DAY),),
    )


def _fastest(call_facts: Facts, law: Law) -> float:
    """Return the time per decision in the fastest run, in seconds."""
    best = 1.0
    for _ in range(_REPEATS):
        began = time.perf_counter()
        for _ in range(_DECISIONS):
            decide(call_facts, law)
        best = min(best, (time.perf_counter() - began) / _DECISIONS)
    return best
