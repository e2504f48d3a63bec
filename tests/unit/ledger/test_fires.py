"""Each due fire is claimed once, with the cursors, whoever claims; commands and changes of the folder are followed."""

import threading
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from taskpilot import RunContext, cron, every, job
from taskpilot.domain.fires import PUNCTUAL
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome
from taskpilot.ledger.claims import Definitions
from taskpilot.ledger.fires import Fires, begin_and_end_schedules
from taskpilot.ledger.record_outcome import close_waiting
from taskpilot.process.owner import is_gone
from taskpilot.store.schedules import schedule_at, schedules_in_force
from tests.spine import NOON, Spine
from tests.unit.ledger.idle_jobs import hourly, minutely, strict, unscheduled

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
FIRES = "taskpilot_fires_total"


@job(name="minutely", schedule=every("2m"))
def slower(ctx: RunContext) -> None:
    """The same job after its schedule was changed."""


@job(schedule=cron("0 * * * *"), overlap="cancel_other")
def eager(ctx: RunContext) -> None:
    """Do nothing."""


def test_a_job_that_is_seen_for_the_first_time_is_due_from_then_on(spine: Spine) -> None:
    assert spine.due(minutely).outcomes == {}
    spine.later(59)
    assert spine.due(minutely).outcomes == {}
    spine.later(1)
    claimed = spine.due(minutely)
    assert claimed.outcomes == {FireOutcome.BUFFERED: 1}
    assert claimed.jobs == frozenset(), "nothing is counted before it has its final outcome"
    assert spine.outcomes("minutely") == {NOON + MINUTE: "buffered"}
    assert spine.cursor("minutely") == NOON + MINUTE


def test_what_is_claimed_is_not_due_any_more(spine: Spine) -> None:
    spine.due(minutely)
    spine.later(60)
    spine.due(minutely)
    assert spine.due(minutely).outcomes == {}


def test_a_job_without_a_schedule_is_never_due(spine: Spine) -> None:
    spine.due(unscheduled)
    spine.later(86_400)
    assert spine.due(unscheduled).outcomes == {}


def test_all_jobs_that_are_due_are_claimed_at_one_look(spine: Spine) -> None:
    jobs = [job(name=f"job_{number}", schedule=every("1m"))(lambda ctx: None) for number in range(50)]
    spine.due(*jobs)
    spine.later(60)
    assert spine.due(*jobs).outcomes == {FireOutcome.BUFFERED: 50}


def test_an_outage_is_one_gap_the_caught_up_fire_and_what_it_covers(spine: Spine) -> None:
    spine.due(hourly)
    spine.later(30 * 86_400 + 600)
    claimed = spine.due(hourly, asleep_since=NOON)
    assert claimed.outcomes == {FireOutcome.MISSED: 719, FireOutcome.BUFFERED: 1}
    assert claimed.jobs == {"hourly"}
    assert [(gap.count, gap.first, gap.outcome) for gap in spine.gaps("hourly")] == [(719, NOON + HOUR, FireOutcome.MISSED)]
    facts = spine.gaps("hourly")[0].reason.facts
    assert (facts["unseen"], facts["asleep_since"], facts["asleep_until"]) == ("asleep", "2026-11-23T12:00:00Z", "2026-12-23T12:10:00Z")
    assert spine.total(FIRES) == {'{"outcome":"missed"}': 719}


def test_the_starts_after_an_outage_queue_up_behind_those_that_are_staggered_already(spine: Spine) -> None:
    spine.due(hourly, strict, eager)
    spine.later(HOUR.total_seconds() + 60)
    spine.due(hourly, asleep_since=NOON)
    spine.due(hourly, strict, eager, asleep_since=NOON)
    first, second = spine.fire("hourly", NOON + HOUR), spine.fire("eager", NOON + HOUR)
    assert first is not None
    assert second is not None
    assert first.start_after == spine.clock()
    assert spine.outcomes("strict") == {NOON + HOUR: "missed"}


