"""Reasons as a code with facts instead of a sentence, the key of a fire, an order of the steps of a run, and the events.

The only place that reads the sentences of earlier versions: each row keeps its sentence as the fact `text`, and gets the code that the
sentence allows, `unknown` otherwise.
"""

import json
import re
from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_WITH_DETAIL: Final = ("runs", "attempts")
_CODES_OF_RUNS: Final = frozenset(
    {
        *("provider_unreachable", "store", "store_busy", "configuration", "exception", "every_item_failed", "approval", "uncertain_step"),
        *("diverged_step", "budget", "denied", "deadline", "cancelled", "replaced", "sigint", "sigterm", "signal", "exited", "lease"),
    }
)
_OVERTAKEN: Final = re.compile(r"; not (?:continued: the fire of|tried again: the next fire is that of) ")
_RUN_ID: Final = re.compile(r"\brun ([0-9a-f]{8}-[0-9a-f-]{27})\b")
_FIRE: Final = re.compile(r"the (?:next )?fire (?:is that )?of (\d{4}-\d\d-\d\dT[\d:.]+)(?:Z|\+00:00)")
_SENTENCES: Final = (
    # The first that is found decides: what a fire was not met for comes before what became of it.
    (re.compile(r"; then it was paused since "), "was_paused"),
    (re.compile(r"its catch-up window of .* has passed"), "catch_up_window_passed"),
    (re.compile(r'catch_up="skip"'), "catch_up_off"),
    (re.compile(r"more than catch_up_limit="), "catch_up_limit"),
    (re.compile(r"its start deadline of .* passed"), "start_deadline"),
    (re.compile(r" catches up for it$"), "caught_up_by"),
    (re.compile(r"^its schedule was changed before "), "schedule_changed"),
    (re.compile(r"^the command that waited to start it "), "command_gone"),
    (re.compile(r"^its job was removed "), "job_removed"),
    (re.compile(r"^nothing started it: "), "nobody_claimed"),
    (re.compile(r"^paused since "), "paused"),
    (re.compile(r"^SIG[A-Z]+ ended the wait: "), "interrupted"),
    (re.compile(r"(?:waits already|waits to start)$"), "fire_waiting"),
    (re.compile(r"^(?:it waits: )?run \S+ (?:of \S+ )?is active"), "run_active"),
    (re.compile(r" took its place$"), "replaced"),
)


def upgrade() -> None:
    """Changes tables and rows; no row is lost."""
    raw: Any = op.get_bind().connection.dbapi_connection
    for name, function in (("code_of_run", _code_of_run), ("code_of_fire", _code_of_fire), ("facts_of", _facts_of)):
        raw.create_function(f"taskpilot_{name}", 2, function, deterministic=True)
    for table in _WITH_DETAIL:
        _add_reason(table)
        op.execute(
            f"UPDATE {table} SET reason_code = taskpilot_code_of_run(reason, detail), "  # noqa: S608  names of ours
            "reason_facts = taskpilot_facts_of(detail, reason) WHERE reason <> '' OR detail <> ''"
        )
        op.drop_column(table, "detail")
        op.drop_column(table, "reason")
    _add_reason("fire_gaps")
    op.execute(
        "UPDATE fire_gaps SET reason_code = taskpilot_code_of_fire(reason, outcome), reason_facts = taskpilot_facts_of(reason, '') "
        "WHERE reason <> ''"
    )
    op.drop_column("fire_gaps", "reason")
    _rebuild_fires()
    op.add_column("steps", sa.Column("position", sa.Integer(), server_default="0", nullable=False))
    op.execute(
        "UPDATE steps SET position = ordered.place FROM "
        "(SELECT rowid AS step, row_number() OVER (PARTITION BY run_id ORDER BY started_at, rowid) - 1 AS place FROM steps) AS ordered "
        "WHERE ordered.step = steps.rowid"
    )
    _create_events()


def _reason() -> tuple[sa.Column[str], sa.Column[str]]:
    return (
        sa.Column("reason_code", sa.Text(), server_default="", nullable=False),
        sa.Column("reason_facts", sa.Text(), server_default="{}", nullable=False),
    )


def _add_reason(table: str) -> None:
    for column in _reason():
        op.add_column(table, column)


def _rebuild_fires() -> None:
    """A primary key cannot be changed: the table is copied."""
    for index in ("fires_in_queue", "fires_missed"):
        op.drop_index(index, "fires")
    op.rename_table("fires", "old_fires")
    op.create_table(
        "fires",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("scheduled_for", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), server_default="", nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        *_reason(),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("start_after", sa.BigInteger(), nullable=True),
        sa.Column("launched_at", sa.BigInteger(), nullable=True),
        sa.Column("launched_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("job", "scheduled_for", "key"),
    )
    op.execute(
        "INSERT INTO fires (job, scheduled_for, outcome, run_id, reason_code, reason_facts, recorded_at, start_after, launched_at, "
        "launched_by) SELECT job, scheduled_for, outcome, run_id, taskpilot_code_of_fire(reason, outcome), taskpilot_facts_of(reason, ''), "
        "recorded_at, start_after, launched_at, launched_by FROM old_fires ORDER BY job, scheduled_for"
    )
    op.drop_table("old_fires")
    op.create_index("fires_by_key", "fires", ["job", "key"], unique=True, sqlite_where=sa.text("key <> ''"))
    op.create_index("fires_in_queue", "fires", ["start_after", "scheduled_for"], sqlite_where=sa.text("outcome = 'buffered'"))
    op.create_index("fires_missed", "fires", ["recorded_at", "job"], sqlite_where=sa.text("outcome = 'missed'"))


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("scheduled_for", sa.BigInteger(), nullable=True),
        sa.Column("fire_key", sa.Text(), server_default="", nullable=False),
        sa.Column("number", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        *_reason(),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )


def _code_of_run(reason: str, detail: str) -> str:
    """The old code; of a run that was given up for its next fire, and of a code that is not known, what the sentence says."""
    if _OVERTAKEN.search(detail):
        return "overtaken"
    if reason == "requirement":
        return "outcome_failed"
    return reason if reason in _CODES_OF_RUNS else "unknown"


def _code_of_fire(reason: str, outcome: str) -> str:
    if not reason:
        return ""
    found = next((code for sentence, code in _SENTENCES if sentence.search(reason)), None)
    # What blocks a fire is the words of an error, whatever they are.
    return ("configuration" if outcome == "blocked_config" else found) or "unknown"


def _facts_of(text: str, code: str) -> str:
    """The sentence, and the run and the fire that it names; of a run that was given up for its next fire, the code that it had."""
    if not text:
        return "{}"
    facts = {"text": text}
    if code and _OVERTAKEN.search(text):
        facts["cause"] = code
    if (run := _RUN_ID.search(text)) is not None:
        facts["run_id"] = run[1]
    if (fire := _FIRE.search(text)) is not None:
        facts["fire"] = f"{fire[1]}Z"
    return json.dumps(facts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
