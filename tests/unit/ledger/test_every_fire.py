"""Whatever schedulers, commands, clocks and crashes do: each fire has exactly one outcome, and the counters say what the rows say."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, cast, get_args

import pytest
from hypothesis import HealthCheck, Phase, example, given, note, settings
from hypothesis import strategies as st
from sqlalchemy import select

from taskpilot import Retry, RunContext, cron, every, job
from taskpilot.domain.runs import Outcome, RunStatus
from taskpilot.domain.schedule import Schedule
from taskpilot.domain.specs import CatchUp, Overlap
from taskpilot.jobs.decorator import job_spec
from taskpilot.ledger.admission import holds_lease
from taskpilot.ledger.claims import Claim, Definitions
from taskpilot.ledger.fires import Fires
from taskpilot.process.owner import is_gone
from taskpilot.schedules.schedule import catch_up_window, schedule_of
from taskpilot.store import tables
from taskpilot.store.database import Store
from taskpilot.store.runs import all_active_runs
from taskpilot.store.schedules import begin_pause, end_pause, pauses_in_force, schedules_in_force
from tests.spine import Spine

KEPT = {"store_info"}
SCHEDULES = (cron("* * * * *"), cron("*/7 * * * *"), cron("0 * * * *", timezone="Europe/Berlin"), every("15s"), every("11m"), every("6h"))
STEPS = (1, 20, 31, 50, 70, 400, 4_000, 90_000)
ACTIONS = (
    "pass",
    "pass",
    "pass",
    "take",
    "take",
    "take",
    "auto",
    "old",
    "odd",
    "future",
    "pause",
    "resume",
    "missed",
    "back",
    "stale pass",
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spine]:
    spine = Spine(Path(tmp_path_factory.mktemp("fires")))
    yield spine
    spine.close()


def emptied(spine: Spine) -> None:
    """As a new store; making one takes a hundred times as long."""
    with spine.store.write() as connection:
        for table in reversed(tables.metadata.sorted_tables):
            if table.name not in KEPT:
                connection.execute(table.delete())


class Overtaken:
    """A store in which something else is done before the next write."""

    def __init__(self, store: Store, before_write: Callable[[], None]) -> None:
        self.read = store.read
        self.deployment = store.deployment
        self._store = store
        self._before_write = before_write

    def write(self) -> Any:
        self._before_write()
        return self._store.write()


class Life:
    """Some weeks of one job, with two schedulers and a crontab line over it; every process may die between two calls."""

    def __init__(self, spine: Spine, seed: int, **options: Any) -> None:
        self.spine = spine
        self.random = Random(seed)
        self.claims: list[Claim] = []

        @job(name="one", **options)
        def one(ctx: RunContext) -> None:
            """Do nothing."""

        self.job = one
        self.spec = job_spec(one)
        assert self.spec.schedule is not None
        self.schedule: Schedule = self.spec.schedule
        self.folder = spine.defined(one)
        self.begin = spine.clock()

    def go(self, actions: int) -> None:
        for _ in range(actions):
            self.spine.later(self.random.choice(STEPS[: self.random.randint(1, len(STEPS))]))
            if self.random.random() < 0.6:
                self.spine.awake(self.random.choice(("one", "two")))
            getattr(self, "do_" + self.random.choice(ACTIONS).replace(" ", "_"))()
            while self.claims and self.random.random() < 0.6:
                self.ended(self.claims.pop())
        self.do_pass()

    def do_pass(self) -> None:
        asleep = self.spine.clock() - timedelta(minutes=5) if self.random.random() < 0.3 else None
        self.spine.fires.claim_due(self.folder, asleep_since=asleep)

    def do_stale_pass(self) -> None:
        """A scheduler that stood still between looking and claiming: another one was quicker."""
        Fires(cast("Store", Overtaken(self.spine.store, self.do_pass)), is_gone=is_gone, now=self.spine.clock).claim_due(self.folder)

    def do_break(self) -> None:
        self.folder = Definitions({}, {"one": "one.py:1 SyntaxError"})

    def do_mend(self) -> None:
        self.folder = self.spine.defined(self.job)

    def do_take(self) -> None:
        # Who takes is awake, and commands leave its queue to it.
        self.spine.awake("one")
        self.spine.ledger.reap()
        queue = self.spine.queue(places=self.random.randint(1, 4), random=self.random)
        queue.adopt(self.folder)
        for order in queue.take(self.folder, scheduler="one"):
            fate = self.random.random()
            if fate < 0.15:
                queue.requeue(order)
            elif fate < 0.7:
                self.start(order.scheduled_for, run_id=order.run_id)

    def start(self, scheduled_for: datetime | None, *, run_id: str | None = None) -> None:
        plan = self.spine.plan(self.job, scheduled_for=scheduled_for, run_id=run_id)
        found = self.spine.ledger.claim(plan) if run_id is None else self.spine.ledger.start_queued(plan)
        self.check_overlap()
        # One that is not kept here belongs to a process that died.
        if isinstance(found, Claim) and self.random.random() < 0.8:
            self.claims.append(found)

    def check_overlap(self) -> None:
        now = self.spine.clock.boot()
        with self.spine.store.read() as connection:
            alive = [row.id for row in all_active_runs(connection) if holds_lease(row, is_gone, now)]
        assert len(alive) <= 1 or self.spec.overlap == "allow_all", f"{alive} run at once"

    def ended(self, claim: Claim) -> None:
        if self.spine.ledger.renew(claim.grant, active_seconds=1):
            self.spine.ledger.end(claim.grant, Outcome(RunStatus.SUCCEEDED), active_seconds=1, keep_lease=False)

    def do_auto(self) -> None:
        now = self.spine.clock()
        fire = self.schedule.latest_at_or_before(now, within=catch_up_window(self.schedule, now))
        if fire is not None:
            self.start(fire)

    def do_old(self) -> None:
        since = max(self.begin, self.spine.clock() - timedelta(hours=self.random.randint(1, 48)))
        fire = self.schedule.next_after(since)
        if fire is not None and fire <= self.spine.clock():
            self.start(fire)

    def do_odd(self) -> None:
        """By hand, for a time that is no fire of the schedule."""
        self.start(self.spine.clock() - timedelta(seconds=self.random.randint(0, 7_200), microseconds=3))

    def do_future(self) -> None:
        fire = self.schedule.next_after(self.spine.clock() + timedelta(days=self.random.randint(0, 2)))
        if fire is not None:
            self.start(fire)

    def do_pause(self) -> None:
        with self.spine.store.write() as connection:
            if not pauses_in_force(connection):
                begin_pause(connection, "one", by="anna", note="", now=self.spine.clock())

    def do_resume(self) -> None:
        with self.spine.store.write() as connection:
            end_pause(connection, "one", by="anna", note="", now=self.spine.clock())

    def do_missed(self) -> None:
        self.spine.fires.close_missed(self.folder)

    def do_back(self) -> None:
        # After a longer step the times come once more: see test_clock_steps.
        self.spine.clock.set(self.spine.clock() - timedelta(seconds=self.random.choice((1, 15, 29))))


def check(life: Life) -> None:
    """Each fire of the schedule from its begin up to the cursor: a row, or a place in exactly one gap; each counted once."""
    spine = life.spine
    rows, gaps = spine.outcomes("one"), spine.gaps("one")
    with spine.store.read() as connection:
        cursor = schedules_in_force(connection)["one"].cursor
        runs = [row.scheduled_for for row in connection.execute(select(tables.runs.c.scheduled_for))]
    assert cursor is not None
    assert cursor >= life.begin
    counted = Counter({outcome: number for outcome, number in Counter(rows.values()).items() if outcome != "buffered"})
    places: Counter[datetime] = Counter()
    for gap in gaps:
        covered = [fire for fire in schedule_of(gap.schedule).between(gap.first - timedelta(microseconds=1), gap.last) if fire not in rows]
        assert len(covered) == gap.count, gap
        places.update(covered)
        counted[str(gap.outcome)] += gap.count
    for fire in life.schedule.between(life.begin, cursor):
        assert (fire in rows) + places[fire] == 1, f"{fire} has {rows.get(fire)} and {places[fire]} places in gaps"
    assert max(places.values(), default=1) == 1
    assert all(gap.last <= gap.recorded_at for gap in gaps), "a gap reaches into the future"
    for when in (when for when, outcome in rows.items() if outcome in ("missed", "coalesced")):
        fire = spine.fire("one", when)
        assert fire is not None
        assert when <= fire.recorded_at, "a fire was given up before its time"
    totals = {json.loads(labels)["outcome"]: value for labels, value in spine.total("taskpilot_fires_total").items()}
    assert totals == dict(counted)
    assert max(Counter(runs).values(), default=1) == 1, "a fire was started twice"
    assert sum(outcome == "started" for outcome in rows.values()) == len(runs)


@settings(
    max_examples=25,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    derandomize=False,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    seed=st.integers(0, 2**32),
    schedule=st.sampled_from(SCHEDULES),
    overlap=st.sampled_from(get_args(Overlap)),
    catch_up=st.sampled_from(get_args(CatchUp)),
    limit=st.sampled_from((1, 3, 30)),
    start_deadline=st.sampled_from((None, "50s", "10m")),
    jitter=st.sampled_from((None, "45s")),
    attempts=st.sampled_from((1, 3)),
)
# A command that waited to start the fire of two days later was gone, and the fire was missed before its time.
@example(
    seed=130_135,
    schedule=every("11m"),
    overlap="cancel_other",
    catch_up="skip",
    limit=30,
    start_deadline="50s",
    jitter="45s",
    attempts=3,
)
@pytest.mark.slow
def test_each_fire_has_exactly_one_outcome(
    shared: Spine,
    *,
    seed: int,
    schedule: Schedule,
    overlap: Any,
    catch_up: Any,
    limit: int,
    start_deadline: str | None,
    jitter: str | None,
    attempts: int,
) -> None:
    note(f"seed {seed}")
    emptied(shared)
    life = Life(
        shared,
        seed,
        schedule=schedule,
        overlap=overlap,
        catch_up=catch_up,
        catch_up_limit=limit,
        start_deadline=start_deadline,
        jitter=jitter,
        retry=Retry(attempts=attempts),
    )
    life.go(40)
    check(life)
