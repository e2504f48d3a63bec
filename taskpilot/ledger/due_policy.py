"""What is to become of the fires that are due: pure, decided from what the record says at one moment."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from taskpilot.domain.fires import PUNCTUAL, Fire, Gap
from taskpilot.domain.runs import FireOutcome
from taskpilot.domain.specs import JobSpec
from taskpilot.domain.times import format_duration, utc_iso
from taskpilot.schedules.schedule import start_delay

ROWS_MAX: Final = 20
"""More fires in a row with one outcome than this become one gap: a month of missed seconds is not a million rows."""
ENDS_OTHER: Final = ("cancel_other", "terminate_other")
"""Overlap policies under which a newer fire ends the run that is active."""


@dataclass(frozen=True, slots=True)
class Span:
    """Fires that are too old to be looked at one by one."""

    first: datetime
    last: datetime
    count: int


@dataclass(frozen=True, slots=True)
class Due:
    """The fires of one job that have no outcome yet, up to now."""

    job: str
    schedule: str
    old: Span | None
    """Older than anything that may still be caught up."""
    recent: tuple[datetime, ...]
    """The others, ascending."""
    window: timedelta = timedelta(0)
    """How old a fire may be and still be caught up."""

    @property
    def is_empty(self) -> bool:
        """Nothing is due."""
        return self.old is None and not self.recent


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """What the record says of a job at the moment of the judgement."""

    broken: str | None = None
    """Why its file cannot be used, where it cannot."""
    active_run: str | None = None
    """A run of it that is queued or running."""
    waiting: tuple[datetime, ...] = ()
    """Its buffered fires, ascending."""
    deployment: str = ""
    """Whose jitter it is."""
    unseen: str = ""
    """Why a late fire was not met at its time: "no scheduler was awake from ... to ..."."""


@dataclass(slots=True)
class Stagger:
    """Hands out the starts of runs that catch up, one after the other over all jobs."""

    next_start: datetime

    def take(self, apart: timedelta) -> datetime:
        """When the next one may start."""
        start = self.next_start
        self.next_start = start + apart
        return start


@dataclass(slots=True)
class Judgement:
    """What becomes of one job's fires."""

    fires: list[Fire] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    replaced: list[datetime] = field(default_factory=list)
    """Buffered fires of before that a newer one takes the place of."""
    ends_active: bool = False
    """The active run is to be ended for the newest fire."""


def judge(due: Due, spec: JobSpec | None, standing: JobSnapshot, *, now: datetime, stagger: Stagger) -> Judgement:
    """The outcome of each fire, by the job's policies. `spec` is None where the job's file is broken."""
    found = Judgement()
    if spec is None:
        close(found, due, due.recent, FireOutcome.BLOCKED_CONFIG, standing.broken or "its job file cannot be loaded", now, old=due.old)
        return found
    late = [fire for fire in due.recent if fire <= now - PUNCTUAL]
    punctual = [fire for fire in due.recent if fire > now - PUNCTUAL]
    caught_up = _catch_up(found, due, late, punctual, spec, standing, now) if late or due.old else []
    _admit(found, due, caught_up, punctual, spec, standing, now, stagger)
    return found


def _catch_up(
    found: Judgement,
    due: Due,
    late: list[datetime],
    punctual: list[datetime],
    spec: JobSpec,
    standing: JobSnapshot,
    now: datetime,
) -> list[datetime]:
    """Closes the late fires that are not to run, and gives those that are."""
    unseen = standing.unseen or "it was met too late"
    stale = [fire for fire in late if fire < now - due.window]
    too_old = f"{unseen}; its catch-up window of {format_duration(due.window)} has passed"
    close(found, due, stale, FireOutcome.MISSED, too_old, now, old=due.old)
    expired = [fire for fire in late[len(stale) :] if _too_late(spec, fire, now)]
    close(found, due, expired, FireOutcome.MISSED, f"{unseen}; {start_deadline_passed(spec)}", now)
    fresh = late[len(stale) + len(expired) :]
    if spec.catch_up == "skip":
        close(found, due, fresh, FireOutcome.MISSED, f'{unseen}; catch_up="skip"', now)
        return []
    if spec.catch_up == "last":
        chosen = [] if punctual else fresh[-1:]
        covered = fresh[: len(fresh) - len(chosen)]
        successor = (chosen or punctual or [now])[-1]
        close(found, due, covered, FireOutcome.COALESCED, f"{unseen}; the fire of {utc_iso(successor)} catches up for it", now)
        return chosen
    over = fresh[: max(0, len(fresh) - spec.catch_up_limit)]
    close(found, due, over, FireOutcome.MISSED, f"{unseen}; more than catch_up_limit={spec.catch_up_limit} later fires are caught up", now)
    return fresh[len(over) :]


