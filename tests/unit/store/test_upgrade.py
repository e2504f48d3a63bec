"""Stores of earlier versions: upgraded, with no row lost, and what their sentences say kept as codes and facts."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config

from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.reasons import NO_REASON, Reason, ReasonCode
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.times import from_micros
from taskpilot.store import copies, creation, fires, runs, steps, tasks
from taskpilot.store.connections import FILE, BusyTimeout, make_engine
from taskpilot.store.database import Store

NOON = 1_763_899_200_000_000
HOUR = 3_600_000_000
RUN = "019a9f00-0000-7000-8000-00000000000a"

RUNS: list[tuple[str, str, str, Reason]] = [
    ("succeeded", "", "", NO_REASON),
    ("queued", "", "", NO_REASON),
    ("running", "", "", NO_REASON),
    ("waiting", "approval", "send needs an approval", Reason(ReasonCode.APPROVAL, {"text": "send needs an approval"})),
    ("failed", "requirement", "three tickets", Reason(ReasonCode.OUTCOME_FAILED, {"text": "three tickets"})),
    ("failed", "exception", "ValueError: x", Reason(ReasonCode.EXCEPTION, {"text": "ValueError: x"})),
    ("timed_out", "deadline", "the deadline passed", Reason(ReasonCode.DEADLINE, {"text": "the deadline passed"})),
    ("cancelled", "cancelled", "cancelled by a person", Reason(ReasonCode.CANCELLED_BY_PERSON, {"text": "cancelled by a person"})),
    ("denied", "denied", "no", Reason(ReasonCode.DENIED, {"text": "no"})),
    ("budget_exceeded", "budget", "all is spent", Reason(ReasonCode.BUDGET, {"text": "all is spent"})),
    (
        "lost",
        "lease",
        "it is gone; not continued: the fire of 2025-11-23T13:00:00+00:00 is the next. `taskpilot runs resume x` goes on with it",
        Reason(
            ReasonCode.OVERTAKEN,
            {
                "cause": "lease",
                "fire": "2025-11-23T13:00:00Z",
                "text": "it is gone; not continued: the fire of 2025-11-23T13:00:00+00:00 is the next. "
                "`taskpilot runs resume x` goes on with it",
            },
        ),
    ),
    ("failed", "of another age", "who knows", Reason(ReasonCode.UNKNOWN, {"text": "who knows"})),
]
FIRES: list[tuple[str, str, ReasonCode, dict[str, str]]] = [
    ("started", "", ReasonCode.NONE, {}),
    ("skipped_overlap", f"run {RUN} is active", ReasonCode.RUN_ACTIVE, {"run_id": RUN}),
    (
        "skipped_overlap",
        "the fire of 2025-11-23T12:00:00+00:00 waits already",
        ReasonCode.FIRE_WAITING,
        {"fire": "2025-11-23T12:00:00Z"},
    ),
    (
        "skipped_overlap",
        "the fire of 2025-11-23T13:00:00Z took its place",
        ReasonCode.REPLACED,
        {"fire": "2025-11-23T13:00:00Z"},
    ),
    ("buffered", f"it waits: run {RUN} is active", ReasonCode.RUN_ACTIVE, {"run_id": RUN}),
    ("missed", "it was met too late; its catch-up window of 1h has passed", ReasonCode.CATCH_UP_WINDOW_PASSED, {}),
    ("missed", "no scheduler was awake from A to B; its start deadline of 5m passed before it could start", ReasonCode.START_DEADLINE, {}),
    ("missed", "it was met late; then it was paused since 2025-11-23T12:00:00Z by anna", ReasonCode.WAS_PAUSED, {}),
    ("missed", "nothing started it: no scheduler was awake, and no command claimed it", ReasonCode.NOBODY_CLAIMED, {}),
    (
        "coalesced",
        "it was met late; the fire of 2025-11-23T13:00:00Z catches up for it",
        ReasonCode.CAUGHT_UP_BY,
        {"fire": "2025-11-23T13:00:00Z"},
    ),
    ("paused", "paused since 2025-11-23T12:00:00Z by anna: it moves", ReasonCode.PAUSED, {}),
    ("blocked_config", "one.py:3 SyntaxError", ReasonCode.CONFIGURATION, {}),
    ("missed", "the cat sat on it", ReasonCode.UNKNOWN, {}),
]


def migrate(state_dir: Path, revision: str) -> None:
    """Brings the schema to that of an earlier version."""
    engine = make_engine(state_dir / FILE, BusyTimeout(5.0))
    with engine.connect() as connection:
        connection.execution_options(taskpilot_write=True)
        with connection.begin():
            config = Config()
            config.set_main_option("script_location", str(Path(creation.__file__).parent / "migrations"))
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    engine.dispose()


@pytest.fixture
def old_store(tmp_path: Path) -> Path:
    """The state dir of a store that the migrations of the version before made, with rows in their old shape."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    (folder / FILE).touch(0o600)
    migrate(folder, "0002")
    with closing(sqlite3.connect(folder / FILE)) as connection, connection:
        fill(connection)
    return folder


