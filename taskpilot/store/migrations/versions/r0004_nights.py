"""The server's check of each job, boot clock times, endings of ids, and sums by day."""

# ruff: noqa: S608 - the SQL is made of constants of this file.

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_DAY = "86400000000"
_JUDGED = "{row}.ended_at IS NOT NULL AND {row}.status NOT IN ('cancelled', 'queued', 'running', 'waiting')"
_COUNT_RUN = f"""
    INSERT INTO run_days (day, succeeded, ended, cost_nano, wasted_nano, unpriced_calls) VALUES (
        {{row}}.ended_at / {_DAY},
        {{sign}} * ({{row}}.status = 'succeeded'),
        {{sign}},
        {{sign}} * {{row}}.cost_nano,
        {{sign}} * {{row}}.cost_nano * ({{row}}.status <> 'succeeded'),
        {{sign}} * {{row}}.unpriced_calls
    ) ON CONFLICT (day) DO UPDATE SET
        succeeded = succeeded + excluded.succeeded, ended = ended + excluded.ended, cost_nano = cost_nano + excluded.cost_nano,
        wasted_nano = wasted_nano + excluded.wasted_nano, unpriced_calls = unpriced_calls + excluded.unpriced_calls;
    INSERT INTO run_day_durations (day, measure, rounded, runs) VALUES
        ({{row}}.ended_at / {_DAY}, 'active', CAST(printf('%.1e', {{row}}.active_micros) AS REAL), {{sign}}),
        ({{row}}.ended_at / {_DAY}, 'share',
            CAST(printf('%.1e', CAST({{row}}.active_micros AS REAL) / {{row}}.deadline_micros) AS REAL), {{sign}})
        ON CONFLICT (day, measure, rounded) DO UPDATE SET runs = runs + excluded.runs;
"""
_COUNT_DECISION = f"""
    INSERT INTO decision_days (day, decided, denied) VALUES ({{row}}.decided_at / {_DAY}, {{sign}}, {{sign}} * ({{row}}.verdict = 'deny'))
        ON CONFLICT (day) DO UPDATE SET decided = decided + excluded.decided, denied = denied + excluded.denied;
"""


def _counted_by_day(table: str, columns: str, condition: str, count: str) -> None:
    """Triggers that keep the sums of a table by day, whoever writes it."""
    events = (
        ("inserted", "INSERT", "NEW", "1"),
        ("deleted", "DELETE", "OLD", "-1"),
        ("changed_from", f"UPDATE OF {columns}", "OLD", "-1"),
        ("changed_to", f"UPDATE OF {columns}", "NEW", "1"),
    )
    for name, event, row, sign in events:
        when = condition.format(row=row)
        op.execute(f"CREATE TRIGGER {table}_{name} AFTER {event} ON {table} WHEN {when} BEGIN{count.format(row=row, sign=sign)}END")


def upgrade() -> None:
    """Adds tables, columns and indexes; no row is changed."""
    op.create_table(
        "job_checks",
        sa.Column("job", sa.Text(), primary_key=True, nullable=False),
        sa.Column("deadline_micros", sa.BigInteger(), nullable=True),
        sa.Column("catch_up_micros", sa.BigInteger(), nullable=True),
        sa.Column("reason_code", sa.Text(), nullable=False, server_default=""),
        sa.Column("reason_facts", sa.Text(), nullable=False, server_default="{}"),
        sa.Column("checked_at", sa.BigInteger(), nullable=False),
    )
    op.add_column("schedulers", sa.Column("restart", sa.Text(), nullable=False, server_default="[]"))
    op.add_column("tasks", sa.Column("repeats", sa.Integer(), nullable=False, server_default="0"))
    # A lease that an earlier version granted counts by the wall clock: it holds until its process is gone, or another boot.
    op.add_column("schedulers", sa.Column("last_tick_boot", sa.BigInteger(), nullable=True))
    for table in ("runs", "tasks", "decisions"):
        op.create_index(f"{table}_by_ending", table, [sa.text("substr(id, 29)")])
    op.create_table(
        "run_days",
        sa.Column("day", sa.Integer(), primary_key=True, nullable=False, autoincrement=False),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in ("succeeded", "ended", "cost_nano", "wasted_nano", "unpriced_calls")
        ),
    )
    op.create_table(
        "run_day_durations",
        sa.Column("day", sa.Integer(), primary_key=True, nullable=False, autoincrement=False),
        sa.Column("measure", sa.Text(), primary_key=True, nullable=False),
        sa.Column("rounded", sa.Float(), primary_key=True, nullable=False),
        sa.Column("runs", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "decision_days",
        sa.Column("day", sa.Integer(), primary_key=True, nullable=False, autoincrement=False),
        sa.Column("decided", sa.BigInteger(), nullable=False),
        sa.Column("denied", sa.BigInteger(), nullable=False),
    )
    _counted_by_day("runs", "status, ended_at, active_micros, cost_nano, unpriced_calls", _JUDGED, _COUNT_RUN)
    _counted_by_day("decisions", "verdict, decided_at", "TRUE", _COUNT_DECISION)
    # What is there already.
    judged = _JUDGED.format(row="runs")
    op.execute(
        f"INSERT INTO run_days SELECT ended_at / {_DAY}, SUM(status = 'succeeded'), COUNT(*), SUM(cost_nano), "
        f"SUM(cost_nano * (status <> 'succeeded')), SUM(unpriced_calls) FROM runs WHERE {judged} GROUP BY 1"
    )
    for measure, value in (("active", "active_micros"), ("share", "CAST(active_micros AS REAL) / deadline_micros")):
        op.execute(
            f"INSERT INTO run_day_durations SELECT ended_at / {_DAY}, '{measure}', CAST(printf('%.1e', {value}) AS REAL), COUNT(*) "
            f"FROM runs WHERE {judged} GROUP BY 1, 3"
        )
    op.execute(f"INSERT INTO decision_days SELECT decided_at / {_DAY}, COUNT(*), SUM(verdict = 'deny') FROM decisions GROUP BY 1")
