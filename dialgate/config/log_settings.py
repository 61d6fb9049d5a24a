"""How the operator sets what the gate says about itself: its service log, its traces."""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, field

from dialgate.config.fields import Strict

Level: TypeAlias = Literal["debug", "info", "warning", "error"]


class ServiceLog(Strict, frozen=True, kw_only=True):
    """`levels`: of single modules, as `dialgate.observed: debug`, which then says every decision. The environment's
    DIALGATE_LOG goes before: `json`, `coloured`, or levels as in `info,dialgate.observed=debug`."""

    format: Literal["auto", "json", "coloured"] = "auto"
    level: Level = "info"
    levels: dict[str, Level] = field(default_factory=dict)


class TracesTo(Strict, frozen=True, kw_only=True):
    """An OpenTelemetry collector that takes OTLP over HTTP. `share`: of the batches that are traced."""

    endpoint: Annotated[str, Meta(pattern=r"^https?://")]
    share: Annotated[float, Meta(gt=0, le=1)] = 0.01
