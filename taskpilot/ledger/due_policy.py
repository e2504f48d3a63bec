"""Decides the outcome of due fires: pure functions of the recorded state."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from taskpilot.domain.fires import PUNCTUAL, Fire, Gap
from taskpilot.domain.reasons import NO_REASON, Fact, Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome
from taskpilot.domain.specs import JobSpec
from taskpilot.domain.times import utc_iso
from taskpilot.schedules.schedule import start_delay

ROWS_MAX: Final = 20
"""More fires with one outcome than this become one gap: a month of missed seconds is one row."""
GRACE: Final = timedelta(seconds=10)
"""From SIGTERM to SIGKILL."""


@dataclass(frozen=True, slots=True)
class OverlapPolicy:
    """The treatment of a fire while another run of its job is active, or another fire waits to start."""

    concurrent: bool = False
    """It starts at once, at the same time as the other."""
    queue: int | None = None
    """So many fires may wait, and further ones are skipped; None: any number."""
    cancel_grace: timedelta | None = None
    """The active run is ended, with this grace time, and the waiting fires are skipped; None: neither."""

    def refusal(self, active_run: str | None, waiting: Sequence[datetime]) -> Reason | None:
        """Why a further fire is skipped; None where it may wait."""
        if self.queue is None or len(waiting) < self.queue:
            return None
        return busy_reason(active_run, waiting, queue_full=self.queue > 0)


OVERLAP: Final[Mapping[str, OverlapPolicy]] = {
    "skip": OverlapPolicy(queue=0),
    "buffer_one": OverlapPolicy(queue=1),
    "buffer_all": OverlapPolicy(),
    "cancel_other": OverlapPolicy(cancel_grace=GRACE),
    "terminate_other": OverlapPolicy(cancel_grace=timedelta(0)),
    "allow_all": OverlapPolicy(concurrent=True),
}
"""The policies by their names in `@job(overlap=...)`; no other code compares the names."""


def busy_reason(active_run: str | None, waiting: Sequence[datetime], *, queue_full: bool = False) -> Reason:
    """What a fire waits for: the active run, or the first waiting fire where there is no run or the queue is full."""
    run: dict[str, Fact] = {} if active_run is None else {"run_id": active_run}
    if waiting and (queue_full or active_run is None):
        return Reason(ReasonCode.FIRE_WAITING, {"fire": utc_iso(waiting[0]), **run})
    return Reason(ReasonCode.RUN_ACTIVE, run)


def waiting_refusal(spec: JobSpec, waiting_run: str) -> Reason | None:
    """Why a fire is skipped while a run of its job waits for a person; None where it is not.

    It is not put behind that run, and does not end it: an answer may take days, and the fires would pile up.
    """
    counts = spec.overlap_waiting == "count" and not OVERLAP[spec.overlap].concurrent
    return Reason(ReasonCode.RUN_WAITING, {"run_id": waiting_run}) if counts else None


@dataclass(frozen=True, slots=True)
class Span:
    """Fires that are too old to be caught up, as a range."""

    first: datetime
    last: datetime
    count: int


@dataclass(frozen=True, slots=True)
class Due:
    """The due fires of one job that have no outcome yet."""

    job: str
    schedule: str
    old: Span | None
    """Those that are too old to be caught up."""
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
    """The recorded state of a job."""

    broken: str | None = None
    """The error of its job file, where it is broken."""
    active_run: str | None = None
    """A run of it that is queued or running."""
    waiting_run: str | None = None
    """A run of it that waits for a person."""
    waiting: tuple[datetime, ...] = ()
    """Its buffered fires, ascending."""
    deployment: str = ""
    """The name of the deployment, which jitter depends on."""
    not_met: Mapping[str, Fact] = field(default_factory=lambda: {"unseen": "late"})
    """Why a late fire was not claimed at its time: the facts `NOT_MET`."""


@dataclass(slots=True)
class Stagger:
    """Spreads the starts of runs that catch up, over all jobs."""

    next_start: datetime

    def take(self, apart: timedelta) -> datetime:
        """When the next one may start."""
        start = self.next_start
        self.next_start = start + apart
        return start


@dataclass(slots=True)
class Judgement:
    """The outcomes of one job's fires."""

    fires: list[Fire] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    replaced: list[tuple[datetime, Reason]] = field(default_factory=list)
    """Earlier buffered fires that a newer one replaces."""
    ends_active: bool = False
    """The active run is to be ended for the newest fire."""


