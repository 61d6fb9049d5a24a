"""A search for decisions in the logs of all gates that share the store.

`audit.number_history.Inquiry` searches one data folder. A decision and the outcome of its call may be in the logs of
different gates, because each gate records the outcomes that clients report to it.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Protocol, TypeVar

from msgspec import structs

from dialgate.audit.number_history import FoundDecision, Inquiry, Visibility
from dialgate.cluster.peer_questions import Decisions, FindDecision, FindDecisions, FindOutcomes
from dialgate.cluster.peers import Peers
from dialgate.core.model import OutcomeRecord
from dialgate.decision_log.records import Position, position

_T = TypeVar("_T")
Missing = Mapping[str, str]  # gates that could not be asked, each with the reason


class Inquire(Protocol):
    """A function that runs a look-up in this gate's own logs. Raises the same errors as `Inquiry`."""

    async def __call__(self, look_up: Callable[[Inquiry], _T], /) -> _T: ...


class DecisionSearch:
    """A search for decisions in the logs of this gate and its peers.

    `own` searches this gate's logs. All methods raise the same errors as `own`.
    """

    def __init__(self, own: Inquire, peers: Peers) -> None:
        self._own, self._peers = own, peers

    async def find(self, question: FindDecisions) -> tuple[Decisions, Missing]:
        """Return the decisions about a number, newest first."""
        peers, own = await asyncio.gather(
            self._peers.ask(question), self._own(lambda inquiry: search_here(inquiry, question))
        )
        results = [own, *peers.answers.values()]
        # A gate may have started with a copy of another gate's log.
        by_id = {found.record.id: found for found in chain.from_iterable(result.found for result in results)}
        newest = sorted(by_id.values(), key=lambda found: position(found.record), reverse=True)
        retired = sorted({month for result in results for month in result.retired})
        found, unasked = await self._add_outcomes(newest[: question.most])
        return Decisions(found, retired), {**peers.missing, **unasked}

    async def one(self, name: str, sees: Visibility) -> tuple[FoundDecision | None, Missing]:
        """Return a decision by its id. Ask the peers only if this gate does not have the decision."""
        found, missing = await self._one(name, sees)
        if found is None:
            return None, missing
        (complete,), unasked = await self._add_outcomes([found])
        return complete, unasked

    async def position(self, name: str, sees: Visibility) -> tuple[Position | None, Missing]:
        """Return a decision's position in the order of search results, or None if the decision is not found."""
        found, missing = await self._one(name, sees)
        return (position(found.record) if found is not None else None), missing

    async def _one(self, name: str, sees: Visibility) -> tuple[FoundDecision | None, Missing]:
        if (found := await self._own(lambda inquiry: inquiry.one(name, sees))) is not None:
            return found, {}
        peers = await self._peers.ask(FindDecision(name, sees))
        return next(chain.from_iterable(peers.answers.values()), None), peers.missing

    async def _add_outcomes(self, decisions: list[FoundDecision]) -> tuple[list[FoundDecision], Missing]:
        names = [found.record.id for found in decisions if found.record.decision.allow]
        if not names or not self._peers.is_shared:
            return decisions, {}
        peers, own = await asyncio.gather(
            self._peers.ask(FindOutcomes(names)), self._own(lambda inquiry: inquiry.outcomes(names))
        )
        reports: dict[str, list[OutcomeRecord]] = {}
        for report in chain(own, *peers.answers.values()):
            reports.setdefault(report.decision, []).append(report)
        return [join_outcomes(found, reports.get(found.record.id, [])) for found in decisions], peers.missing


def search_here(inquiry: Inquiry, question: FindDecisions) -> Decisions:
    """Return this gate's own decisions about the number in `question`."""
    found = inquiry.find(question.number, question.sees, before=question.before, most=question.most)
    return Decisions(found, inquiry.retired())


def join_outcomes(found: FoundDecision, reports: Iterable[OutcomeRecord]) -> FoundDecision:
    """Add `reports` to the outcomes of a decision, without duplicates.

    The outcomes in `found` are kept, because `reports` lacks the outcomes from gates that did not answer.
    """
    unique = {(report.at, report.seq, report.result): report for report in (*found.outcomes, *reports)}
    return structs.replace(found, outcomes=tuple(unique[key] for key in sorted(unique)))
