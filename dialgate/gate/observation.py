"""Metrics, debug log and traces for each recorded batch."""

import logging
from collections.abc import Sequence
from typing import Final

import structlog
from msgspec import Struct

from dialgate.core.responses import Answer
from dialgate.gate.batch import REPEATED, Batch
from dialgate.gate.question import Question
from dialgate.observability.metrics import Metrics
from dialgate.observability.traces import TracedCall, Traces

_UNLISTED = frozenset({"list.unknown", "registry.unknown"})  # the possible first reasons for a guessed number
_RULE_ERROR = "gate.rule_error"
_NOTED = _UNLISTED | {_RULE_ERROR}
NAME: Final = "dialgate.observed"  # stable: operators set its level
_log, _logger = structlog.get_logger(NAME), logging.getLogger(NAME)


class TraceSpan(Struct, frozen=True):
    """The time span of a batch, in seconds on the monotonic clock. `end_at` is its end in Unix nanoseconds."""

    start: float
    end: float
    end_at: int

    def at(self, moment: float) -> int:
        return self.end_at - int((self.end - moment) * 1e9)


def count(metrics: Metrics, batch: Batch) -> None:
    calls = batch.questions
    metrics.batch.observe(len(calls))
    labels = [
        ("allow", "", campaign, call.interface)  # what the client does, also if only shadow mode permits it
        if answer.would
        else (answer.decision, code, campaign, call.interface)
        for call, campaign, answer, code in zip(
            calls, batch.campaigns, batch.answers, batch.codes, strict=True
        )
        if code != REPEATED
    ]
    metrics.calls.decided(labels, batch.names)
    if len(labels) < len(calls):
        metrics.repeats.inc(len(calls) - len(labels))
    if batch.lets_through:
        for campaign, call, answer, code in zip(
            batch.campaigns, calls, batch.answers, batch.codes, strict=True
        ):
            if answer.would == "deny" and code != REPEATED:
                metrics.shadow.let_through(campaign, code, batch.today(call))
    if not _NOTED.isdisjoint(batch.codes):
        _note(metrics, calls, batch)
    if _logger.isEnabledFor(logging.DEBUG):
        _log_decisions(labels, batch.names)


def _note(metrics: Metrics, calls: Sequence[Question], batch: Batch) -> None:
    for call, answer, code in zip(calls, batch.answers, batch.codes, strict=True):
        if code in _UNLISTED and any(reason.code == "list.unknown" for reason in answer.reasons):
            metrics.neighbours.unlisted(call.client, answer.to)
        elif code == _RULE_ERROR:
            _log.error("a rule failed", decision_id=answer.decision_id, problem=answer.reasons[0].text)


def _log_decisions(labels: Sequence[tuple[str, str, str, str]], ids: Sequence[str]) -> None:
    for (decision, code, campaign, interface), decision_id in zip(labels, ids, strict=True):
        _log.debug(
            "decided",
            decision_id=decision_id,
            decision=decision,
            code=code,
            campaign=campaign,
            interface=interface,
        )


def trace(
    traces: Traces,
    campaigns: Sequence[str],
    calls: Sequence[tuple[str, float]],
    answers: Sequence[Answer],
    span: TraceSpan,
) -> None:
    """Send the traces for a batch. `calls` pairs each interface with the time of arrival on the monotonic clock."""
    traced_calls = (
        TracedCall(
            span.at(arrived),
            interface,
            campaign,
            answer.decision,
            answer.reasons[0].code if answer.reasons else "",
            answer.decision_id,
        )
        for (interface, arrived), campaign, answer in zip(calls, campaigns, answers, strict=True)
    )
    traces.batch(span.at(span.start), span.end_at, len(calls), traced_calls)