def judge(due: Due, spec: JobSpec | None, snapshot: JobSnapshot, *, now: datetime, stagger: Stagger) -> Judgement:
    """The outcome of each due fire, by the job's policies. `spec` is None where the job's file is broken."""
    found = Judgement()
    if spec is None:
        reason = Reason(ReasonCode.JOB_BROKEN, {"error": snapshot.broken or ""})
        close(found, due, due.recent, FireOutcome.BLOCKED_CONFIG, reason, now, old=due.old)
        return found
    late = [fire for fire in due.recent if fire <= now - PUNCTUAL]
    punctual = [fire for fire in due.recent if fire > now - PUNCTUAL]
    caught_up = _catch_up(found, due, late, punctual, spec, snapshot.not_met, now) if late or due.old else []
    _admit(found, due, caught_up, punctual, spec, snapshot, now, stagger)
    return found


def _catch_up(
    found: Judgement,
    due: Due,
    late: list[datetime],
    punctual: list[datetime],
    spec: JobSpec,
    not_met: Mapping[str, Fact],
    now: datetime,
) -> list[datetime]:
    """Closes the late fires that are not caught up, and returns the others."""
    stale = [fire for fire in late if fire < now - due.window]
    too_old = Reason(ReasonCode.CATCH_UP_WINDOW_PASSED, {"window_seconds": due.window.total_seconds(), **not_met})
    close(found, due, stale, FireOutcome.MISSED, too_old, now, old=due.old)
    expired = [fire for fire in late[len(stale) :] if start_deadline_passed(spec, fire, now)]
    close(found, due, expired, FireOutcome.MISSED, start_deadline_reason(spec).with_facts(**not_met), now)
    fresh = late[len(stale) + len(expired) :]
    if spec.catch_up == "skip":
        close(found, due, fresh, FireOutcome.MISSED, Reason(ReasonCode.CATCH_UP_OFF, not_met), now)
        return []
    if spec.catch_up == "last":
        chosen = [] if punctual else fresh[-1:]
        covered = fresh[: len(fresh) - len(chosen)]
        successor = utc_iso((chosen or punctual or [now])[-1])
        close(found, due, covered, FireOutcome.COALESCED, Reason(ReasonCode.CAUGHT_UP_BY, {"fire": successor, **not_met}), now)
        return chosen
    over = fresh[: max(0, len(fresh) - spec.catch_up_limit)]
    close(found, due, over, FireOutcome.MISSED, Reason(ReasonCode.CATCH_UP_LIMIT, {"limit": spec.catch_up_limit, **not_met}), now)
    return fresh[len(over) :]


