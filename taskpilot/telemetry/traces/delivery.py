"""Delivers what a collector missed, from the record: each attempt's spans once, with their true times."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from taskpilot.domain.times import utc_now
from taskpilot.store.database import Store
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
"""Who claimed spans and was killed, or got no answer, leaves them for so long: a request that was given up may land yet."""
_ATTEMPTS_MAX: Final = 64
"""Attempts that are claimed at once."""
_ANSWER_SECONDS: Final = 10.0
"""For one request."""
_PROBE_SECONDS: Final = 1.0


@dataclass
class Delivery:
    """What came of it."""

    spans: int = 0
    """That the collector took."""
    runs: int = 0
    """Theirs."""
    rejected: int = 0
    """Spans that it threw away of those that it took."""
    refused: int = 0
    """Runs whose spans it will never take, and that are not sent again."""
    pending: int = 0
    """Runs that it has not got, now; 10,000 are counted at most."""
    error: str = ""
    """What stopped it, or why something was rejected or refused; on one line, untrusted."""


@dataclass(frozen=True, slots=True)
class _Parcel:
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
    """Sends what is pending, oldest first, for as long as the collector takes it and `seconds` are left. Raises StoreError or StoreBusy.

    Attempts are claimed in the record before they are sent, so that two deliverers never send the same; they are noted as delivered on
    the collector's answer only. A request without an answer may have been taken: it is sent again after a minute, with the same span ids.
    """
    delivery = Delivery()
    deadline = time.monotonic() + seconds
    with store.read() as connection:
        delivery.pending = runs_with_undelivered_traces(connection)
    if not delivery.pending:
        return delivery
    if not is_there(collector, seconds=min(_PROBE_SECONDS, seconds)):
        delivery.error = "nobody accepts a connection there"
        return delivery
    send = sender(collector)
    round_ = _Round(store, send, delivery, deadline, now)
    named = resource_of(store.deployment, store.store_id, resource or {})
    go_on = True
    while go_on and time.monotonic() < deadline:
        with store.write() as connection:
            claimed = claim_due_traces(connection, now(), until=now() + CLAIM, limit=_ATTEMPTS_MAX)
        parcels = [_parcel(store, run_id, attempts, named, content) for run_id, attempts in claimed.items()]
        go_on = bool(parcels) and round_.deliver(parcels)
    with store.read() as connection:
        delivery.pending = runs_with_undelivered_traces(connection)
    return delivery


def _parcel(store: Store, run_id: str, attempts: list[str], resource: Mapping[str, str], content: Content | None) -> _Parcel:
    """Without spans where the record gives none: it gives none later either."""
    with store.read() as connection:
        record = record_to_deliver(connection, run_id, attempts, rows_max=ROWS_MAX, content=content is not None)
    try:
        spans = [] if record is None else spans_of(record, resource, rows_max=ROWS_MAX, content=content)
    except (ValueError, TypeError, OverflowError):
        spans = []
    return _Parcel(attempts, spans)


@dataclass
class _Round:
    """Sends what was claimed."""

    store: Store
    send: Send
    delivery: Delivery
    deadline: float
    now: Callable[[], datetime]

    def deliver(self, parcels: list[_Parcel]) -> bool:
        """All of them, several runs in a request; False where it is not to go on, and then the rest is given back."""
        requests = list(_requests(parcels))
        for position, request in enumerate(requests):
            if not self._sent(request):
                rest = [attempt for later in requests[position + 1 :] for parcel in later for attempt in parcel.attempts]
                with self.store.write() as connection:
                    put_off_traces(connection, rest, self.now())
                return False
        return True

    def _sent(self, request: list[_Parcel]) -> bool:
        """False where the next one is not to be tried now."""
        reply = self._ask(request)
        if reply.word is ExportResult.REFUSED and len(request) > 1:
            # One run is at fault: the others are not to be lost with it.
            return all(self._sent([parcel]) for parcel in request)
        attempts = [attempt for parcel in request for attempt in parcel.attempts]
        with self.store.write() as connection:
            if reply.word in (ExportResult.TAKEN, ExportResult.REFUSED):
                mark_traces_delivered(connection, attempts)
            elif reply.word is ExportResult.AWAY:
                put_off_traces(connection, attempts, self.now())
        delivery = self.delivery
        delivery.error = delivery.error or reply.message or ("" if reply.word is ExportResult.TAKEN else reply.word)
        if reply.word is ExportResult.TAKEN:
            delivery.spans += sum(len(parcel.spans) for parcel in request) - reply.rejected
            delivery.runs += sum(bool(parcel.spans) for parcel in request)
            delivery.rejected += reply.rejected
            return True
        delivery.refused += reply.word is ExportResult.REFUSED
        return reply.word is ExportResult.REFUSED

    def _ask(self, request: list[_Parcel]) -> Reply:
        left = self.deadline - time.monotonic()
        if left <= 0:
            return Reply(ExportResult.AWAY, message="the time was over")
        spans = [span for parcel in request for span in parcel.spans]
        return self.send(spans, min(left, _ANSWER_SECONDS)) if spans else Reply(ExportResult.TAKEN)


def _requests(parcels: list[_Parcel]) -> Iterator[list[_Parcel]]:
    """Whole runs together, so many that one request holds them; a run that is larger goes alone."""
    request: list[_Parcel] = []
    for parcel in parcels:
        if request and sum(len(one.spans) for one in request) + len(parcel.spans) > BATCH:
            yield request
            request = []
        request.append(parcel)
    if request:
        yield request
