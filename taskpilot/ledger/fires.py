"""Claims every fire that is due, with its outcome, in one transaction with the cursors."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from taskpilot.domain.fires import PUNCTUAL, ScheduleInForce
from taskpilot.domain.instruments import FIRES
from taskpilot.domain.moments import from_micros, to_micros
from taskpilot.domain.runs import FireOutcome
from taskpilot.domain.schedule import Schedule, catch_up_window
from taskpilot.domain.schedule_text import schedule_of
from taskpilot.domain.specs import JobSpec
from taskpilot.ledger.cancelling import ask_to_end
from taskpilot.ledger.claims import Claimed, Definitions
from taskpilot.ledger.judging import ROWS_MAX, Due, Judgement, Span, Stagger, Standing, close, counted, judge
from taskpilot.ledger.leases import IsGone, active_job_runs
from taskpilot.store import fires, schedules, totals
from taskpilot.store.database import Store, Transaction
from taskpilot.store.schedulers import awake_schedulers

NOBODY: Final = "nothing started it: no scheduler was awake, and no command claimed it"
_TICK: Final = timedelta(microseconds=1)


class Fires:
    """Transactions over fires and cursors. Who claims first gives a fire its outcome; who comes later finds nothing due."""

    def __init__(self, store: Store, *, is_gone: IsGone, now: Callable[[], datetime]) -> None:
        self._store = store
        self._is_gone = is_gone
        self._now = now

    def claim_due(
        self,
        jobs: Definitions,
        *,
        only: Collection[str] | None = None,
        asleep_since: datetime | None = None,
        excuse: str | None = None,
    ) -> Claimed:
        """Gives every open fire up to now its outcome: into the queue, or closed. Raises StoreBusy or StoreError with nothing claimed.

        `only`: the jobs that are looked at, all where it is None. `asleep_since`: since when no scheduler was awake, where none was.
        `excuse`: why else a fire is met late.
        """
        now = self._now()
        with self._store.read() as connection:
            seen = schedules.schedules_in_force(connection, only)
        alike: dict[_Likeness, Due] = {}
        found = {job: _due(force, jobs.specs.get(job), now, alike) for job, force in seen.items() if jobs.knows(job)}
        found = {job: due for job, due in found.items() if not due.is_empty}
        if not found:
            return Claimed()
        with self._store.write() as connection:
            # A cursor that moved meanwhile: another scheduler has claimed these.
            unmoved = schedules.unmoved(connection, {job: seen[job] for job in found})
            mine = {job: due for job, due in found.items() if job in unmoved}
            if not mine:
                return Claimed()
            return self._claim(connection, _without_taken(connection, mine), jobs, asleep_since, excuse, now)

    def follow_command(self, connection: Transaction, spec: JobSpec, claimed: datetime) -> None:
        """Where no server is awake: the fires before the one that a command claims are missed, or caught up for by it."""
        now = self._now()
        if spec.schedule is None or awake_schedulers(connection, now):
            return
        force = schedules.schedules_in_force(connection, [spec.name]).get(spec.name)
        if force is None or force.schedule != spec.schedule.describe():
            if force is not None:
                end_schedule(connection, force, None, now)
            schedules.begin_schedules(connection, {spec.name: spec.schedule.describe()}, min(claimed, now))
        # A person may claim a fire that is still to come: those before it are due in their own time.
        elif claimed <= now and spec.schedule.next_after(claimed - _TICK) == claimed:
            stale = now - _window(spec, now)
            close_open(connection, force, min(stale, claimed - _TICK), FireOutcome.MISSED, NOBODY, now)
            covered = FireOutcome.MISSED if spec.catch_up == "skip" else FireOutcome.COALESCED
            reason = f"{NOBODY}; the fire of {_iso(claimed)} catches up for it"
            close_open(connection, force, claimed - _TICK, covered, NOBODY if spec.catch_up == "skip" else reason, now)
            schedules.move_cursors(connection, [spec.name], max(claimed, force.cursor or claimed))

    def close_missed(self, jobs: Definitions) -> Claimed:
        """Where no server is awake: closes the fires that nobody can claim any more, since their catch-up window has passed."""
        now = self._now()
        with self._store.read() as connection:
            if awake_schedulers(connection, now):
                return Claimed()
            seen = schedules.schedules_in_force(connection, jobs.specs)
            paused = schedules.pauses_in_force(connection)
        missed: dict[str, int] = {}
        held_back: dict[str, int] = {}
        for job, force in seen.items():
            spec = jobs.specs[job]
            until = now - max(_window(spec, now), PUNCTUAL)
            if spec.schedule is None or force.cursor is None or until <= force.cursor:
                continue
            pause = paused.get(job)
            with self._store.write() as connection:
                before = until if pause is None else min(until, pause.paused_at)
                missed[job] = close_open(connection, force, before, FireOutcome.MISSED, NOBODY, now)
                if pause is not None:
                    held_back[job] = close_open(connection, force, until, FireOutcome.PAUSED, str(pause), now)
        counts = {FireOutcome.MISSED: sum(missed.values()), FireOutcome.PAUSED: sum(held_back.values())}
        outcomes = {outcome: number for outcome, number in counts.items() if number}
        return Claimed(outcomes, frozenset(job for each in (missed, held_back) for job, number in each.items() if number))

    def _claim(
        self,
        connection: Transaction,
        due: Mapping[str, Due],
        jobs: Definitions,
        asleep_since: datetime | None,
        excuse: str | None,
        now: datetime,
    ) -> Claimed:
        paused = schedules.pauses_in_force(connection)
        active = active_job_runs(connection, self._is_gone, now)
        waiting = fires.waiting_fires(connection)
        stagger = Stagger(now)
        unseen = f"no scheduler was awake from {_iso(asleep_since)} to {_iso(now)}" if asleep_since else excuse or "it was met late"
        ordinary = Standing(unseen=unseen, deployment=self._store.deployment)
        others = paused.keys() | jobs.broken.keys() | active.keys() | waiting.keys()
        judged: dict[str, Judgement] = {}
        for job, one in due.items():
            standing = ordinary
            if job in others:
                standing = replace(
                    ordinary,
                    paused=str(paused[job]) if job in paused else None,
                    broken=jobs.broken.get(job),
                    active_run=active.get(job),
                    waiting=tuple(waiting.get(job, ())),
                )
            spec = jobs.specs.get(job)
            judged[job] = judge(one, spec, standing, now=now, stagger=stagger)
            if judged[job].ends_active and spec is not None:
                ask_to_end(connection, active[job], at_once=spec.overlap == "terminate_other", now=now)
        return _record(connection, judged, now)


def begin_and_end_schedules(store: Store, jobs: Definitions, *, now: datetime) -> list[str]:
    """Brings the record of schedules up to the definitions; gives the jobs that are gone from the folder.

    A new job is due from now on. A changed schedule never catches up: what the old one had open is missed.
    """
    with store.read() as connection:
        known = schedules.schedules_in_force(connection)
    texts = {job: spec.schedule.describe() for job, spec in jobs.specs.items() if spec.schedule is not None}
    ended = [job for job, force in known.items() if job not in jobs.broken and texts.get(job) != force.schedule]
    new = {job: text for job, text in texts.items() if job not in known or job in ended}
    if ended or new:
        with store.write() as connection:
            current = schedules.schedules_in_force(connection)
            for job in ended:
                # Another scheduler may have done the same since.
                if current.get(job) == known[job]:
                    end_schedule(connection, known[job], jobs.changed_at, now)
                    del current[job]
            schedules.begin_schedules(connection, {job: text for job, text in new.items() if job not in current}, now)
    return [job for job in known if not jobs.knows(job)]


def end_schedule(connection: Transaction, old: ScheduleInForce, changed_at: datetime | None, now: datetime) -> None:
    """Moves a schedule to the past as of the change; its open fires are missed."""
    assert old.cursor is not None
    until = min(max(changed_at or now, old.cursor), now)
    close_open(connection, old, until, FireOutcome.MISSED, f"its schedule was changed before anybody met it (it was {old.schedule})", now)
    schedules.end_schedule(connection, old, until=until)


def close_open(connection: Transaction, force: ScheduleInForce, until: datetime, outcome: FireOutcome, reason: str, now: datetime) -> int:
    """Gives every open fire up to `until` one outcome and moves the cursor there; gives how many they were.

    Nothing where the cursor is there already.
    """
    current = schedules.schedules_in_force(connection, [force.job]).get(force.job)
    if current is None or current.cursor is None or current.schedule != force.schedule or until <= current.cursor:
        return 0
    schedule = schedule_of(current.schedule)
    many = schedule.count_between(current.cursor, until) > ROWS_MAX
    due = _open(current, schedule, horizon=until if many else current.cursor, until=until)
    judgement = Judgement()
    for one in _without_taken(connection, {force.job: due}).values():
        close(judgement, one, one.recent, outcome, reason, now, old=one.old)
    _record(connection, {force.job: judgement}, until)
    return sum(counted(judgement).values())


def close_waiting(connection: Transaction, job: str, scheduled_for: datetime, outcome: FireOutcome, reason: str, *, now: datetime) -> bool:
    """Takes a fire out of the queue with its final outcome, and counts it; False where it is not in the queue any more."""
    if not fires.settle_fire(connection, job, scheduled_for, outcome, reason=reason, now=now):
        return False
    totals.add(connection, job, [totals.count(FIRES, outcome=outcome)])
    totals.touch(connection, job)
    return True


def _record(connection: Transaction, judged: Mapping[str, Judgement], cursor: datetime) -> Claimed:
    fires.insert_fires(connection, [fire for one in judged.values() for fire in one.fires])
    outcomes: dict[FireOutcome, int] = {}
    changed: set[str] = set()
    for job, one in judged.items():
        for gap in one.gaps:
            fires.insert_gap(connection, gap)
        for fire in one.replaced:
            close_waiting(connection, job, fire, FireOutcome.SKIPPED_OVERLAP, "a newer fire took its place", now=cursor)
        counts = counted(one)
        if counts:
            totals.add(connection, job, [totals.count(FIRES, number, outcome=outcome) for outcome, number in counts.items()])
            totals.touch(connection, job)
            changed.add(job)
        waiting = sum(fire.outcome is FireOutcome.BUFFERED for fire in one.fires)
        counts |= {FireOutcome.BUFFERED: waiting} if waiting else {}
        for outcome, number in counts.items():
            outcomes[outcome] = outcomes.get(outcome, 0) + number
    schedules.move_cursors(connection, judged, cursor)
    return Claimed(outcomes, frozenset(changed))


_Likeness = tuple[str, datetime | None, timedelta | None]
"""Jobs of one schedule, cursor and catch-up window have the same fires open: these are found once for all of them."""


def _due(force: ScheduleInForce, spec: JobSpec | None, now: datetime, alike: dict[_Likeness, Due]) -> Due:
    """What is open of a job; nothing where the record is behind the folder: `begin_and_end_schedules` comes first."""
    assert force.cursor is not None
    schedule = schedule_of(force.schedule) if spec is None else spec.schedule
    if schedule is None or schedule.describe() != force.schedule or force.cursor >= now:
        return Due(force.job, force.schedule, None, ())
    likeness = (force.schedule, force.cursor, timedelta(0) if spec is None else spec.catch_up_window)
    if likeness not in alike:
        window = _window(spec, now)
        # The tick: a fire that is exactly as old as the window may still be caught up.
        alike[likeness] = replace(_open(force, schedule, horizon=now - max(window, PUNCTUAL) - _TICK, until=now), window=window)
    like = alike[likeness]
    return Due(force.job, like.schedule, like.old, like.recent, like.window)


def _open(force: ScheduleInForce, schedule: Schedule, *, horizon: datetime, until: datetime) -> Due:
    """The fires in (cursor, until]: those after the horizon one by one."""
    assert force.cursor is not None
    start = max(force.cursor, horizon)
    recent = tuple(schedule.between(start, until))
    count = schedule.count_between(force.cursor, start) if start > force.cursor else 0
    old = None
    if count:
        first, last = schedule.next_after(force.cursor), schedule.latest_at_or_before(start, within=start - force.cursor)
        assert first is not None
        assert last is not None
        old = Span(first, last, count)
    return Due(force.job, force.schedule, old, recent)


def _without_taken(connection: Transaction, due: Mapping[str, Due]) -> dict[str, Due]:
    """The same without the fires that a command has claimed already by `--scheduled-for`."""
    taken = fires.fires_after_cursors(connection, due)
    return {job: _without(one, taken[job]) if job in taken else one for job, one in due.items()}


def _without(due: Due, taken: frozenset[int]) -> Due:
    old = due.old
    if old is not None:
        schedule = schedule_of(due.schedule)
        # A person may name a time that is no fire: it has a row, and is not among those that were counted.
        left = old.count - sum(_is_fire(schedule, old, from_micros(micros)) for micros in taken)
        old = Span(old.first, old.last, left) if left else None
    return replace(due, old=old, recent=tuple(fire for fire in due.recent if to_micros(fire) not in taken))


def _is_fire(schedule: Schedule, span: Span, moment: datetime) -> bool:
    return span.first <= moment <= span.last and schedule.next_after(moment - _TICK) == moment


def _window(spec: JobSpec | None, now: datetime) -> timedelta:
    if spec is None or spec.schedule is None:
        return timedelta(0)
    return catch_up_window(spec.schedule, now, chosen=spec.catch_up_window)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
