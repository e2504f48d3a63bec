"""Prints what happens under a server: runs that start and end, and fires that did not start."""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Final

from taskpilot.deployment import Deployment
from taskpilot.domain.events import EventKind
from taskpilot.domain.times import from_micros
from taskpilot.messages.serving import fire_not_started, not_started, run_ended, run_started
from taskpilot.store import runs, serving_queries

LINES_MAX: Final = 20
"""More lines of one tick than this are counted."""
_FIRES: Final = (EventKind.FIRE_MISSED, EventKind.FIRE_BLOCKED)


class Reporter:
    """Reads the record at each tick and prints what is new: runs are started and ended by processes of their own."""

    def __init__(self, deployment: Deployment, tell: Callable[[str], None]) -> None:
        self._deployment = deployment
        self._tell = tell
        self._event: int | None = None
        """The last event that was seen; None before the first tick, which tells nothing."""
        self._running: frozenset[str] = frozenset()

    def report(self, claimed: Collection[str], since: datetime) -> None:
        """Prints what is new. `claimed`: jobs of which fires were decided since an instant. Raises StoreError or StoreBusy."""
        with self._deployment.store.read() as connection:
            if self._event is None:
                self._event = serving_queries.last_event(connection)
                self._running = frozenset(serving_queries.running_runs(connection))
                return
            running = frozenset(serving_queries.running_runs(connection))
            events = serving_queries.events_after(connection, self._event)
            ended = dict.fromkeys(event.run_id for event in events if event.run_id is not None)
            gone = dict.fromkeys([*sorted(self._running - running), *ended])
            new = [*sorted(running - self._running), *(one for one in ended if one not in self._running | running)]
            begun = [run for run in (runs.get_run(connection, one) for one in new) if run is not None and run.started_at is not None]
            over = [run for run in (runs.get_run(connection, one) for one in gone if one not in running) if run is not None]
            lines = [*map(run_started, begun), *map(run_ended, over)]
            for event in events:
                if event.kind in _FIRES:
                    due = None if event.scheduled_for is None else from_micros(event.scheduled_for)
                    many = f"{event.number:,} fires" if event.number > 1 else "blocked or missed"
                    lines.append(not_started(event.job, due, event.reason, many))
            if claimed:
                lines += map(fire_not_started, serving_queries.fires_skipped(connection, claimed, since))
            self._event = max((event.id for event in events), default=self._event)
            self._running = running
        for line in lines[:LINES_MAX]:
            self._tell(line)
        if len(lines) > LINES_MAX:
            self._tell(f"and {len(lines) - LINES_MAX:,} more: `taskpilot status` and `taskpilot fires` list them")
