"""What was decided, found in the logs of every gate on the store: as `audit.number_history.Inquiry` does, of one data folder.

What became of a call may stand in the log of another gate than its decision, for the report came to that one.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Protocol, TypeVar

from msgspec import structs

from dialgate.audit.number_history import Found, Inquiry, Position, Sees, position
from dialgate.cluster.peers import AboutNumber, Decisions, OneDecision, OutcomesOf, Peers
from dialgate.core.model import OutcomeRecord

_T = TypeVar("_T")
# Of each gate that could not be asked, why.
Missing = Mapping[str, str]


class Inquire(Protocol):
    """Does something with this gate's own logs, in its turn. Raises as `Inquiry`."""

    async def __call__(self, look_up: Callable[[Inquiry], _T], /) -> _T: ...


class Everywhere:
    """Raises what `own` raises."""

    def __init__(self, own: Inquire, peers: Peers) -> None:
        self._own, self._peers = own, peers

    async def about(self, asked: AboutNumber) -> tuple[Decisions, Missing]:
        """Newest first."""
        told, own = await asyncio.gather(
            self._peers.ask(asked, Decisions), self._own(lambda inquiry: about(inquiry, asked))
        )
        every = [own, *told.answers.values()]
        # A gate may have begun with a copy of another's log.
        once = {each.record.id: each for each in chain.from_iterable(each.found for each in every)}
        found = sorted(once.values(), key=lambda each: position(each.record), reverse=True)[: asked.most]
        retired = sorted({month for each in every for month in each.retired})
        joined, unheard = await self._with_outcomes(found)
        return Decisions(joined, retired), {**told.missing, **unheard}

    async def one(self, name: str, sees: Sees) -> tuple[Found | None, Missing]:
        """Nobody is asked for what is found here."""
        found, missing = await self._one(name, sees)
        if found is None:
            return None, missing
        joined, unheard = await self._with_outcomes([found])
        return joined[0], unheard

    async def position(self, name: str, sees: Sees) -> tuple[Position | None, Missing]:
        """Of a decision, if there is one."""
        found, missing = await self._one(name, sees)
        return (position(found.record) if found is not None else None), missing

    async def _one(self, name: str, sees: Sees) -> tuple[Found | None, Missing]:
        if (found := await self._own(lambda inquiry: inquiry.one(name, sees))) is not None:
            return found, {}
        told = await self._peers.ask(OneDecision(name, sees), list[Found])
        return next(chain.from_iterable(told.answers.values()), None), told.missing

    async def _with_outcomes(self, found: list[Found]) -> tuple[list[Found], Missing]:
        names = [each.record.id for each in found if each.record.decision.allow]
        if not names or not self._peers.some:
            return found, {}
        told, own = await asyncio.gather(
            self._peers.ask(OutcomesOf(names), list[OutcomeRecord]),
            self._own(lambda inquiry: inquiry.outcomes(names)),
        )
        reports: dict[str, list[OutcomeRecord]] = {}
        for report in chain(own, *told.answers.values()):
            reports.setdefault(report.decision, []).append(report)
        return [_joined(each, reports.get(each.record.id, [])) for each in found], told.missing


def about(inquiry: Inquiry, asked: AboutNumber) -> Decisions:
    """Of one gate alone."""
    found = inquiry.about(asked.number, asked.sees, before=asked.before, most=asked.most)
    return Decisions(found, inquiry.retired())


def _joined(found: Found, reports: Iterable[OutcomeRecord]) -> Found:
    """With those that came with it: who told it may be away by now."""
    every = {(each.at, each.seq, each.result): each for each in (*found.outcomes, *reports)}
    return structs.replace(found, outcomes=tuple(every[at] for at in sorted(every)))
