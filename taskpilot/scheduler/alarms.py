"""When each job is due next, as one heap: what is due is found without looking at ten thousand others."""

import heapq
from collections.abc import Mapping
from datetime import datetime

from taskpilot.domain.schedule import Schedule


class Alarms:
    """The next fire of each job that has one."""

    def __init__(self) -> None:
        self._schedules: dict[str, Schedule] = {}
        self._heap: list[tuple[datetime, str]] = []

    def set(self, schedules: Mapping[str, Schedule], *, after: Mapping[str, datetime]) -> None:
        """From here on exactly these: each at its first fire after its cursor, which may be long past."""
        self._schedules = dict(schedules)
        known = _Following()
        found = {job: known.after(schedule, after[job]) for job, schedule in schedules.items() if job in after}
        self._heap = [(due, job) for job, due in found.items() if due is not None]
        heapq.heapify(self._heap)

    @property
    def next(self) -> datetime | None:
        """When the first one rings."""
        return self._heap[0][0] if self._heap else None

    def ring(self, now: datetime) -> dict[str, datetime]:
        """The jobs that are due, with the time at which they became so; each is set to its next fire after now."""
        ringing: dict[str, datetime] = {}
        known = _Following()
        while self._heap and self._heap[0][0] <= now:
            due, job = heapq.heappop(self._heap)
            ringing[job] = due
            following = known.after(self._schedules[job], now)
            if following is not None:
                heapq.heappush(self._heap, (following, job))
        return ringing


class _Following:
    """The next fire of a schedule, found once for all the jobs that have it: a thousand jobs at midnight ask a thousand times."""

    def __init__(self) -> None:
        self._found: dict[tuple[Schedule, datetime], datetime | None] = {}

    def after(self, schedule: Schedule, moment: datetime) -> datetime | None:
        """As `Schedule.next_after`."""
        if (schedule, moment) not in self._found:
            self._found[schedule, moment] = schedule.next_after(moment)
        return self._found[schedule, moment]