def fill(connection: sqlite3.Connection) -> None:
    def insert(table: str, **values: Any) -> None:
        marks = ", ".join("?" * len(values))
        connection.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))

    insert("store_info", only=1, store_id="s", deployment="old", created_at=NOON)
    for number, (status, reason, detail, _) in enumerate(RUNS):
        about = {"status": status, "reason": reason, "detail": detail}
        insert(
            "runs", id=f"run-{number:02}", job="triage", trigger="manual", parameters="{}", trace_id="t", root_span_id="r", created_at=NOON,
            attempts=1, attempts_allowed=2, deadline_micros=HOUR, **about,
        )  # fmt: skip
        insert("attempts", id=f"attempt-{number:02}", run_id=f"run-{number:02}", number=1, started_at=NOON, **about)
    for number, (outcome, reason, _, _) in enumerate(FIRES):
        insert("fires", job="triage", scheduled_for=NOON + number * HOUR, outcome=outcome, reason=reason, recorded_at=NOON)
    insert(
        "fire_gaps", id="gap", job="triage", from_at=NOON, to_at=NOON, number=700, outcome="missed", schedule="every 1h", recorded_at=NOON,
        reason='it was met late; catch_up="skip"',
    )  # fmt: skip
    asked = {"run_id": "run-03", "job": "triage"}
    insert(
        "decisions", id="asked", **asked, step_key="k", agent="job", tool="send", arguments="{}", engine="regorus", path="p",
        verdict="require_approval", status="pending", reasons="[]", input="{}", decided_at=NOON,
    )  # fmt: skip
    task = {"scope": "/t", "title": "Pay", "priority": "high", "description": "", "status": "review", "created_at": NOON}
    insert("tasks", id="reviewed", **asked, **task, updated_at=NOON)
    for name, started in (("second", NOON + 1), ("first", NOON), ("third", NOON + 1)):
        insert(
            "steps", id=f"step-{name}", run_id="run-00", attempt=1, scope="", kind="step", name=name, ordinal=0, key=name, make=0,
            status="succeeded", input_digest="d", started_at=started,
        )  # fmt: skip


def test_an_old_store_is_refused_and_then_upgraded_with_both_schemas_named(old_store: Path) -> None:
    with pytest.raises(ConfigurationError, match="schema 0002, this version needs 0005") as caught:
        Store.open(old_store)
    assert caught.value.hint == "taskpilot db backup && taskpilot db upgrade"
    assert creation.upgrade(old_store) == ("0002", "0005")
    assert creation.upgrade(old_store) == ("0005", "0005")
    Store.open(old_store).close()


def test_runs_of_every_status_keep_their_reason_as_a_code_and_their_sentence_as_a_fact(old_store: Path) -> None:
    assert {RunStatus(status) for status, *_ in RUNS} == set(RunStatus)
    creation.upgrade(old_store)
    store = Store.open(old_store)
    with store.read() as connection:
        for number, (status, _, _, reason) in enumerate(RUNS):
            run = runs.get_run(connection, f"run-{number:02}")
            assert run is not None
            assert (run.status, run.reason) == (status, reason)
            assert [attempt.reason for attempt in runs.attempts_of(connection, run.id)] == [reason]
    store.close()