def _admit(
    found: Judgement,
    due: Due,
    caught_up: list[datetime],
    punctual: list[datetime],
    spec: JobSpec,
    standing: JobSnapshot,
    now: datetime,
    stagger: Stagger,
) -> None:
    """Puts into the queue what may start, or is to wait for its turn."""
    waiting = list(standing.waiting)
    everything = bool(caught_up) and spec.catch_up == "all"
    for fire in (*caught_up, *punctual):
        late = fire in caught_up
        if not late and _too_late(spec, fire, now):
            found.fires.append(_closed(due.job, fire, FireOutcome.MISSED, start_deadline_passed(spec), now))
            continue
        busy = None if spec.overlap == "allow_all" else _busy(standing, waiting)
        # A job that catches up on everything leaves out nothing for the sake of its own queue.
        if busy is not None and not everything and _refuses(spec, waiting):
            found.fires.append(_closed(due.job, fire, FireOutcome.SKIPPED_OVERLAP, busy, now))
            continue
        if busy is not None and not everything and spec.overlap in ENDS_OTHER:
            _replace(found, waiting, due.job, fire, now)
            found.ends_active = standing.active_run is not None
            waiting = []
        start = stagger.take(spec.catch_up_stagger) if late else fire + _delay(due.job, fire, spec, standing)
        found.fires.append(_queued(due.job, fire, now, start, "" if busy is None else f"it waits: {busy}"))
        waiting.append(fire)


def _refuses(spec: JobSpec, waiting: Sequence[datetime]) -> bool:
    return spec.overlap == "skip" or (spec.overlap == "buffer_one" and bool(waiting))


def _replace(found: Judgement, waiting: Sequence[datetime], job: str, by: datetime, now: datetime) -> None:
    """A newer fire ends the active run and takes the place of what waits for it."""
    reason = f"the fire of {utc_iso(by)} took its place"
    for fire in waiting:
        mine = next((index for index, one in enumerate(found.fires) if one.scheduled_for == fire), None)
        if mine is None:
            found.replaced.append(fire)
        else:
            found.fires[mine] = _closed(job, fire, FireOutcome.SKIPPED_OVERLAP, reason, now)


def _busy(standing: JobSnapshot, waiting: Sequence[datetime]) -> str | None:
    if standing.active_run is not None:
        return f"run {standing.active_run} is active"
    return f"the fire of {utc_iso(waiting[0])} waits to start" if waiting else None


def _too_late(spec: JobSpec, fire: datetime, now: datetime) -> bool:
    return spec.start_deadline is not None and now > fire + spec.start_deadline


def start_deadline_passed(spec: JobSpec) -> str:
    """Why a fire that waited too long is missed."""
    return f"its start deadline of {format_duration(spec.start_deadline or timedelta(0))} passed before it could start"


def close(
    found: Judgement, due: Due, fires: Sequence[datetime], outcome: FireOutcome, reason: str, now: datetime, *, old: Span | None = None
) -> None:
    """Gives fires one final outcome: rows where they are few, one gap where they are many; `old` goes with them."""
    first, last, count = (old.first, old.last, old.count) if old else (None, None, 0)
    if old is None and len(fires) <= ROWS_MAX:
        found.fires.extend(_closed(due.job, fire, outcome, reason, now) for fire in fires)
        return
    if fires:
        first, last, count = first or fires[0], fires[-1], count + len(fires)
    if first is not None and last is not None:
        found.gaps.append(Gap(due.job, first, last, count, outcome, reason, due.schedule, now))


def _closed(job: str, fire: datetime, outcome: FireOutcome, reason: str, now: datetime) -> Fire:
    return Fire(job, fire, outcome, None, reason, now)


def _delay(job: str, fire: datetime, spec: JobSpec, standing: JobSnapshot) -> timedelta:
    return start_delay(job, fire, jitter=spec.jitter, salt=standing.deployment) if spec.jitter else spec.jitter


def _queued(job: str, fire: datetime, now: datetime, start_after: datetime, reason: str) -> Fire:
    return Fire(job, fire, FireOutcome.BUFFERED, None, reason, now, start_after)


def counted(judgement: Judgement) -> dict[FireOutcome, int]:
    """How many fires got each final outcome, in rows and gaps together; a buffered one is counted when it has its own."""
    final: list[FireOutcome] = [fire.outcome for fire in judgement.fires if fire.outcome is not FireOutcome.BUFFERED]
    if not final and not judgement.gaps:
        return {}
    numbers = Counter(final)
    for gap in judgement.gaps:
        numbers[gap.outcome] += gap.count
    return dict(numbers)
