"""OpenTelemetry traces: a span for each batch, and within it a span for each call, from request to response.

Attributes contain decision ids, but no called number and no text from a client. The SDK is an extra (`pip install
'dialgate[otel]'`) and is loaded only if traces are configured.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from dialgate.config.log_settings import TracesTo
from dialgate.runtime.extras import require

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


class TracedCall(Struct, frozen=True):
    """The data for a call's span.

    `arrived` is in Unix nanoseconds, `decision` is allow or deny, and `code` is the first reason.
    """

    arrived: int
    interface: str
    campaign: str
    decision: str
    code: str
    decision_id: str


class Traces:
    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("dialgate")
        self._in = import_module("opentelemetry.trace").set_span_in_context

    def batch(self, start: int, end: int, size: int, calls: Iterable[TracedCall]) -> None:
        """Send the spans for a batch. Times are in Unix nanoseconds. An unsampled batch costs one empty span."""
        span = self._tracer.start_span("batch", start_time=start, attributes={"dialgate.calls": size})
        if span.is_recording():
            within = self._in(span)
            for call in calls:
                self._call(call, within, end)
        span.end(end_time=end)

    def _call(self, call: TracedCall, within: Any, end: int) -> None:
        attributes = {
            "dialgate.interface": call.interface,
            "dialgate.campaign": call.campaign,
            "dialgate.decision": call.decision,
            "dialgate.code": call.code,
            "dialgate.decision_id": call.decision_id,
        }
        span = self._tracer.start_span(
            "check", context=within, start_time=call.arrived, attributes=attributes
        )
        span.end(end_time=end)

    def close(self) -> None:
        self._provider.shutdown()


def open_traces(wanted: TracesTo | None, node: str) -> Traces | None:
    """Return the configured traces, or None if `wanted` is None. Raises `MissingExtra`."""
    if wanted is None:
        return None
    require("otel", "The setting `traces`")
    sdk = import_module("opentelemetry.sdk.trace")
    export = import_module("opentelemetry.sdk.trace.export")
    sampling = import_module("opentelemetry.sdk.trace.sampling")
    resources = import_module("opentelemetry.sdk.resources")
    otlp = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    resource = resources.Resource({"service.name": "dialgate", "service.instance.id": node})
    provider = sdk.TracerProvider(resource=resource, sampler=sampling.TraceIdRatioBased(wanted.share))
    provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter(endpoint=wanted.endpoint)))
    return Traces(provider)
