"""Finds what a person should know of, from the stored rows alone: one list for status, health, jobs, page and golden signals."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from taskpilot.domain.attention import BAD, Attention, AttentionKind, kind_of_run
from taskpilot.domain.fires import ClockEventKind, Fire, Gap, Pause, ScheduleInForce, SchedulerStatus
from taskpilot.domain.reasons import Fact, Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome, Run, RunStatus
from taskpilot.domain.schedule import Schedule
from taskpilot.domain.times import utc_iso
from taskpilot.messages.attention import attention_command, attention_sentence, commanded
from taskpilot.messages.shapes import iso
from taskpilot.schedules.schedule import schedule_of
from taskpilot.store import fires, health_queries, night_queries, schedules
from taskpilot.store.database import Transaction
from taskpilot.store.job_checks import JobCheck, job_checks_of
from taskpilot.store.notices import FailingChannel, failing_channels
from taskpilot.views.overdue import Planned, unmet_fires, without_success

_EVENING: Final = timedelta(hours=6)
"""Before midnight: the night begins at 18:00."""
DEADLINE: Final = timedelta(hours=1)
"""The default of `@job`: of a job whose file no server has read yet."""
_ORDER: Final = tuple(AttentionKind)
_BY_TASKPILOT: Final = "taskpilot"
"""Who pauses a job after repeated failures."""


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """What the store has of a job's plan."""

    name: str
    schedule: Schedule | None
    deadline: timedelta
    catch_up_window: timedelta | None


def stored_plans(known: Mapping[str, ScheduleInForce], checks: Mapping[str, JobCheck]) -> list[StoredPlan]:
    """The plans of all jobs that have a schedule; one of another version that cannot be read is left out."""
    plans = []
    for job, force in known.items():
        check = checks.get(job)
        try:
            schedule = schedule_of(force.schedule)
        except ValueError:
            continue
        plans.append(StoredPlan(job, schedule, (check and check.deadline) or DEADLINE, check.catch_up_window if check else None))
    return plans


def find_attention(
    connection: Transaction, *, since: datetime, now: datetime, server: SchedulerStatus, plans: Iterable[Planned] | None = None
) -> list[Attention]:
    """What happened since, and what still is so; what needs a person comes first.

    `server`: one that is awake settles what is due by itself, and what it found about jobs counts until it is stopped. `plans` are the
    jobs as their files have them, where those are loaded already.
    """
    known, checks = schedules.schedules_in_force(connection), job_checks_of(connection)
    paused, successes = schedules.pauses_in_force(connection), health_queries.last_successes(connection)
    expected = list(stored_plans(known, checks) if plans is None else plans)
    active = [plan for plan in expected if plan.name not in paused]
    found = [
        *_runs(connection, since, known, successes),
        *_fires(connection, since, successes),
        *(_checked(check) for check in checks.values() if check.reason and server is not SchedulerStatus.ABSENT),
        *map(_pause, paused.values()),
        *map(_notices, failing_channels(connection, since)),
        *_clock(connection, since),
    ]
    if not server.awake:
        claimed = fires.fires_after_cursors(connection, known)
        unmet = unmet_fires(active, known, claimed, now)
        reason = Reason(ReasonCode.NOBODY_CLAIMED)
        found += [Attention(AttentionKind.MISSED, one.job, one.since, reason, fire=one.since) for one in unmet]
    told = {one.job for one in found if not one.settled}
    for late in without_success(active, known, successes, now):
        if late.job not in told:
            kind = AttentionKind.NEVER_SUCCEEDED if late.since is None else AttentionKind.SUCCESS_TOO_OLD
            fact = None if late.since is None else utc_iso(late.since, timespec="seconds")
            found.append(Attention(kind, late.job, late.since, Reason(ReasonCode.NO_SUCCESS, {"since": fact})))
    return sorted(_together(found), key=lambda one: (one.settled, _ORDER.index(one.kind), one.job or ""))


def yesterday_evening(now: datetime) -> datetime:
    """Yesterday 18:00 in the zone of this machine."""
    midnight = now.astimezone().replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    return (midnight - _EVENING).astimezone()


def attention_json(one: Attention, command: Callable[[Sequence[str]], str] = commanded) -> dict[str, Any]:
    """One as a JSON value; `command` makes a line to paste from the words after `taskpilot`."""
    return {
        "kind": one.kind.value,
        "job": one.job,
        "run_id": one.run_id,
        "fire": iso(one.fire),
        "reason": attention_sentence(one),
        "reason_code": one.reason.code.value,
        "reason_facts": dict(one.reason.facts),
        "command": command(attention_command(one)),
    }


