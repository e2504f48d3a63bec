"""Absolute paths and times of day for a crontab line or a unit."""

import os
import pwd
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from taskpilot.config import Settings
from taskpilot.config.root import PROJECT_FILE, SETTINGS_FILE
from taskpilot.domain.errors import UsageError
from taskpilot.domain.specs import JobSpec
from taskpilot.schedules.schedule import Cron, Every

_LOCALTIME: Final = Path("/etc/localtime")
_YEARS: Final = 3
"""How far ahead two zones are compared, and changes of the clock are searched."""


@dataclass(frozen=True, slots=True)
class Places:
    """The paths and facts of this installation and host that every line and unit needs."""

    program: tuple[str, ...]
    """How `taskpilot` is started: its own executable, absolute."""
    root: Path
    state_dir: Path
    names_state_dir: bool
    """True where only an option or the environment sets it, so that the command must name it."""
    jobs_dir: Path
    names_jobs_dir: bool
    user: str
    host_zone: str | None
    """The zone of cron's clock; None where it is not known."""
    drain_timeout: float
    environment: tuple[str, ...]
    """Variables that a setting came from: cron and systemd do not have them."""

    def command(self, *arguments: str) -> list[str]:
        """The command line of `taskpilot ARGUMENTS` for this root."""
        home = ["--home", str(self.state_dir)] if self.names_state_dir else []
        jobs = ["--jobs", str(self.jobs_dir)] if self.names_jobs_dir else []
        return [*self.program, "--root", str(self.root), *home, *jobs, *arguments]

    def run(self, job: str) -> list[str]:
        """The command line that claims the job's latest fire."""
        return self.command("run", job, "--scheduled-for", "auto", "--quiet")


def places_of(settings: Settings) -> Places:
    """Those of this process."""
    account = pwd.getpwuid(os.getuid())
    sources = settings.sources
    return Places(
        program=_program(),
        root=settings.root,
        state_dir=settings.state_dir,
        names_state_dir=is_elsewhere(sources["state_dir"]),
        jobs_dir=settings.jobs_dir,
        names_jobs_dir=is_elsewhere(sources["jobs_dir"]),
        user=account.pw_name,
        host_zone=host_zone(),
        drain_timeout=settings.drain_timeout,
        environment=tuple(sorted({variable for field, variable in settings.variables.items() if field not in _IN_COMMAND})),
    )


_IN_COMMAND: Final = frozenset({"root", "state_dir", "jobs_dir"})
"""Fields that the command line itself sets."""


def host_zone(localtime: Path = _LOCALTIME) -> str | None:
    """The IANA name of the host's zone; None where its file is no link to one."""
    if not localtime.exists():
        return "UTC"
    _, folder, name = str(localtime.resolve()).partition("/zoneinfo/")
    return name.removeprefix("posix/") or None if folder else None


def same_clock(one: str, other: str, *, after: datetime) -> bool:
    """Whether clocks in both zones show the same time for some years, also where the names of the zones differ."""
    first, second = ZoneInfo(one), ZoneInfo(other)
    days = (after + timedelta(days=number) for number in range(366 * _YEARS))
    return one == other or all(day.astimezone(first).utcoffset() == day.astimezone(second).utcoffset() for day in days)


def changes_of(zone: str, *, after: datetime) -> list[tuple[datetime, datetime]]:
    """Days, as (start, end), within which the zone's clocks change."""
    where = ZoneInfo(zone)
    start = after.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [start + timedelta(days=number) for number in range(366 * _YEARS)]
    return [(day, end) for day, end in pairwise(days) if day.astimezone(where).utcoffset() != end.astimezone(where).utcoffset()]


def exported(jobs: Iterable[JobSpec], given: Iterable[str]) -> list[JobSpec]:
    """The jobs that are named, or all that have a schedule. Raises UsageError for one that has none, and where no job has one."""
    known = {spec.name: spec for spec in jobs}
    names = list(dict.fromkeys(given))
    for name in names:
        if name in known and known[name].schedule is None:
            raise UsageError(f"job {name} has no schedule, so there is nothing to export", hint=f"taskpilot run {name}")
    found = [known[name] for name in names] or [spec for spec in known.values() if spec.schedule is not None]
    if not found:
        raise UsageError("no job has a schedule, so there is nothing to export", hint="taskpilot jobs list")
    return found


def is_plain(text: str) -> bool:
    """Whether a text has no control character and can be written as UTF-8."""
    return text.isprintable() or all(
        ord(character) >= 32 and not 0xD800 <= ord(character) < 0xE000 and ord(character) != 127 for character in text
    )


def numbers(schedule: Cron) -> list[str]:
    """The five fields with numbers in the place of names, which not every reader knows."""
    fields = schedule.expression.split()
    for index, names in ((3, _MONTHS), (4, _DAYS)):
        for number, name in enumerate(names, start=1 if index == 3 else 0):
            fields[index] = fields[index].replace(name, str(number))
    return fields


_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def _program() -> tuple[str, ...]:
    own = Path(sys.executable).with_name("taskpilot")
    return (str(own),) if own.is_file() else (sys.executable, "-m", "taskpilot")


def is_elsewhere(source: str) -> bool:
    """Whether a setting has this source only here, so that a command of another process must name it."""
    return source not in ("default", SETTINGS_FILE, PROJECT_FILE)


_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
LINES_MAX: Final = 12
"""A period that needs more lines than these for one day is a case for `taskpilot serve`."""


@dataclass(frozen=True, slots=True)
class Times:
    """Each hour with each minute with each second of the lists."""

    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    seconds: tuple[int, ...]


def times_of_day(schedule: Every) -> list[Times] | None:
    """The times of day in UTC, the same every day; None where the days differ, or too many lines would be needed."""
    if _DAY % schedule.period or schedule.period % _SECOND or schedule.anchor.microsecond:
        return None
    anchor = schedule.anchor
    first = timedelta(hours=anchor.hour, minutes=anchor.minute, seconds=anchor.second) % schedule.period // _SECOND
    step = schedule.period // _SECOND
    moments = [(second // 3600, second // 60 % 60, second % 60) for second in range(first, 86_400, step)]
    # First the seconds of each minute, then the minutes of each hour, then the hours with the same minutes and seconds.
    by_minute = [(key, tuple(moment[2] for moment in group)) for key, group in groupby(moments, key=itemgetter(0, 1))]
    by_seconds: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for (hour, minute), seconds in by_minute:
        by_seconds.setdefault((hour, seconds), []).append(minute)
    hours: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
    for (hour, seconds), minutes in by_seconds.items():
        hours.setdefault((tuple(minutes), seconds), []).append(hour)
    found = [Times(tuple(each), minutes, seconds) for (minutes, seconds), each in hours.items()]
    return found if len(found) <= LINES_MAX else None


def listed(values: tuple[int, ...], size: int, *, width: int = 1) -> str:
    """`*` for all of them, else a list; with zeros in front up to `width`."""
    return "*" if len(values) == size else ",".join(f"{value:0{width}}" for value in values)
