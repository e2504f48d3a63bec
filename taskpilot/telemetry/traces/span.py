"""A span made from the store, and its OTLP JSON. Without OpenTelemetry's SDK, which takes 50 ms and only sending needs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

SCOPE: Final = "taskpilot"
"""The instrumentation scope of every span."""

_IS_REMOTE_KNOWN: Final = 0x100
_IS_REMOTE: Final = 0x200
"""SpanFlags of opentelemetry/proto/trace/v1/trace.proto: whether the span that is pointed at is another process's."""

_SPAN_CHARACTERS: Final = 1_000
"""Of a span without its texts, rounded up."""
_BATCH_CHARACTERS: Final = 900_000
"""A character may take four bytes, and gRPC takes 4 MB."""

Value = str | bool | int | float


class Kind(IntEnum):
    """SpanKind, by OTLP's numbers."""

    INTERNAL = 1
    CLIENT = 3


class Code(IntEnum):
    """StatusCode, by OTLP's numbers."""

    UNSET = 0
    OK = 1
    ERROR = 2


@dataclass(frozen=True, slots=True)
class Link:
    """Another span of the same trace, which this one continues."""

    span_id: str
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One span; ids are lower-case hex, times are nanoseconds since the epoch."""

    name: str
    trace_id: str
    """32 digits."""
    span_id: str
    """16 digits."""
    parent_id: str | None
    parent_is_remote: bool = False
    """The parent is the span of who started the run."""
    kind: Kind = Kind.INTERNAL
    start: int
    end: int
    attributes: Mapping[str, Value]
    code: Code
    message: str | None = None
    links: Sequence[Link] = ()
    resource: Mapping[str, str]
    """The attributes of the sender; the same for all spans that are written together."""


def batches(spans: Sequence[Span], size: int) -> Iterator[Sequence[Span]]:
    """The spans in pieces that a collector takes in one request: at most `size` of them, and about 900,000 characters."""
    batch: list[Span] = []
    characters = 0
    for span in spans:
        own = _SPAN_CHARACTERS + sum(len(value) for value in span.attributes.values() if isinstance(value, str))
        if batch and (len(batch) == size or characters + own > _BATCH_CHARACTERS):
            yield batch
            batch, characters = [], 0
        batch.append(span)
        characters += own
    if batch:
        yield batch


def otlp_json(spans: Sequence[Span]) -> dict[str, Any]:
    """An ExportTraceServiceRequest with these spans of one resource, as OTLP's JSON has it."""
    resource = _attributes(spans[0].resource) if spans else []
    scope = {"scope": {"name": SCOPE}, "spans": [_span(span) for span in spans]}
    return {"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": [scope]}]}


def _span(span: Span) -> dict[str, Any]:
    document: dict[str, Any] = {"traceId": span.trace_id, "spanId": span.span_id}
    if span.parent_id is not None:
        document["parentSpanId"] = span.parent_id
    document |= {
        "flags": _IS_REMOTE_KNOWN | (_IS_REMOTE if span.parent_is_remote else 0),
        "name": span.name,
        "kind": int(span.kind),
        # 64-bit integers are strings in OTLP's JSON: a double would lose the nanoseconds.
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        "attributes": _attributes(span.attributes),
    }
    if span.links:
        document["links"] = [_link(link, span.trace_id) for link in span.links]
    status: dict[str, Any] = {"message": span.message} if span.message else {}
    document["status"] = status | ({"code": int(span.code)} if span.code else {})
    return document


def _link(link: Link, trace_id: str) -> dict[str, Any]:
    attributes = {"attributes": _attributes(link.attributes)} if link.attributes else {}
    return {"traceId": trace_id, "spanId": link.span_id, "flags": _IS_REMOTE_KNOWN, **attributes}


def _attributes(given: Mapping[str, Value]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in given.items()]


def _value(value: Value) -> dict[str, Any]:
    # bool before int, which it is one of.
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}
