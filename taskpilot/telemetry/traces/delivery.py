"""Sends the spans that a collector missed, read from the store: each attempt's spans once, with their true times."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from taskpilot.domain.times import utc_now
from taskpilot.http import Deadline
from taskpilot.store.database import Store, Transaction
from taskpilot.store.trace_queries import (
    claim_due_traces,
    mark_traces_delivered,
    put_off_traces,
    record_to_deliver,
    runs_with_undelivered_traces,
)
from taskpilot.telemetry.traces.collector import Collector, ExportResult, Reply, Send, is_there, sender
from taskpilot.telemetry.traces.content import Content
from taskpilot.telemetry.traces.file import BATCH, ROWS_MAX
from taskpilot.telemetry.traces.span import Span
from taskpilot.telemetry.traces.spans import resource_of, spans_of

CLAIM: Final = timedelta(seconds=60)
"""Spans stay claimed for so long after a sender was killed or got no answer: its request may still arrive."""
_ATTEMPTS_MAX: Final = 64
"""Attempts that are claimed at once."""
_ANSWER_SECONDS: Final = 10.0
"""For one request."""
_PROBE_SECONDS: Final = 1.0


@dataclass
class Delivery:
    """The result."""

    spans: int = 0
    """Spans that the collector accepted."""
    runs: int = 0
    """Runs of those spans."""
    rejected: int = 0
    """Accepted spans that the collector did not keep."""
    refused: int = 0
    """Runs whose spans the collector will never accept; they are not sent again."""
    pending: int = 0
    """Runs whose spans are still to be sent; at most 10,000 are counted."""
    error: str = ""
    """Why sending stopped, or why something was rejected or refused; on one line, untrusted."""


@dataclass(frozen=True, slots=True)
class _AttemptSpans:
    """The spans of some attempts of one run."""

    attempts: list[str]
    spans: list[Span]


def send_pending_traces(
    store: Store,
    collector: Collector,
    *,
    resource: Mapping[str, str] | None = None,
    content: Content | None = None,
    seconds: float,
    now: Callable[[], datetime] = utc_now,
) -> Delivery:
    """Sends pending spans, oldest first, as long as the collector accepts them and `seconds` are left. Raises StoreError or StoreBusy.

    Attempts are claimed in the store before they are sent, so that two processes never send the same; they count as delivered only when
    the collector has answered. A request without an answer may have arrived: it is sent again after a minute, with the same span ids.
    """
    delivery = Delivery()
    deadline = Deadline(seconds)
    with store.read() as connection:
        delivery.pending = runs_with_undelivered_traces(connection)
    if not delivery.pending:
        return delivery
    if not is_there(collector, seconds=min(_PROBE_SECONDS, seconds)):
        delivery.error = "nothing accepts a connection there"
        return delivery
    send = sender(collector)
    sending = _Sender(store, send, delivery, deadline, now)
    named = resource_of(store.deployment, store.store_id, resource or {})
    more = True
    while more and deadline.left > 0:
        with store.write() as connection:
            claimed = claim_due_traces(connection, now(), until=now() + CLAIM, limit=_ATTEMPTS_MAX)
        found = [_attempt_spans(store, run_id, attempts, named, content) for run_id, attempts in claimed.items()]
        more = bool(found) and sending.deliver(found)
    with store.read() as connection:
        delivery.pending = runs_with_undelivered_traces(connection)
    return delivery


def _attempt_spans(store: Store, run_id: str, attempts: list[str], resource: Mapping[str, str], content: Content | None) -> _AttemptSpans:
    """No spans where the rows are broken: they would fail again at each later try."""
    with store.read() as connection:
        record = record_to_deliver(connection, run_id, attempts, rows_max=ROWS_MAX, content=content is not None)
    try:
        spans = [] if record is None else spans_of(record, resource, rows_max=ROWS_MAX, content=content)
    except (ValueError, TypeError, OverflowError):
        spans = []
    return _AttemptSpans(attempts, spans)


def record_export(connection: Transaction, attempts: Sequence[str], result: ExportResult, now: datetime) -> None:
    """Records the result for the spans of these attempts. Without an answer they stay claimed: they may still arrive."""
    if result in (ExportResult.ACCEPTED, ExportResult.REFUSED):
        mark_traces_delivered(connection, attempts)
    elif result is ExportResult.UNREACHABLE:
        put_off_traces(connection, attempts, now)


@dataclass
class _Sender:
    """Sends the spans of claimed attempts."""

    store: Store
    send: Send
    delivery: Delivery
    deadline: Deadline
    now: Callable[[], datetime]

    def deliver(self, found: list[_AttemptSpans]) -> bool:
        """Sends all, several runs in a request. False where sending is to stop; the rest is then due again at once."""
        requests = list(_requests(found))
        for position, request in enumerate(requests):
            if not self._sent(request):
                rest = [attempt for later in requests[position + 1 :] for one in later for attempt in one.attempts]
                with self.store.write() as connection:
                    put_off_traces(connection, rest, self.now())
                return False
        return True

    def _sent(self, request: list[_AttemptSpans]) -> bool:
        """False where the next one is not to be tried now."""
        reply = self._ask(request)
        if reply.result is ExportResult.REFUSED and len(request) > 1:
            # One run is the cause: the spans of the others must not be lost with it.
            return all(self._sent([one]) for one in request)
        attempts = [attempt for one in request for attempt in one.attempts]
        with self.store.write() as connection:
            record_export(connection, attempts, reply.result, self.now())
        delivery = self.delivery
        delivery.error = delivery.error or reply.message or ("" if reply.result is ExportResult.ACCEPTED else reply.result)
        if reply.result is ExportResult.ACCEPTED:
            delivery.spans += sum(len(one.spans) for one in request) - reply.rejected
            delivery.runs += sum(bool(one.spans) for one in request)
            delivery.rejected += reply.rejected
            return True
        delivery.refused += reply.result is ExportResult.REFUSED
        return reply.result is ExportResult.REFUSED

    def _ask(self, request: list[_AttemptSpans]) -> Reply:
        left = self.deadline.left
        if left <= 0:
            return Reply(ExportResult.UNREACHABLE, message="no time was left")
        spans = [span for one in request for span in one.spans]
        return self.send(spans, min(left, _ANSWER_SECONDS)) if spans else Reply(ExportResult.ACCEPTED)


def _requests(found: list[_AttemptSpans]) -> Iterator[list[_AttemptSpans]]:
    """Whole runs together, as many as fit into one request; a larger run has its own request."""
    request: list[_AttemptSpans] = []
    for one in found:
        if request and sum(len(other.spans) for other in request) + len(one.spans) > BATCH:
            yield request
            request = []
        request.append(one)
    if request:
        yield request
