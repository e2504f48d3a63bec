"""Lists the fires of a job: single ones, and gaps of many with one outcome."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from taskpilot.deployment import Deployment
from taskpilot.domain.reasons import Reason
from taskpilot.domain.runs import FireOutcome
from taskpilot.messages.reasons import reason_sentence
from taskpilot.messages.shapes import iso, reason_json
from taskpilot.store.fires import fires_page, gaps_page


@dataclass(frozen=True, slots=True)
class FireLine:
    """One fire, or several in a row with the same outcome and reason."""

    job: str
    first: datetime
    last: datetime
    count: int
    outcome: FireOutcome
    run_id: str | None
    reason: Reason
    recorded_at: datetime


def list_fires(
    deployment: Deployment,
    job: str | None,
    *,
    outcomes: Iterable[str] = (),
    since: datetime | None = None,
    before: datetime | None = None,
    limit: int = 50,
) -> list[FireLine]:
    """The fires and gaps of a job, or of all, whose last fire is before an instant, latest first; only those with one of the outcomes."""
    with deployment.store.read() as connection:
        rows = fires_page(connection, job=job, outcomes=outcomes, since=since, before=before, limit=limit)
        gaps = gaps_page(connection, job, outcomes=outcomes, since=since, before=before, limit=limit)
    lines = [
        FireLine(fire.job, fire.scheduled_for, fire.scheduled_for, 1, fire.outcome, fire.run_id, fire.reason, fire.recorded_at)
        for fire in rows
    ]
    lines += [FireLine(gap.job, gap.first, gap.last, gap.count, gap.outcome, None, gap.reason, gap.recorded_at) for gap in gaps]
    # The last fire of a gap has no row of its own, so no two lines end at the same instant.
    return sorted(lines, key=lambda line: line.last, reverse=True)[:limit]


def fire_json(line: FireLine) -> dict[str, Any]:
    """A fire or a gap as a JSON value: `count` fires from `first` to `scheduled_for`, both included."""
    return {
        "job": line.job,
        "scheduled_for": iso(line.last),
        "first": iso(line.first),
        "count": line.count,
        "outcome": line.outcome.value,
        "run_id": line.run_id,
        **reason_json(line.reason, now=line.outcome is FireOutcome.BUFFERED),
        "recorded_at": iso(line.recorded_at),
    }


def outcome_json(line: FireLine) -> dict[str, Any]:
    """A fire or a gap as `taskpilot fires` shows it; of a gap, the last fire."""
    return {
        "job": line.job,
        "scheduled_for": iso(line.last),
        "outcome": line.outcome.value,
        "run_id": line.run_id,
        "reason": reason_sentence(line.reason, now=line.outcome is FireOutcome.BUFFERED),
        "reason_code": line.reason.code.value,
        "count": line.count,
    }
