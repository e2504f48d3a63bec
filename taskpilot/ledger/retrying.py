"""When a further attempt may start: after a backoff with full jitter, and never past the next fire of its job."""

from datetime import datetime, timedelta
from typing import Final

from taskpilot.domain.specs import JobSpec

_FIRST: Final = timedelta(seconds=2)
_LONGEST: Final = timedelta(minutes=1)
"""The supervisor keeps its place while it waits."""


def backoff(attempts: int, drawn: float) -> timedelta:
    """The wait after so many attempts: `drawn`, in [0, 1), of a time that doubles with each. Many that failed at once do not meet again."""
    longest: timedelta = min(_FIRST * 2 ** min(attempts - 1, 16), _LONGEST)
    return longest * drawn


def overtaken_by(spec: JobSpec | None, scheduled_for: datetime | None, start: datetime) -> datetime | None:
    """The next fire after the one that a run is for, where a start would come after it: then that fire does the work, not a retry."""
    if spec is None or spec.schedule is None or scheduled_for is None:
        return None
    following = spec.schedule.next_after(scheduled_for)
    return following if following is not None and following <= start else None