def test_a_run_that_was_overtaken_keeps_the_code_that_its_exit_code_goes_by(old_store: Path) -> None:
    creation.upgrade(old_store)
    store = Store.open(old_store)
    with store.read() as connection:
        run = runs.get_run(connection, "run-10")
    store.close()
    assert run is not None
    assert run.reason.cause is ReasonCode.LEASE


def test_fires_and_gaps_get_the_code_that_their_sentence_allows(old_store: Path) -> None:
    creation.upgrade(old_store)
    store = Store.open(old_store)
    with store.read() as connection:
        for number, (outcome, text, code, facts) in enumerate(FIRES):
            fire = fires.get_fire(connection, "triage", from_micros(NOON + number * HOUR))
            assert fire is not None
            assert (fire.outcome, fire.key) == (outcome, "")
            assert fire.reason == (Reason(code, {**facts, "text": text}) if text else NO_REASON)
        gap = fires.gap_at(connection, "triage", from_micros(NOON))
        waiting = fires.waiting_fires(connection, ["triage"])
    store.close()
    assert gap is not None
    assert (gap.count, gap.reason.code) == (700, ReasonCode.CATCH_UP_OFF)
    assert waiting == {"triage": [from_micros(NOON + 4 * HOUR)]}


def test_steps_get_the_order_in_which_they_began(old_store: Path) -> None:
    creation.upgrade(old_store)
    store = Store.open(old_store)
    with store.read() as connection:
        found = steps.steps_of(connection, "run-00")
    store.close()
    assert [(step.name, step.position) for step in found] == [("first", 0), ("second", 1), ("third", 2)]


def test_an_events_fire_is_told_from_others_by_its_key_whenever_it_arrives(old_store: Path) -> None:
    creation.upgrade(old_store)
    with closing(sqlite3.connect(old_store / FILE)) as connection:
        arrival = "INSERT INTO fires (job, scheduled_for, key, outcome, recorded_at) VALUES ('triage', ?, 'delivery-1', 'started', 0)"
        connection.execute(arrival, (NOON,))
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(arrival, (NOON + 1,))


def rows_of(state_dir: Path) -> dict[str, list[Any]]:
    """The rows of each table, as sets of named values."""
    with closing(sqlite3.connect(state_dir / FILE)) as connection:
        connection.row_factory = sqlite3.Row
        wanted = "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'alembic_version'"
        names = [name for (name,) in connection.execute(wanted)]
        return {name: [dict(row) for row in connection.execute(f"SELECT * FROM {name} ORDER BY 1")] for name in names}


def test_a_store_of_schema_4_and_a_backup_of_it_keep_every_row_and_nothing_of_before_is_told(old_store: Path, tmp_path: Path) -> None:
    migrate(old_store, "0004")
    with closing(sqlite3.connect(old_store / FILE)) as connection, connection:
        for number in range(3):
            connection.execute("INSERT INTO events (at, kind, job) VALUES (?, 'run_failed', 'triage')", (NOON + number,))
    before = rows_of(old_store)
    copies.backup(old_store, backup := tmp_path / "backup.db")
    assert creation.upgrade(old_store) == ("0004", "0005")
    assert copies.restore(tmp_path / "other", backup, kept=tmp_path / "kept.db").runs == len(RUNS)
    for state_dir in (old_store, tmp_path / "other"):
        after = rows_of(state_dir)
        for table, rows in before.items():
            assert [{name: row[name] for name in rows[0]} for row in after[table]] == rows, table
        assert [row["cursor"] for row in after["notice_state"]] == [3]
        assert after["incidents"] == after["notices"] == []
        Store.open(state_dir).close()


def test_what_was_open_before_has_a_day_from_the_upgrade_on(old_store: Path) -> None:
    before = datetime.now(UTC)
    creation.upgrade(old_store)
    store = Store.open(old_store)
    with store.read() as connection:
        found = tasks.open_questions(connection)
        assert not tasks.open_questions(connection, due=before + timedelta(hours=17))
        assert len(tasks.open_questions(connection, due=before + timedelta(hours=19))) == 2
    store.close()
    assert {one.id for one in found} == {"asked", "reviewed"}
    for one in found:
        assert one.expires_at is not None
        assert timedelta(hours=23) < one.expires_at - before < timedelta(hours=25)
