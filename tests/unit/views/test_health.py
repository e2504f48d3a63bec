"""Health: what is claimed, what is not known, and what fails."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, insert

from taskpilot.domain.fires import SchedulerState
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome, RunStatus
from taskpilot.domain.steps import StepKind, StepStatus
from taskpilot.domain.times import to_micros
from taskpilot.process.owner import current_owner
from taskpilot.services.jobs import pause_job
from taskpilot.services.maintenance import close_missed
from taskpilot.store import totals
from taskpilot.store.connections import FILE
from taskpilot.store.tables import attempts, job_state
from taskpilot.views.checks import Check, Status
from taskpilot.views.health import Health, health, health_json
from tests import records
from tests.timeline import MONDAY, Timeline

LARGE = ("runs", "fires", "fire_gaps", "steps", "attempts", "decisions")


def checked(timeline: Timeline) -> Health:
    return health(timeline.deployment)


def texts(found: Health) -> str:
    return "\n".join(f"{one.status}: {one.text}" for one in found.findings)


def state(timeline: Timeline, **values: Any) -> None:
    with timeline.deployment.store.write() as connection:
        connection.execute(insert(job_state).values(job="triage", version=1, **values))


def test_without_a_store_nothing_is_claimed_and_nothing_is_made(timeline: Timeline) -> None:
    found = health_json(checked(timeline))
    assert (found["status"], found["findings"]) == ("pass", [])
    assert {one["status"] for one in found["checks"].values()} == {"unknown"}
    assert found["scheduler"] == {
        "state": "unknown", "jobs": 1, "paused": None, "running": None, "queued": None,
        "last_tick": None, "lag_seconds": None, "next_fire": "2026-11-24T06:00:00.000000Z", "restart": (),
    }  # fmt: skip
    assert not timeline.deployment.settings.state_dir.exists()


def test_a_deployment_without_a_server_is_well_where_nothing_was_missed(timeline: Timeline) -> None:
    timeline.follow()
    found = health_json(checked(timeline))
    assert set(found) == {"status", "version", "scheduler", "checks", "broken", "jobs", "findings"}
    assert (found["status"], found["scheduler"]["state"], found["findings"]) == ("pass", "absent", [])
    assert set(found["checks"]) == {"store", "gateway", "collector", "model"}
    assert (found["scheduler"]["running"], found["scheduler"]["queued"], found["scheduler"]["paused"]) == (0, 0, 0)
    assert found["checks"]["store"]["status"] == "pass"
    assert found["checks"]["model"]["status"] == "unknown"


def test_a_scheduler_that_is_awake_says_how_it_stands(timeline: Timeline) -> None:
    timeline.follow()
    timeline.tick(lag=0.25)
    scheduler = checked(timeline).scheduler
    assert (scheduler.state, scheduler.jobs, scheduler.lag_seconds, scheduler.last_tick) == ("running", 7, 0.25, MONDAY)
    timeline.tick(broken=("jobs/x.py:3: SyntaxError: x",), error="OSError: no", lag=20)
    found = checked(timeline)
    assert found.status is Status.WARN
    assert found.broken == ("jobs/x.py:3: SyntaxError: x",)
    for words in ("cannot be loaded: jobs/x.py:3: SyntaxError: x", "last pass failed: OSError: no", "woke up 20 s late"):
        assert words in texts(found)


def test_a_scheduler_that_should_be_awake_and_is_not_fails(timeline: Timeline) -> None:
    timeline.follow()
    timeline.tick()
    timeline.later(seconds=44)
    assert checked(timeline).status is Status.PASS
    timeline.later(seconds=2)
    found = checked(timeline)
    assert (found.status, found.scheduler.state, found.scheduler.lag_seconds) == (Status.FAIL, "dead", None)
    assert "fail: the scheduler (pid 4711 on elsewhere) was last active at 2026-11-23T12:00:00Z; its process hangs" in texts(found)
    timeline.tick(scheduler="two", owner=current_owner())
    assert checked(timeline).status is Status.PASS
    timeline.tick(SchedulerState.STOPPED, scheduler="two")
    assert checked(timeline).scheduler.state == "absent"
    assert checked(timeline).status is Status.PASS


def test_one_that_is_stopping_does_not_hide_one_that_runs(timeline: Timeline) -> None:
    timeline.follow()
    timeline.tick(SchedulerState.DRAINING, scheduler="old")
    found = checked(timeline)
    assert (found.scheduler.state, found.status) == ("draining", Status.WARN)
    timeline.tick(scheduler="new")
    timeline.later(seconds=1)
    timeline.tick(SchedulerState.DRAINING, scheduler="old")
    assert checked(timeline).scheduler.state == "running"
    assert checked(timeline).status is Status.PASS


def test_a_fire_that_nobody_met_is_found_before_it_is_recorded(timeline: Timeline) -> None:
    timeline.follow()
    timeline.later(hours=18, minutes=5)
    assert checked(timeline).status is Status.PASS
    timeline.later(hours=12)
    found = checked(timeline)
    assert "warn: triage missed 2026-11-24T06:00:00Z: no scheduler was running, and no command started it; `taskpilot run triage`" in texts(
        found
    )
    assert close_missed(timeline.deployment) == {"missed": 1, "jobs": 1}
    assert "triage missed 2026-11-24T06:00:00Z" in texts(checked(timeline))
    # It is the job's last fire until the next one.
    timeline.later(hours=23)
    timeline.record(MONDAY + timedelta(days=1, hours=18), FireOutcome.STARTED)
    assert "missed" not in texts(checked(timeline))


def test_a_fire_that_a_command_claimed_is_not_said_to_be_open(timeline: Timeline) -> None:
    timeline.follow()
    timeline.record(MONDAY + timedelta(hours=18), FireOutcome.SKIPPED_OVERLAP, Reason(ReasonCode.RUN_ACTIVE, {"run_id": "x"}))
    timeline.later(hours=31)
    assert "missed" not in texts(checked(timeline))
    pause_job(timeline.deployment, "triage", by="anna", note="")
    timeline.later(days=2)
    found = checked(timeline)
    assert (found.status, found.scheduler.paused, found.scheduler.next_fire) == (Status.PASS, 1, None)


def test_a_million_missed_seconds_count_as_so_many(timeline: Timeline) -> None:
    timeline.define('schedule=every("1s"), catch_up="skip"')
    timeline.follow()
    timeline.later(days=30)
    timeline.met(asleep_since=MONDAY)
    timeline.tick()
    assert "2,591,970 in all" in texts(checked(timeline))


def test_a_job_without_a_success_for_too_long_is_named(timeline: Timeline) -> None:
    timeline.follow()
    timeline.tick()
    state(timeline, last_success=to_micros(MONDAY - timedelta(hours=5)))
    for hours in (18, 2, 48):
        timeline.later(hours=hours)
        timeline.tick()
        assert "no success" not in texts(checked(timeline))
    timeline.later(hours=6)
    timeline.tick()
    found = checked(timeline)
    assert (
        "warn: triage success too old: no success since 2026-11-23T07:00:00Z, too long for its schedule; `taskpilot why triage`"
        in texts(found)
    )


def test_a_quiet_night_is_no_alarm(timeline: Timeline) -> None:
    timeline.define('schedule=cron("*/15 9-17 * * *"), deadline="5m"')
    timeline.follow()
    state(timeline, last_success=to_micros(MONDAY + timedelta(hours=5, minutes=46)))
    timeline.later(hours=17)
    timeline.tick()
    assert checked(timeline).status is Status.PASS
    timeline.later(hours=5)
    timeline.tick()
    assert "triage success too old: no success since 2026-11-23T17:46:00Z" in texts(checked(timeline))


def test_a_run_whose_process_is_gone_is_counted_as_lost(timeline: Timeline) -> None:
    timeline.follow()
    store = timeline.deployment.store
    records.add_run(
        store, status=RunStatus.RUNNING, lease_token="a", lease_expires_at=(timeline.clock.boot() + timedelta(seconds=30)).micros
    )
    assert (checked(timeline).scheduler.running, checked(timeline).status) == (1, Status.PASS)
    timeline.later(seconds=31)
    assert checked(timeline).scheduler.running == 0
    assert "warn: 1 run lost its process; `taskpilot run housekeeping` records that" in texts(checked(timeline))


def test_a_gateway_is_judged_by_what_is_pending_to_it(tmp_path: Any) -> None:
    timeline = Timeline(tmp_path / "gateway", settings='pushgateway_url = "http://127.0.0.1:9"\n')
    assert health(timeline.deployment).checks["gateway"].status is Status.UNKNOWN
    state(timeline, last_completion=to_micros(MONDAY))
    assert checked(timeline).checks["gateway"].status is Status.PASS
    timeline.later(minutes=6)
    found = checked(timeline)
    assert found.checks["gateway"].status is Status.WARN
    assert "warn: gateway: the metrics of 1 job are not pushed; `taskpilot metrics push` tries again" in texts(found)
    with timeline.deployment.store.write() as connection:
        connection.execute(job_state.update().values(push_error="connection refused"))
    assert "are not pushed: connection refused;" in checked(timeline).checks["gateway"].detail
    with timeline.deployment.store.write() as connection:
        connection.execute(job_state.update().values(pushed_version=1, push_error=None))
    assert checked(timeline).checks["gateway"].status is Status.PASS
    timeline.close()


def test_the_model_is_judged_by_its_last_answer(timeline: Timeline) -> None:
    store = timeline.deployment.store
    run_id = records.add_run(store)

    def asked(**fields: Any) -> str:
        records.add_step(store, run_id, kind=StepKind.ASK, name="planner", **{"model": "gpt-4o-mini", **fields})
        records.add_step(store, run_id, kind=StepKind.STEP, name="own", status=StepStatus.FAILED)
        check = checked(timeline).checks["model"]
        return f"{check.status}: {check.detail}"

    assert asked(status=StepStatus.SUCCEEDED) == "pass: gpt-4o-mini answered at 2026-11-23T12:00:02Z"
    assert asked(status=StepStatus.FAILED, error="429 too many").endswith("failed: 429 too many")
    assert asked(status=StepStatus.BEGUN, ended_at=None).startswith("warn")
    assert asked(status=StepStatus.SUCCEEDED, model="offline").startswith("unknown: the last call went to the built-in offline rules")
    timeline.later(days=2)
    assert checked(timeline).checks["model"].status is Status.UNKNOWN


def test_undelivered_spans_are_counted_and_no_verdict(timeline: Timeline) -> None:
    with timeline.deployment.store.write() as connection:
        for sink, number in (("collector", 3), ("gateway", 4)):
            totals.add(
                connection, "triage", [totals.Increment("taskpilot_telemetry_failures_total", totals.canonical({"sink": sink}), number)]
            )
    check = checked(timeline).checks["collector"]
    assert check == Check(Status.UNKNOWN, "not contacted; 3 deliveries failed so far, the traces of 0 runs are not sent yet")
    run_id = records.add_run(timeline.deployment.store)
    with timeline.deployment.store.write() as connection:
        connection.execute(attempts.update().where(attempts.c.run_id == run_id).values(traces_due_at=1))
    assert (
        checked(timeline).checks["collector"].detail.endswith("the traces of 1 run are not sent yet; `taskpilot traces replay` sends them")
    )


@pytest.mark.parametrize("damage", ["corrupt", "gone", "gone with its log", "lone log", "newer", "locked", "folder"])
def test_a_store_that_cannot_be_used_fails_and_heals_by_itself(damage: str, timeline: Timeline) -> None:
    deployment = timeline.deployment
    timeline.follow()
    path = deployment.settings.state_dir / FILE
    held = None
    if damage.startswith("gone"):
        path.rename(path.with_name("away"))
        if damage == "gone with its log":
            path.with_name(FILE + "-wal").rename(path.with_name("away-wal"))
    else:
        deployment.close()
        del vars(deployment)["store"]
    before = path.read_bytes() if path.exists() else b""
    if damage == "corrupt":
        path.write_bytes(b"x" * 8192)
    elif damage == "lone log":
        path.rename(path.with_name("away"))
        path.with_name(FILE + "-wal").write_bytes(b"x")
    elif damage == "newer":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
            connection.commit()
    elif damage == "locked":
        held = sqlite3.connect(path, isolation_level=None)
        held.execute("PRAGMA locking_mode=EXCLUSIVE")
        held.execute("BEGIN EXCLUSIVE")
        held.execute("UPDATE store_info SET only = only")
    elif damage == "folder":
        path.rename(path.with_name("away"))
        path.mkdir()
        (path / "x").touch()
    found = checked(timeline)
    assert (found.status, found.checks["store"].status) == (Status.FAIL, Status.FAIL), found
    assert found.scheduler.running is None
    assert texts(found).startswith("fail: store: ")
    if held is not None:
        held.execute("COMMIT")
        held.close()
    elif damage == "gone with its log":
        for name in ("", "-wal"):
            path.with_name("away" + name).rename(path.with_name(FILE + name))
    elif damage in {"gone", "lone log"}:
        path.with_name("away").rename(path)
        path.with_name(FILE + "-wal").unlink(missing_ok=True)
    elif damage in {"corrupt", "newer"}:
        path.write_bytes(before)
    else:
        return
    assert checked(timeline).status is Status.PASS


def test_health_reads_by_indexes_only(timeline: Timeline) -> None:
    timeline.follow()
    scans: list[str] = []
    with timeline.deployment.store.read() as connection:
        seen: list[tuple[str, Any]] = []

        def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
            seen.append((statement, parameters))

        event.listen(timeline.deployment.store._engine, "before_cursor_execute", note)
        checked(timeline)
        event.remove(timeline.deployment.store._engine, "before_cursor_execute", note)
        for statement, parameters in seen:
            if statement.startswith("SELECT"):
                plan = connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters)
                scans += [row[3] for row in plan if row[3].startswith(tuple(f"SCAN {table}" for table in LARGE))]
    # The queue, and the newest 200 steps.
    assert set(scans) == {"SCAN fires USING INDEX fires_in_queue", "SCAN steps USING INDEX sqlite_autoindex_steps_1"}
    assert len(seen) > 8