def test_of_two_schedulers_each_fire_belongs_to_one(spine: Spine, tmp_path: Path) -> None:
    folder = spine.defined(minutely, hourly)
    found: list[FireOutcome] = []
    for _ in range(20):
        spine.later(20)
        barrier = threading.Barrier(3)

        def claim(barrier: threading.Barrier = barrier) -> None:
            barrier.wait(10)
            found.extend(Counter(spine.fires.claim_due(folder).outcomes).elements())

        threads = [threading.Thread(target=claim) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == len(spine.outcomes("minutely")) == 6
    final = [outcome for outcome in spine.outcomes("minutely").values() if outcome != "buffered"]
    assert sum(spine.total(FIRES).values()) == len(final)


def test_who_is_overtaken_between_looking_and_claiming_claims_nothing(spine: Spine) -> None:
    folder = spine.defined(minutely)
    spine.later(60)
    store = spine.store
    taken: list[int] = []

    class Overtaken:
        read = staticmethod(store.read)
        deployment = store.deployment

        @staticmethod
        def write() -> object:
            if not taken:
                taken.append(len(spine.fires.claim_due(folder).outcomes))
            return store.write()

    late = Fires(Overtaken(), is_gone=is_gone, now=spine.clock)  # type: ignore[arg-type]
    assert late.claim_due(folder).outcomes == {}
    assert taken == [1]


def test_a_claim_that_fails_is_made_whole_at_the_next_look(spine: Spine, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = spine.defined(minutely, hourly)
    spine.later(HOUR.total_seconds())
    with monkeypatch.context() as patch:
        patch.setattr("taskpilot.ledger.record_outcome.totals.mark_dirty", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            spine.fires.claim_due(folder)
    assert (spine.outcomes("minutely"), spine.outcomes("hourly"), spine.cursor("minutely")) == ({}, {}, NOON)
    assert spine.fires.claim_due(folder).outcomes[FireOutcome.BUFFERED] == 2


def test_a_fire_that_a_command_claimed_is_not_claimed_again(spine: Spine) -> None:
    folder = spine.defined(hourly)
    spine.later(HOUR.total_seconds())
    spine.awake()
    spine.claim(hourly, scheduled_for=NOON + HOUR)
    assert spine.fires.claim_due(folder).outcomes == {}
    assert spine.outcomes("hourly") == {NOON + HOUR: "started"}
    assert spine.cursor("hourly") == NOON + HOUR


def test_a_command_that_comes_after_the_scheduler_starts_the_fire_that_waits(spine: Spine) -> None:
    spine.due(hourly)
    spine.later(HOUR.total_seconds())
    spine.awake()
    spine.due(hourly)
    assert spine.claim(hourly, scheduled_for=NOON + HOUR).run.scheduled_for == NOON + HOUR
    assert spine.outcomes("hourly") == {NOON + HOUR: "started"}
    assert spine.total(FIRES) == {'{"outcome":"started"}': 1}


def test_a_clock_that_is_set_back_a_little_makes_nothing_due_twice(spine: Spine) -> None:
    spine.due(minutely)
    spine.later(600)
    before = spine.due(minutely).outcomes
    spine.later(-60)
    assert spine.due(minutely).outcomes == {}
    spine.later(60)
    assert spine.due(minutely).outcomes == {}
    spine.later(60)
    assert sum(spine.due(minutely).outcomes.values()) == 1
    assert sum(before.values()) == 10
    assert len(spine.outcomes("minutely")) + sum(gap.count for gap in spine.gaps("minutely")) == 11


def test_a_newer_fire_asks_the_active_run_to_end(spine: Spine) -> None:
    spine.due(eager)
    active = spine.claim(eager)
    spine.later(20)
    spine.ledger.renew(active.grant, active_seconds=20)
    spine.clock.advance(HOUR - timedelta(seconds=20))
    # It lives: it was renewed a moment ago.
    spine.ledger.renew(active.grant, active_seconds=30)
    spine.due(eager)
    run = spine.run_of(active.run.id)
    assert (run.cancel_requested, run.cancel_grace) == (True, timedelta(seconds=10))
    assert spine.outcomes("eager") == {NOON + HOUR: "buffered"}


def test_a_broken_file_blocks_its_fires_and_ends_no_schedule(spine: Spine) -> None:
    spine.due(minutely)
    spine.later(60)
    broken = spine.defined(broken={"minutely": "minutely.py:3 SyntaxError"})
    assert spine.fires.claim_due(broken).outcomes == {FireOutcome.BLOCKED_CONFIG: 1}
    fire = spine.fire("minutely", NOON + MINUTE)
    assert fire is not None
    assert fire.reason == Reason(ReasonCode.JOB_BROKEN, {"error": "minutely.py:3 SyntaxError"})
    spine.later(60)
    assert spine.due(minutely).outcomes == {FireOutcome.BUFFERED: 1}, "mended: it goes on where it was"


def test_a_paused_job_has_its_fires_recorded(spine: Spine) -> None:
    spine.due(minutely)
    spine.pause("minutely")
    spine.later(120)
    assert spine.due(minutely).outcomes == {FireOutcome.PAUSED: 2}
    fire = spine.fire("minutely", NOON + MINUTE)
    assert fire is not None
    assert (fire.reason.code, fire.reason.facts["by"]) == (ReasonCode.PAUSED, "anna")


def test_a_changed_schedule_catches_up_on_nothing(spine: Spine) -> None:
    spine.due(minutely)
    spine.later(200)
    assert spine.due(slower).outcomes == {}
    assert spine.outcomes("minutely") == {NOON + number * MINUTE: "missed" for number in (1, 2, 3)}
    fire = spine.fire("minutely", NOON + MINUTE)
    assert fire is not None
    assert fire.reason == Reason(ReasonCode.SCHEDULE_CHANGED, {"schedule": "every 1m"})
    with spine.store.read() as connection:
        old, new = schedule_at(connection, "minutely", NOON + MINUTE), schedule_at(connection, "minutely", spine.clock())
    assert old is not None
    assert new is not None
    assert (old.schedule, old.until, new.schedule) == ("every 1m", spine.clock(), "every 2m")
    spine.later(40)
    assert spine.due(slower).outcomes == {FireOutcome.BUFFERED: 1}


def test_two_schedulers_that_see_a_change_record_it_once(spine: Spine) -> None:
    spine.due(minutely)
    spine.later(90)
    folder = Definitions({"minutely": spine.plan(slower).spec})
    for _ in range(2):
        assert begin_and_end_schedules(spine.store, folder, now=spine.clock()) == []
    assert spine.outcomes("minutely") == {NOON + MINUTE: "missed"}


def test_a_removed_job_is_named_and_its_open_fires_up_to_the_change_are_missed(spine: Spine) -> None:
    spine.due(minutely)
    spine.later(600)
    gone = begin_and_end_schedules(spine.store, Definitions({}, changed_at=NOON + 2 * MINUTE), now=spine.clock())
    assert gone == ["minutely"]
    assert spine.outcomes("minutely") == {NOON + number * MINUTE: "missed" for number in (1, 2)}
    with spine.store.read() as connection:
        assert schedules_in_force(connection) == {}


def test_a_fire_leaves_the_queue_once(spine: Spine) -> None:
    spine.due(minutely)
    spine.later(60)
    spine.due(minutely)
    for expected in (True, False):
        with spine.store.write() as connection:
            now = spine.clock()
            assert (
                close_waiting(connection, "minutely", NOON + MINUTE, FireOutcome.MISSED, Reason(ReasonCode.START_DEADLINE), now=now)
                is expected
            )
    assert spine.total(FIRES) == {'{"outcome":"missed"}': 1}


def test_a_fire_in_time_is_not_late(spine: Spine) -> None:
    spine.due(hourly)
    spine.later((HOUR + PUNCTUAL).total_seconds() - 0.001)
    spine.due(hourly)
    fire = spine.fire("hourly", NOON + HOUR)
    assert fire is not None
    assert fire.start_after == NOON + HOUR, "it is not staggered as one that catches up"
