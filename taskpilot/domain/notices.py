"""Incidents, and the notices that people get of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from enum import StrEnum
from typing import Any, Final

from taskpilot.domain.reasons import NO_REASON, Reason
from taskpilot.domain.times import local_instant

COOLDOWN: Final = timedelta(hours=4)
"""Between two notices of an open incident that nobody has acknowledged."""
EXPIRES: Final = timedelta(days=7)
"""A notice that could not be delivered for so long is given up."""
PING: Final = "ping"
"""The channel of the deployment's `ping_url`; that of a job is `ping:JOB`. No channel of the settings may have such a name."""


class NoticeEvent(StrEnum):
    """What a notice is about; most are the cause of an incident too."""

    RUN_FAILED = "run_failed"
    RUN_LOST = "run_lost"
    RUN_TIMED_OUT = "run_timed_out"
    RUN_DENIED = "run_denied"
    RUN_OVER_BUDGET = "run_over_budget"
    OUTCOME_FAILED = "outcome_failed"
    FIRE_MISSED = "fire_missed"
    FIRE_BLOCKED = "fire_blocked"
    APPROVAL_ASKED = "approval_asked"
    APPROVAL_EXPIRING = "approval_expiring"
    APPROVAL_EXPIRED = "approval_expired"
    JOB_PAUSED = "job_paused"
    SUCCESS_OVERDUE = "success_overdue"
    DRILL = "drill"
    RECOVERED = "recovered"
    REPORT = "report"
    TEST = "test"
    PING = "ping"
    """The end of a run, for a `ping_url`; not shown among the notices."""


ENDED_BADLY: Final = frozenset(
    {
        NoticeEvent.RUN_FAILED,
        NoticeEvent.RUN_LOST,
        NoticeEvent.RUN_TIMED_OUT,
        NoticeEvent.RUN_DENIED,
        NoticeEvent.RUN_OVER_BUDGET,
        NoticeEvent.OUTCOME_FAILED,
    }
)
"""The causes that `[notify] after` counts."""
CLOSED_BY_SUCCESS: Final = ENDED_BADLY | {
    NoticeEvent.FIRE_MISSED,
    NoticeEvent.FIRE_BLOCKED,
    NoticeEvent.SUCCESS_OVERDUE,
    NoticeEvent.APPROVAL_EXPIRED,
}
QUESTIONS: Final = frozenset({NoticeEvent.APPROVAL_ASKED, NoticeEvent.APPROVAL_EXPIRING})
"""The causes that end with an answer; of each run that asks there is one."""
SELECTABLE: Final = tuple(
    one for one in NoticeEvent if one not in (NoticeEvent.DRILL, NoticeEvent.REPORT, NoticeEvent.TEST, NoticeEvent.PING)
)
"""The events that `[notify] events` may name; the others are sent only where somebody asks for them."""


class IncidentState(StrEnum):
    """Where an incident stands."""

    PENDING = "pending"
    """Fewer failures in a row than `[notify] after`: nobody was told."""
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    """A person has seen it: no more reminders."""
    CLOSED = "closed"


class NoticeResult(StrEnum):
    """What became of a notice on its channel."""

    PENDING = "pending"
    """Not tried yet, or held until the quiet hours end."""
    DELIVERED = "delivered"
    FAILED = "failed"
    """It did not arrive; it is tried again unless it was given up."""
    UNKNOWN = "unknown"
    """It was sent and no answer came: it may have arrived. It is sent again with the same key."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """The daily hours in which no notice is sent, by the clock of this machine; they may pass midnight."""

    start: time
    end: time

    def __str__(self) -> str:
        """Like `22:00-07:00`."""
        return f"{self.start:%H:%M}-{self.end:%H:%M}"

    def until(self, now: datetime) -> datetime | None:
        """When the quiet hours that `now` lies in end; None outside of them."""
        today = now.astimezone().date()
        # By instants: on the day of a clock change, a time of the day occurs twice or not at all.
        for first in (today - timedelta(days=1), today):
            last = first if self.start < self.end else first + timedelta(days=1)
            end = local_instant(datetime.combine(last, self.end))
            if local_instant(datetime.combine(first, self.start)) <= now < end:
                return end
        return None


@dataclass(frozen=True, slots=True)
class Incident:
    """One job and cause, from the first notice to the recovery."""

    id: str
    job: str
    """Empty where it is about no job."""
    cause: NoticeEvent
    subject: str
    """The run that asks a person; empty for the other causes, of which a job has one open incident."""
    opened_at: datetime
    last_at: datetime
    events: int
    """How often it has happened since it was opened."""
    notices: int
    """The first one and the reminders; "recovered" is not counted."""
    told_at: datetime | None
    """When the last notice was written; None where there is none yet."""
    closed_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    note: str = ""
    run_id: str | None = None
    fire: datetime | None = None
    reason: Reason = NO_REASON

    @property
    def state(self) -> IncidentState:
        """Where it stands."""
        if self.closed_at is not None:
            return IncidentState.CLOSED
        if self.acknowledged_at is not None:
            return IncidentState.ACKNOWLEDGED
        return IncidentState.PENDING if self.told_at is None else IncidentState.OPEN


@dataclass(frozen=True, slots=True)
class Notice:
    """One message to one channel, with what became of it."""

    id: str
    """Also its `Idempotency-Key`, the same at each try."""
    event: NoticeEvent
    channel: str
    created_at: datetime
    incident_id: str | None = None
    job: str = ""
    run_id: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The JSON that the webhook sends, made when the notice was written."""
    held_until: datetime | None = None
    """The end of the quiet hours in which it was written."""
    due_at: datetime | None = None
    """When it is tried next; None where nothing is left to do."""
    result: NoticeResult = NoticeResult.PENDING
    attempts: int = 0
    delivered_at: datetime | None = None
    error: str | None = None

    @property
    def settled(self) -> bool:
        """Whether nothing more is tried."""
        return self.due_at is None
