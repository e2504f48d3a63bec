"""The golden signals as the record has them: one query each, over a window that ends now."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, case, cast, func, select
from sqlalchemy.types import Float, Integer

from taskpilot.domain.decisions import Verdict
from taskpilot.domain.feedback import FeedbackVerdict
from taskpilot.domain.moments import to_micros
from taskpilot.domain.runs import OPEN, RunStatus
from taskpilot.store.tables import decisions, feedback, runs

_UNJUDGED: Final = (*sorted(OPEN), RunStatus.CANCELLED)
"""A run that has not ended says nothing yet, and one that a person or a newer fire ended says nothing of the job."""
_SUCCEEDED: Final = runs.c.status == RunStatus.SUCCEEDED


@dataclass(frozen=True, slots=True)
class Share:
    """How many of how many."""

    part: int
    whole: int


@dataclass(frozen=True, slots=True)
class Slowest:
    """What 95 of 100 runs stay within."""

    active_micros: int
    deadline_share: float
    """Of each run's own deadline."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What the runs of a window cost together."""

    nano: int
    wasted_nano: int
    """The part that went into runs which did not succeed."""
    successes: int
    ended: int
    unpriced_calls: int


def successes(connection: Connection, since: datetime) -> Share:
    """The runs that succeeded, of those that ended since."""
    query = select(func.coalesce(func.sum(cast(_SUCCEEDED, Integer)), 0), func.count()).where(_ended(since))
    part, whole = connection.execute(query).one()
    return Share(part, whole)


def slowest(connection: Connection, since: datetime) -> Slowest | None:
    """The 95th percentiles (nearest rank) over the runs that ended since; None where none did."""
    # By nearest rank: of n values, the one that n / 20 others are larger than. The largest first, a sort need not keep the rest.
    larger = select(func.count() // 20).select_from(runs).where(_ended(since)).scalar_subquery()
    used = cast(runs.c.active_micros, Float) / runs.c.deadline_micros
    values = (select(value).where(_ended(since)).order_by(value.desc()).limit(1).offset(larger) for value in (runs.c.active_micros, used))
    active, share = connection.execute(select(*(value.scalar_subquery() for value in values))).one()
    return None if active is None else Slowest(active, share)


def costs(connection: Connection, since: datetime) -> Costs:
    """What the runs that ended since cost, and how much of it bought nothing."""
    query = select(
        func.coalesce(func.sum(runs.c.cost_nano), 0),
        func.coalesce(func.sum(case((~_SUCCEEDED, runs.c.cost_nano), else_=0)), 0),
        func.coalesce(func.sum(cast(_SUCCEEDED, Integer)), 0),
        func.count(),
        func.coalesce(func.sum(runs.c.unpriced_calls), 0),
    ).where(_ended(since))
    return Costs(*connection.execute(query).one())


def violations(connection: Connection, since: datetime) -> Share:
    """The tool calls that policy denied, of those that it decided since."""
    denied = cast(decisions.c.verdict == Verdict.DENY, Integer)
    query = select(func.coalesce(func.sum(denied), 0), func.count()).where(decisions.c.decided_at >= to_micros(since))
    part, whole = connection.execute(query).one()
    return Share(part, whole)


def confirmations(connection: Connection, since: datetime) -> Share:
    """The results that people called correct, of all that they judged since; of each run, the newest word."""
    correct = cast(feedback.c.verdict == FeedbackVerdict.CORRECT, Integer)
    query = select(func.coalesce(func.sum(correct), 0), func.count()).where(feedback.c.given_at >= to_micros(since))
    part, whole = connection.execute(query).one()
    return Share(part, whole)


def _ended(since: datetime) -> ColumnElement[bool]:
    return (runs.c.ended_at >= to_micros(since)) & runs.c.status.not_in(_UNJUDGED)
