"""Makes incidents of the events in the record, and writes the notices that they owe; nothing is sent here.

Each transaction reads the events after the stored cursor, changes the incidents, writes the notices and moves the cursor: a kill loses
nothing, and nothing is told twice.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from taskpilot.deployment import Deployment
from taskpilot.domain.decisions import DecisionStatus
from taskpilot.domain.events import EventKind
from taskpilot.domain.ids import new_id
from taskpilot.domain.notices import CLOSED_BY_SUCCESS, ENDED_BADLY, QUESTIONS, Incident, NoticeEvent
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import RESUMABLE, RunStatus, exit_code
from taskpilot.domain.tasks import TaskStatus
from taskpilot.domain.times import from_micros, utc_iso
from taskpilot.notices.links import with_hidden_link
from taskpilot.notices.routes import Routes
from taskpilot.schedules.schedule import schedule_of
from taskpilot.store import listings, runs, schedules, serving_queries, tasks
from taskpilot.store import notices as store_notices
from taskpilot.store.database import Transaction
from taskpilot.store.serving_queries import Event

_OPENED_BY: Final = {
    EventKind.RUN_FAILED: NoticeEvent.RUN_FAILED,
    EventKind.RUN_LOST: NoticeEvent.RUN_LOST,
    EventKind.RUN_TIMED_OUT: NoticeEvent.RUN_TIMED_OUT,
    EventKind.RUN_DENIED: NoticeEvent.RUN_DENIED,
    EventKind.RUN_OVER_BUDGET: NoticeEvent.RUN_OVER_BUDGET,
    EventKind.OUTCOME_FAILED: NoticeEvent.OUTCOME_FAILED,
    EventKind.FIRE_MISSED: NoticeEvent.FIRE_MISSED,
    EventKind.FIRE_BLOCKED: NoticeEvent.FIRE_BLOCKED,
    EventKind.APPROVAL_ASKED: NoticeEvent.APPROVAL_ASKED,
    EventKind.APPROVAL_EXPIRING: NoticeEvent.APPROVAL_EXPIRING,
    EventKind.APPROVAL_EXPIRED: NoticeEvent.APPROVAL_EXPIRED,
    EventKind.JOB_PAUSED: NoticeEvent.JOB_PAUSED,
}
_TOLD_ONCE: Final = frozenset({NoticeEvent.DRILL, NoticeEvent.APPROVAL_EXPIRING})
_STATUSES: Final = {
    EventKind.RUN_SUCCEEDED: RunStatus.SUCCEEDED,
    EventKind.RUN_FAILED: RunStatus.FAILED,
    EventKind.OUTCOME_FAILED: RunStatus.FAILED,
    EventKind.RUN_LOST: RunStatus.LOST,
    EventKind.RUN_TIMED_OUT: RunStatus.TIMED_OUT,
    EventKind.RUN_DENIED: RunStatus.DENIED,
    EventKind.RUN_OVER_BUDGET: RunStatus.BUDGET_EXCEEDED,
    EventKind.RUN_CANCELLED: RunStatus.CANCELLED,
}
"""The events that are the end of a run."""


class Incidents:
    """Brings the incidents up to the record."""

    def __init__(self, deployment: Deployment, routes: Routes) -> None:
        self._deployment = deployment
        self._routes = routes

    def follow_events(self) -> bool:
        """Reads events until none is left; gives whether there were any. Raises StoreError or StoreBusy."""
        found = False
        while self._some_events():
            found = True
        return found

    def _some_events(self) -> bool:
        store = self._deployment.store
        with store.read() as connection:
            cursor = store_notices.notice_state_of(connection).cursor
            if serving_queries.last_event(connection) <= cursor:
                return False
        with store.write() as connection:
            # Again, under the lock: another process may have read some meanwhile.
            events = serving_queries.events_after(connection, store_notices.notice_state_of(connection).cursor)
            for event in events:
                self._follow(connection, event)
            if events:
                store_notices.set_cursor(connection, events[-1].id)
        return bool(events)

    def follow_time(self) -> None:
        """Closes what a person answered, opens what is overdue, and writes reminders. Raises StoreError or StoreBusy."""
        now = self._deployment.now()
        with self._deployment.store.read() as connection:
            standing = store_notices.open_incidents(connection)
            changes = any(self._is_moot(connection, one) for one in standing) or any(self._is_reminded(one, now) for one in standing)
            if not changes and not self._overdue(connection, standing, now):
                return
        with self._deployment.store.write() as connection:
            if serving_queries.last_event(connection) > store_notices.notice_state_of(connection).cursor:
                # What has happened meanwhile says more: the next look does this after it.
                return
            for one in store_notices.open_incidents(connection):
                if self._is_moot(connection, one):
                    if one.cause in QUESTIONS:
                        self._close_question(connection, one, now)
                    else:
                        # Nobody waits for it any more: it is not told.
                        store_notices.update_incident(connection, one.id, closed_at=now)
                elif self._is_reminded(one, now) and not store_notices.has_waiting_notice(connection, one.id):
                    self._tell(connection, one, now)
            for job, since in self._overdue(connection, store_notices.open_incidents(connection), now):
                fact = None if since is None else utc_iso(since, timespec="seconds")
                self._open(connection, NoticeEvent.SUCCESS_OVERDUE, job, at=now, reason=Reason(ReasonCode.NO_SUCCESS, {"since": fact}))

    def _follow(self, connection: Transaction, event: Event) -> None:
        fire = None if event.scheduled_for is None else from_micros(event.scheduled_for)
        if event.kind in _STATUSES and event.run_id is not None:
            self._ping(connection, event)
            self._close_questions(connection, event, told=True)
        if event.kind is EventKind.APPROVAL_EXPIRED:
            self._close_questions(connection, event, told=False)
        if event.kind is EventKind.RUN_SUCCEEDED:
            for incident in store_notices.open_incidents(connection, event.job, CLOSED_BY_SUCCESS):
                self._close(connection, incident, event.at, run_id=event.run_id)
        elif event.kind is EventKind.JOB_RESUMED:
            for incident in store_notices.open_incidents(connection, event.job, [NoticeEvent.JOB_PAUSED]):
                self._close(connection, incident, event.at)
        elif (cause := _OPENED_BY.get(event.kind)) is not None and not _is_known(event):
            subject = event.run_id or "" if cause in QUESTIONS else ""
            if cause is NoticeEvent.APPROVAL_ASKED:
                self._close_answered(connection, event)
            about: dict[str, Any] = {"run_id": event.run_id, "fire": fire, "reason": event.reason, "number": event.number}
            self._open(connection, cause, event.job, at=event.at, subject=subject, **about)

    def _close_questions(self, connection: Transaction, event: Event, *, told: bool) -> None:
        """Closes what a run asked, where it asks nothing any more; that nobody answered is told as such."""
        asked = [one for one in store_notices.open_incidents(connection, event.job, QUESTIONS) if one.subject == event.run_id]
        if asked and not _is_asked(connection, asked[0].subject):
            for incident in asked:
                self._close_question(connection, incident, event.at, told=told)

    def _close_question(self, connection: Transaction, incident: Incident, at: datetime, *, told: bool = True) -> None:
        if told and incident.cause is NoticeEvent.APPROVAL_ASKED:
            self._close(connection, incident, at)
        else:
            store_notices.update_incident(connection, incident.id, closed_at=at)

    def _close_answered(self, connection: Transaction, event: Event) -> None:
        """Closes the incident of an earlier question of the run, which was answered meanwhile: this one is told too."""
        for incident in store_notices.open_incidents(connection, event.job, [NoticeEvent.APPROVAL_ASKED]):
            decision_id = incident.reason.facts.get("decision_id")
            before = tasks.get_decision(connection, decision_id) if isinstance(decision_id, str) else None
            if incident.subject == event.run_id and before is not None and before.status is not DecisionStatus.PENDING:
                self._close(connection, incident, event.at)

    def _open(
        self,
        connection: Transaction,
        cause: NoticeEvent,
        job: str,
        *,
        at: datetime,
        reason: Reason,
        subject: str = "",
        run_id: str | None = None,
        fire: datetime | None = None,
        number: int = 1,
    ) -> None:
        """Opens an incident, or counts one more event of the one that is open; it is told once enough have happened in a row."""
        same = [one for one in store_notices.open_incidents(connection, job, [cause]) if one.subject == subject]
        if same:
            values = {"events": same[0].events + number, "last_at": at, "run_id": run_id, "reason": reason}
            store_notices.update_incident(connection, same[0].id, **values, fire=fire)
            incident = store_notices.get_incident(connection, same[0].id)
            assert incident is not None
        else:
            incident = store_notices.insert_incident(
                connection, cause, at=at, job=job, subject=subject, run_id=run_id, fire=fire, reason=reason, events=number
            )
        if incident.told_at is None and (cause not in ENDED_BADLY or self._in_a_row(connection, job) >= self._routes.settings.notify_after):
            self._tell(connection, incident, at)

    @staticmethod
    def _in_a_row(connection: Transaction, job: str) -> int:
        """How often runs of the job ended badly since the last success, which closes all of these."""
        return sum(one.events for one in store_notices.open_incidents(connection, job, ENDED_BADLY))

    def _tell(self, connection: Transaction, incident: Incident, at: datetime) -> None:
        """Writes a notice of an open incident for each channel of its job: the first one, or a reminder."""
        self._write(connection, incident.cause, incident, self._routes.channels(incident.job), at)
        store_notices.update_incident(connection, incident.id, told_at=self._deployment.now(), notices=incident.notices + 1)

    def _close(self, connection: Transaction, incident: Incident, at: datetime, *, run_id: str | None = None) -> None:
        """Closes an incident, and tells so where it was told."""
        store_notices.update_incident(connection, incident.id, closed_at=at)
        channels = store_notices.channels_told(connection, incident.id)
        known = [name for name in channels if name in self._routes.settings.notify_channels]
        self._write(connection, NoticeEvent.RECOVERED, incident, known, at, run_id=run_id)

    def _write(
        self,
        connection: Transaction,
        event: NoticeEvent,
        incident: Incident,
        channels: Iterable[str],
        at: datetime,
        run_id: str | None = None,
    ) -> None:
        settings, names, now = self._routes.settings, tuple(channels), self._deployment.now()
        if not names or event not in settings.notify_events:
            return
        from taskpilot.messages.notices import notice_facts

        facts = notice_facts(
            event,
            incident,
            deployment=self._deployment.store.deployment,
            root=str(settings.root),
            at=at,
            next_fire=_next_fire(connection, incident.job, now),
            run_id=run_id,
        )
        shown = self._deployment.redactor.plain(facts)
        if event in QUESTIONS:
            shown = with_hidden_link(connection, shown, settings.public_url)
        held = None if settings.notify_quiet is None else settings.notify_quiet.until(now)
        for name in names:
            store_notices.insert_notice(
                connection, event, name, notice_id=new_id(), at=now, incident=incident, job=incident.job, run_id=run_id or incident.run_id,
                facts=shown, held_until=held,
            )  # fmt: skip

    def _ping(self, connection: Transaction, event: Event) -> None:
        """Writes the exit code of a run for its ping URLs."""
        assert event.run_id is not None
        code = int(exit_code(_STATUSES[event.kind], event.reason.cause))
        for name in self._routes.pings(event.job):
            store_notices.insert_notice(
                connection, NoticeEvent.PING, name, notice_id=new_id(), at=self._deployment.now(), job=event.job, run_id=event.run_id,
                facts={"exit_code": code},
            )  # fmt: skip

    def _is_reminded(self, incident: Incident, now: datetime) -> bool:
        if incident.told_at is None or incident.acknowledged_at is not None:
            return False
        # Of both signs: it may have been told while the clock was ahead.
        return abs(now - incident.told_at) >= self._routes.settings.notify_cooldown and incident.cause not in _TOLD_ONCE

    def _is_moot(self, connection: Transaction, incident: Incident) -> bool:
        """Whether a person answered what was asked, or the job is gone, or is not expected to run any more."""
        if incident.cause in QUESTIONS:
            return not _is_asked(connection, incident.subject)
        if not incident.job:
            return False
        if incident.cause is NoticeEvent.SUCCESS_OVERDUE:
            expected = incident.job in schedules.schedules_in_force(connection, [incident.job])
            return not expected or incident.job in schedules.pauses_in_force(connection)
        return not self._routes.knows(incident.job)

    def _overdue(self, connection: Transaction, standing: Iterable[Incident], now: datetime) -> list[tuple[str, datetime | None]]:
        """The jobs without a success for too long, of which no incident is open: those say why already."""
        # Late: a run with no channel to tell does not import it.
        from taskpilot.store.health_queries import last_successes
        from taskpilot.store.job_checks import job_checks_of
        from taskpilot.views.attention import stored_plans
        from taskpilot.views.overdue import without_success

        told = {one.job for one in standing}
        known, paused = schedules.schedules_in_force(connection), schedules.pauses_in_force(connection)
        plans = [plan for plan in stored_plans(known, job_checks_of(connection)) if plan.name not in paused and plan.name not in told]
        late = without_success(plans, known, last_successes(connection), now)
        return [(one.job, one.since) for one in late if self._routes.knows(one.job)]


def _is_known(event: Event) -> bool:
    """A person who pauses a job knows of it; that nobody answered is told as such, and not as a denial too."""
    if event.kind is EventKind.RUN_DENIED:
        return event.reason.code is ReasonCode.APPROVAL_EXPIRED
    return event.kind is EventKind.JOB_PAUSED and event.reason.code is not ReasonCode.REPEATED_FAILURES


def _is_asked(connection: Transaction, run_id: str) -> bool:
    """Whether a run still asks a person something."""
    run = runs.get_run(connection, run_id)
    if run is None or run.status is RunStatus.CANCELLED:
        return False
    if run.status is RunStatus.WAITING or tasks.pending_decisions(connection, run_id):
        return True
    if run.status in RESUMABLE | {RunStatus.RUNNING} and listings.uncertain_steps(connection, run_id):
        return True
    return bool(tasks.task_counts(connection, run_id).get(TaskStatus.REVIEW.value))


def _next_fire(connection: Transaction, job: str, now: datetime) -> datetime | None:
    force = schedules.schedules_in_force(connection, [job]).get(job) if job else None
    try:
        return None if force is None else schedule_of(force.schedule).next_after(now)
    except ValueError:
        # Of another version.
        return None