def open_by_job(found: Iterable[Attention]) -> dict[str, Attention]:
    """For each job that needs a person, the first of its kinds."""
    needed: dict[str, Attention] = {}
    for one in found:
        if one.job is not None and not one.settled:
            needed.setdefault(one.job, one)
    return needed


def _runs(connection: Transaction, since: datetime, known: Collection[str], successes: Mapping[str, datetime]) -> Iterable[Attention]:
    ended: dict[str, Run] = {run.id: run for run in night_queries.bad_runs(connection, since, BAD)}
    # Of a job with a schedule, a last run that ended badly counts for as long as it is the last.
    ended |= {run.id: run for run in night_queries.last_bad_runs(connection, known, BAD)}
    ended |= {run.id: run for run in night_queries.waiting_runs(connection)}
    asking = {run.job for run in ended.values() if run.status is RunStatus.WAITING}
    skipped = night_queries.skipped_behind(connection, asking, since) if asking else {}
    for run in ended.values():
        kind, success = kind_of_run(run.status, run.reason.code), successes.get(run.job)
        if kind is not None:
            settled = run.ended_at is not None and success is not None and success > run.ended_at
            behind = skipped.get(run.job, 0) if run.status is RunStatus.WAITING else 0
            at = run.ended_at or run.started_at or run.created_at
            yield Attention(kind, run.job, at, run.reason, run.id, run.scheduled_for, skipped=behind, settled=settled)


def _fires(connection: Transaction, since: datetime, successes: Mapping[str, datetime]) -> Iterable[Attention]:
    last = {(one.job, _instant(one)): one for one in night_queries.last_fires_not_run(connection)}
    others = {(one.job, _instant(one)): one for one in night_queries.fires_not_run(connection, since)}
    for key, one in (others | last).items():
        kind = AttentionKind.MISSED if one.outcome is FireOutcome.MISSED else AttentionKind.BLOCKED
        if one.reason.code is ReasonCode.JOB_BROKEN:
            kind = AttentionKind.BROKEN
        success = successes.get(one.job)
        settled = key not in last or (success is not None and success > one.recorded_at)
        count = 1 if isinstance(one, Fire) else one.count
        yield Attention(kind, one.job, key[1], one.reason, fire=key[1], count=count, settled=settled)


def _instant(one: Fire | Gap) -> datetime:
    return one.scheduled_for if isinstance(one, Fire) else one.last


def _checked(check: JobCheck) -> Attention:
    """A job that the server found unable to start. One without a schedule is told too: a person or the API may start it."""
    kind = AttentionKind.BROKEN if check.reason.code is ReasonCode.JOB_BROKEN else AttentionKind.BLOCKED
    return Attention(kind, check.job, None, check.reason, count=0)


def _pause(pause: Pause) -> Attention:
    settled = pause.paused_by != _BY_TASKPILOT
    return Attention(AttentionKind.PAUSED, pause.job, pause.paused_at, pause.reason(), settled=settled)


def _notices(failing: FailingChannel) -> Attention:
    facts: dict[str, Fact] = {"channel": failing.channel, "notices": failing.notices, "error": failing.error}
    return Attention(AttentionKind.NOTICE_FAILED, None, failing.since, Reason(ReasonCode.NOTICE_FAILED, facts))


def _clock(connection: Transaction, since: datetime) -> Iterable[Attention]:
    for event in night_queries.clock_events_since(connection, since):
        if event.kind is not ClockEventKind.ASLEEP:
            facts = {"from": utc_iso(event.start, timespec="seconds"), "to": utc_iso(event.end, timespec="seconds")}
            yield Attention(AttentionKind.CLOCK, None, event.end, Reason(ReasonCode.CLOCK_SET, facts))


def _together(found: Iterable[Attention]) -> list[Attention]:
    """One for each job and kind: the newest, with the number of all; where one of them needs a person, it is one of those."""
    merged: dict[tuple[str | None, AttentionKind], Attention] = {}
    for one in found:
        before = merged.get((one.job, one.kind))
        if before is None:
            merged[one.job, one.kind] = one
            continue
        first, other = (one, before) if _weight(one) > _weight(before) else (before, one)
        merged[one.job, one.kind] = replace(first, count=one.count + before.count, fire=first.fire or other.fire)
    return [one if one.count else replace(one, count=1) for one in merged.values()]


def _weight(one: Attention) -> tuple[bool, bool, float]:
    """The check of the server says what is so now: it comes before the fire that was blocked."""
    return not one.settled, one.at is None, 0.0 if one.at is None else one.at.timestamp()
