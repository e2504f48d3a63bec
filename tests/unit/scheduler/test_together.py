"""Several schedulers on one store, called in random order: each fire has one outcome, and one start at most."""

import random
from collections import Counter
from datetime import timedelta

import pytest

from taskpilot.domain.times import from_micros
from taskpilot.schedules.schedule import cron, every
from tests.keeper import NOON, Keeper
from tests.unit.scheduler.conftest import Keep

pytestmark = pytest.mark.slow

SECOND = timedelta(seconds=1)
JOBS = {
    "secondly": 'schedule=every("1s")',
    "sevens": 'schedule=every("7s"), overlap="allow_all"',
    "minutely": 'schedule=cron("* * * * *"), overlap="buffer_one", catch_up="all"',
    "never_late": 'schedule=every("5s"), catch_up="skip", overlap="buffer_all"',
    "newest": 'schedule=every("3s"), overlap="cancel_other"',
}
SCHEDULES = {
    "secondly": every("1s"),
    "sevens": every("7s"),
    "minutely": cron("* * * * *"),
    "never_late": every("5s"),
    "newest": every("3s"),
}


@pytest.mark.parametrize("keepers", [2, 3])
def test_each_fire_has_one_outcome_with_any_order_of_schedulers(keep: Keep, keepers: int) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")  # noqa: T201 - it reproduces a failure.
    chance = random.Random(seed)
    first = keep(start=False, settings="max_concurrent_runs = 3\n", **JOBS)
    all_of_them = [first, *(Keeper(first.root, clock=first.clock) for _ in range(keepers - 1))]
    try:
        for one in all_of_them:
            one.start()
        for _ in range(80):
            _time_passes(all_of_them, chance.choice([0, 0.3, 1, 1, 1, 2, 4, 20, 70]))
            for one in chance.sample(all_of_them, chance.randint(0, keepers)):
                one.engine.refuses = chance.random() < 0.1
                # One that was killed: its orders are lost with it.
                one.engine.holds = chance.random() < 0.1
                if chance.random() < 0.03:
                    one.serve()
                    one.start()
                one.tick()
        for one in all_of_them:
            one.engine.refuses = one.engine.holds = False
        for _ in range(20):
            _time_passes(all_of_them, 5)
            for one in all_of_them:
                one.tick()
        _judge(first)
    finally:
        for one in all_of_them[1:]:
            one.close()


def _judge(keeper: Keeper) -> None:
    for job, schedule in SCHEDULES.items():
        cursor = from_micros(keeper.rows("SELECT cursor FROM schedules WHERE job = ?", job)[0]["cursor"])
        outcomes = keeper.outcomes(job)
        assert list(outcomes) == list(schedule.between(NOON, cursor)), job
        assert keeper.clock() - cursor < timedelta(minutes=2), job
        started = Counter(keeper.starts(job))
        assert max(started.values(), default=0) <= 1, job
        assert set(started) == {fire for fire, outcome in outcomes.items() if outcome == "started"}, job
        counted = {row["labels"]: row["value"] for row in keeper.rows("SELECT * FROM totals WHERE job = ? AND metric = ?", job, _TOTAL)}
        final = Counter(outcome for outcome in outcomes.values() if outcome != "buffered")
        assert counted == {f'{{"outcome":"{outcome}"}}': number for outcome, number in final.items()}, job


_TOTAL = "taskpilot_fires_total"


def _time_passes(keepers: list[Keeper], seconds: float) -> None:
    keepers[0].clock.advance(timedelta(seconds=seconds))
