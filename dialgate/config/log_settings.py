"""The settings of the service log and of traces."""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, field

from dialgate.config.fields import Strict

Level: TypeAlias = Literal["debug", "info", "warning", "error"]


class ServiceLog(Strict, frozen=True, kw_only=True):
    """The gate's log on stderr, with one event per line.

    An event about a decision has its `decision_id`; no line contains a called number. The environment variable
    `DIALGATE_LOG` overrides these settings, for example `json,info,dialgate.observed=debug`.
    """

    format: Literal["auto", "json", "coloured"] = "auto"
    """`auto`: coloured on a terminal, otherwise JSON."""
    level: Level = "info"
    """Lowest level that is written."""
    levels: dict[str, Level] = field(default_factory=dict)
    """Levels for individual modules. `dialgate.observed: debug` writes every decision."""


class TracesTo(Strict, frozen=True, kw_only=True):
    """OpenTelemetry traces, with a span for each batch of calls and a child span for each call.

    They need `pip install 'dialgate[otel]'`.
    """

    endpoint: Annotated[str, Meta(pattern=r"^https?://")]
    """Collector for OTLP over HTTP, for example `http://127.0.0.1:4318/v1/traces`."""
    share: Annotated[float, Meta(gt=0, le=1)] = 0.01
    """Share of the batches that are traced."""