def _admit(
    found: Judgement,
    due: Due,
    caught_up: list[datetime],
    punctual: list[datetime],
    spec: JobSpec,
    snapshot: JobSnapshot,
    now: datetime,
    stagger: Stagger,
) -> None:
    """Buffers the fires that may start or wait, and skips the others."""
    policy = OVERLAP[spec.overlap]
    waiting = list(snapshot.waiting)
    # With catch_up="all" no fire is skipped because the job's own fires wait.
    everything = bool(caught_up) and spec.catch_up == "all"
    for fire in (*caught_up, *punctual):
        late = fire in caught_up
        if not late and start_deadline_passed(spec, fire, now):
            found.fires.append(_final_fire(due.job, fire, FireOutcome.MISSED, start_deadline_reason(spec), now))
            continue
        if snapshot.waiting_run is not None and (refusal := waiting_refusal(spec, snapshot.waiting_run)) is not None:
            found.fires.append(_final_fire(due.job, fire, FireOutcome.SKIPPED_OVERLAP, refusal, now))
            continue
        busy = not policy.concurrent and (snapshot.active_run is not None or bool(waiting))
        if busy and not everything and (refusal := policy.refusal(snapshot.active_run, waiting)) is not None:
            found.fires.append(_final_fire(due.job, fire, FireOutcome.SKIPPED_OVERLAP, refusal, now))
            continue
        reason = busy_reason(snapshot.active_run, waiting) if busy else NO_REASON
        if busy and not everything and policy.cancel_grace is not None:
            _replace(found, waiting, due.job, fire, now)
            found.ends_active = snapshot.active_run is not None
            waiting = []
        start = stagger.take(spec.catch_up_stagger) if late else fire + _delay(due.job, fire, spec, snapshot)
        found.fires.append(Fire(due.job, fire, FireOutcome.BUFFERED, None, reason, now, start))
        waiting.append(fire)


def _replace(found: Judgement, waiting: Sequence[datetime], job: str, by: datetime, now: datetime) -> None:
    """Skips the waiting fires in favour of a newer one."""
    reason = Reason(ReasonCode.REPLACED, {"fire": utc_iso(by)})
    for fire in waiting:
        mine = next((index for index, one in enumerate(found.fires) if one.scheduled_for == fire), None)
        if mine is None:
            found.replaced.append((fire, reason))
        else:
            found.fires[mine] = _final_fire(job, fire, FireOutcome.SKIPPED_OVERLAP, reason, now)


def start_deadline_passed(spec: JobSpec, fire: datetime, now: datetime) -> bool:
    """Whether a fire is too late to start."""
    return spec.start_deadline is not None and now > fire + spec.start_deadline


def start_deadline_reason(spec: JobSpec) -> Reason:
    """Why a fire that waited too long is missed."""
    return Reason(ReasonCode.START_DEADLINE, {"deadline_seconds": (spec.start_deadline or timedelta(0)).total_seconds()})


def close(
    found: Judgement, due: Due, fires: Sequence[datetime], outcome: FireOutcome, reason: Reason, now: datetime, *, old: Span | None = None
) -> None:
    """Gives fires, and those of `old`, one final outcome: rows where they are few, one gap where they are many."""
    first, last, count = (old.first, old.last, old.count) if old else (None, None, 0)
    if old is None and len(fires) <= ROWS_MAX:
        found.fires.extend(_final_fire(due.job, fire, outcome, reason, now) for fire in fires)
        return
    if fires:
        first, last, count = first or fires[0], fires[-1], count + len(fires)
    if first is not None and last is not None:
        found.gaps.append(Gap(due.job, first, last, count, outcome, reason, due.schedule, now))


def _final_fire(job: str, fire: datetime, outcome: FireOutcome, reason: Reason, now: datetime) -> Fire:
    return Fire(job, fire, outcome, None, reason, now)


def _delay(job: str, fire: datetime, spec: JobSpec, snapshot: JobSnapshot) -> timedelta:
    return start_delay(job, fire, jitter=spec.jitter, salt=snapshot.deployment) if spec.jitter else spec.jitter


def counted(judgement: Judgement) -> dict[FireOutcome, int]:
    """How many fires got each final outcome, in rows and gaps together; buffered ones are not counted yet."""
    final: list[FireOutcome] = [fire.outcome for fire in judgement.fires if fire.outcome is not FireOutcome.BUFFERED]
    if not final and not judgement.gaps:
        return {}
    numbers = Counter(final)
    for gap in judgement.gaps:
        numbers[gap.outcome] += gap.count
    return dict(numbers)
