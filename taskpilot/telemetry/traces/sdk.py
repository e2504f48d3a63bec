"""Spans as OpenTelemetry's exporters take them; imported only where a collector is to be reached."""

from collections.abc import Sequence

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from taskpilot.telemetry.traces.span import SCOPE, Kind, Span

_KINDS = {Kind.INTERNAL: SpanKind.INTERNAL, Kind.CLIENT: SpanKind.CLIENT}


def readable(spans: Sequence[Span]) -> list[ReadableSpan]:
    """The same spans, of one resource; the environment is not read for it."""
    resource = Resource(spans[0].resource) if spans else Resource.get_empty()
    scope = InstrumentationScope(SCOPE)
    return [_readable(span, resource, scope) for span in spans]


def _readable(span: Span, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    def context(span_id: str, *, remote: bool = False) -> SpanContext:
        return SpanContext(int(span.trace_id, 16), int(span_id, 16), is_remote=remote, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    return ReadableSpan(
        name=span.name,
        context=context(span.span_id),
        parent=None if span.parent_id is None else context(span.parent_id, remote=span.parent_is_remote),
        resource=resource,
        attributes=span.attributes,
        links=[Link(context(link.span_id), link.attributes) for link in span.links],
        kind=_KINDS[span.kind],
        status=Status(StatusCode(int(span.code)), span.message),
        start_time=span.start,
        end_time=span.end,
        instrumentation_scope=scope,
    )
