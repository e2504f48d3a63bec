"""The lines of `serve`: each run that starts and ends, and each fire that did not start."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taskpilot.domain.ids import short_id
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import Outcome, RunStatus
from taskpilot.jobs.decorator import job
from taskpilot.scheduler.reporter import LINES_MAX, Reporter
from taskpilot.schedules.schedule import every
from tests import records
from tests.spine import NOON, Spine

MINUTE = timedelta(minutes=1)


@pytest.fixture
def spine(tmp_path: Path) -> Iterator[Spine]:
    made = Spine(tmp_path)
    yield made
    made.close()


def test_each_run_has_a_line_at_its_start_and_at_its_end_also_where_it_was_short(spine: Spine) -> None:
    @job(schedule=every("1m"))
    def triage(ctx: Any) -> None: ...

    @job
    def quick(ctx: Any) -> None: ...

    lines: list[str] = []
    reporter = Reporter(spine.deployment, lines.append)
    reporter.report((), NOON)
    claim = spine.claim(triage, scheduled_for=NOON)
    reporter.report((), NOON)
    name = short_id(claim.run.id)
    assert lines == [f"triage started for 2026-11-23T12:00:00Z: run {name}"]
    reporter.report((), NOON)
    spine.ledger.end(claim.grant, Outcome(RunStatus.FAILED, records.raised("no inbox")), active_seconds=12.4, keep_lease=False)
    reporter.report((), NOON)
    assert lines[1:] == [f"triage failed: ValueError: no inbox (run {name}, 12.4 s)"]
    spine.succeed(spine.claim(quick))
    reporter.report((), NOON)
    assert [line.split(" (")[0].split(":")[0] for line in lines[2:]] == ["quick started", "quick succeeded"]
    asking = spine.claim(quick)
    reporter.report((), NOON)
    reason = Reason(ReasonCode.APPROVAL, {"tool": "send_mail"})
    spine.ledger.end(asking.grant, Outcome(RunStatus.WAITING, reason), active_seconds=1, keep_lease=False)
    reporter.report((), NOON)
    assert lines[-1].startswith("quick waiting: the call of send_mail needs a person's approval (run ")
    count = len(lines)
    reporter.report((), NOON)
    assert len(lines) == count, "nothing is told twice"


def test_each_fire_that_did_not_start_has_a_line_and_many_are_counted(spine: Spine) -> None:
    @job(schedule=every("1m"), catch_up="skip")
    def busy(ctx: Any) -> None: ...

    lines: list[str] = []
    reporter = Reporter(spine.deployment, lines.append)
    spine.due(busy)
    reporter.report((), NOON)
    spine.later(50)
    spine.claim(busy)
    reporter.report((), NOON)
    spine.later(10)
    claimed = spine.due(busy)
    reporter.report(claimed.jobs, spine.clock())
    assert lines[1].startswith("busy did not start for 2026-11-23T12:01:00Z: run ")
    assert lines[1].endswith("was active")
    spine.later(15 * 60)
    claimed = spine.due(busy, asleep_since=NOON + MINUTE)
    reporter.report(claimed.jobs, spine.clock())
    missed = [line for line in lines if "no scheduler was running" in line]
    # Those that are too old to be caught up are one line.
    assert len(missed) == 3


def test_a_burst_is_cut(spine: Spine) -> None:
    @job
    def many(ctx: Any) -> None: ...

    lines: list[str] = []
    reporter = Reporter(spine.deployment, lines.append)
    reporter.report((), NOON)
    for _ in range(15):
        spine.succeed(spine.claim(many))
    reporter.report((), NOON)
    assert len(lines) == LINES_MAX + 1
    assert lines[-1] == "and 10 more: `taskpilot status` and `taskpilot fires` list them"
