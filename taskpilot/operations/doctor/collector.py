"""The collector of traces: whether somebody is there; no span is sent."""

from collections.abc import Iterator
from typing import Final

from taskpilot.operations.doctor.case import ANSWER_SECONDS, Case
from taskpilot.operations.doctor.findings import Code, Finding, unchecked
from taskpilot.signals.http_exchange import Unanswered, exchange, shown
from taskpilot.signals.traces.collector import Collector, is_there

_CONNECT_SECONDS: Final = 1.0
_KEY: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_KEPT: Final = "traces.jsonl in the state dir keeps the spans"


def examine_collector(case: Case) -> Iterator[Finding]:
    """Whether spans would reach somebody."""
    settings = case.settings
    names = ("otel_enabled", "otel_endpoint", "otel_traces_endpoint", "otel_protocol", "otel_headers")
    if why := case.unsound(*names):
        yield unchecked("collector", why)
        return
    if not settings.otel_enabled:
        yield Finding(Code.COLLECTOR_OFF, f"no traces are sent: switched off by {settings.sources['otel_enabled']}; {_KEPT}")
        return
    collector = Collector(settings.otel_traces_url, settings.otel_protocol, settings.otel_headers)
    place = shown(collector.endpoint)
    if not is_there(collector, seconds=_CONNECT_SECONDS):
        if settings.sources["otel_endpoint"] == settings.sources["otel_traces_endpoint"] == "default":
            yield Finding(
                Code.COLLECTOR_NONE, f"nobody is at {place}, the default; {_KEPT}", f"set {_KEY} to a collector, or OTEL_ENABLED=false"
            )
        else:
            sentence = f"nobody accepts a connection at {place}; {_KEPT}"
            yield Finding(
                Code.COLLECTOR_UNREACHABLE, sentence, f"start the collector, or correct {_KEY}; OTEL_ENABLED=false ends the sending"
            )
    elif collector.protocol == "grpc":
        yield Finding(Code.COLLECTOR_OK, f"{place} accepts connections; whether it takes spans over gRPC was not tried")
    else:
        yield _asked(collector, place)


def _asked(collector: Collector, place: str) -> Finding:
    """What it says to a GET where spans are posted: any answer but these means that somebody knows the path."""
    try:
        answer = exchange("GET", collector.endpoint, seconds=ANSWER_SECONDS, headers=collector.headers)
    except (Unanswered, ValueError) as error:
        mend = f"look at the collector's log, or correct {_KEY}"
        return Finding(Code.COLLECTOR_UNREACHABLE, f"{place} accepts a connection and says nothing: {error}; {_KEPT}", mend)
    if answer.status == 404:
        return Finding(Code.COLLECTOR_NO_ROUTE, f"{place} has no such path (404)", f"correct {_KEY}: the base, without /v1/traces")
    if answer.status in (401, 403):
        return Finding(Code.COLLECTOR_REFUSED, f"{place} refuses us ({answer.status})", "correct OTEL_EXPORTER_OTLP_HEADERS")
    return Finding(Code.COLLECTOR_OK, f"{place} answers; no span was sent to try it")
