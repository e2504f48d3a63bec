"""Misses in a deployment without a server: found by a chore, counted once, and never where a pause or a server explains them."""

from taskpilot.messages.moments import explain
from taskpilot.services.jobs import pause_job
from taskpilot.services.maintenance import close_missed
from taskpilot.store.metrics_queries import pending_jobs, totals_of
from taskpilot.store.schedules import schedules_in_force
from taskpilot.views.why import why
from tests.timeline import Timeline


def counted(timeline: Timeline) -> dict[str, int]:
    with timeline.deployment.store.read() as connection:
        return {
            total.labels["outcome"]: total.value for total in totals_of(connection, "triage") if total.metric == "taskpilot_fires_total"
        }


def test_a_fire_is_missed_when_its_catch_up_window_has_passed_and_is_counted_once(timeline: Timeline) -> None:
    assert close_missed(timeline.deployment) == {"missed": 0, "jobs": 0}
    timeline.later(hours=29, minutes=59)
    assert close_missed(timeline.deployment) == {"missed": 0, "jobs": 0}
    timeline.later(minutes=2)
    assert close_missed(timeline.deployment) == {"missed": 1, "jobs": 1}
    assert close_missed(timeline.deployment) == {"missed": 0, "jobs": 0}
    assert counted(timeline) == {"missed": 1}
    assert why(timeline.deployment, "triage").outcome == "missed"
    with timeline.deployment.store.read() as connection:
        assert pending_jobs(connection, timeline.clock()) == ["triage"]


def test_a_paused_job_misses_nothing_while_it_is_paused(timeline: Timeline) -> None:
    timeline.follow()
    timeline.later(days=1)
    pause_job(timeline.deployment, "triage", by="anna", note="")
    timeline.later(days=2)
    assert close_missed(timeline.deployment) == {"missed": 1, "jobs": 1}
    assert counted(timeline) == {"missed": 1, "paused": 1}
    assert [why(timeline.deployment, "triage", at=f"2026-11-{day}T07:00").outcome for day in (24, 25, 26)] == ["missed", "paused", "open"]


def test_a_server_that_is_awake_keeps_its_own_books(timeline: Timeline) -> None:
    timeline.follow()
    timeline.later(days=2)
    timeline.tick()
    timeline.define('schedule=cron("0 9 * * *")')
    assert close_missed(timeline.deployment) == {"missed": 0, "jobs": 0}
    assert counted(timeline) == {}
    with timeline.deployment.store.read() as connection:
        assert schedules_in_force(connection)["triage"].schedule == "cron 0 7 * * mon-fri (Europe/Berlin)"


def test_a_changed_schedule_misses_what_the_old_one_had_open(timeline: Timeline) -> None:
    timeline.follow()
    timeline.later(days=1)
    timeline.define('schedule=cron("0 9 * * *")')
    assert close_missed(timeline.deployment) == {"missed": 0, "jobs": 0}
    assert counted(timeline) == {"missed": 1}
    assert "its schedule was changed" in explain(why(timeline.deployment, "triage", at="2026-11-24T06:00Z")).sentence
