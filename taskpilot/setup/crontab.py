"""Writes jobs as lines of a user's crontab for Debian's cron; names what cron cannot express, with a hint."""

import shlex
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from taskpilot.domain.errors import UsageError
from taskpilot.domain.schedule import Schedule
from taskpilot.domain.specs import JobSpec
from taskpilot.domain.text import one_line
from taskpilot.domain.times import format_duration
from taskpilot.schedules.schedule import Cron, Every
from taskpilot.setup.places import Places, changes_of, is_plain, listed, numbers, same_clock, times_of_day

COMMAND_MAX: Final = 998
"""Debian's cron reads a command of so many characters and drops the whole line where it is longer."""
_ELSE: Final = "`taskpilot export systemd` or `taskpilot serve`"
_HOUR: Final = timedelta(hours=1)
_HEADER: Final = """\
# TaskPilot's jobs under cron: put these lines into `crontab -e`, not into /etc/cron.d (which needs a user in each line).
# cron mails what a line prints: nothing for 0, 10 and 11, one line for every other code; `taskpilot exit-codes` lists them.
# cron does not catch up: what was due while the host was off is recorded as missed, or covered by the next fire.
# The times are those of the host's clock. Keys belong into .env beside taskpilot.toml (chmod 600), settings into taskpilot.toml."""


def crontab(jobs: Sequence[JobSpec], places: Places, *, now: datetime) -> tuple[str, list[UsageError]]:
    """The lines of the jobs that cron can run, and for each other job the reason, with a command that can; no text without any line."""
    lines: list[str] = []
    refused: list[UsageError] = []
    for spec in jobs:
        try:
            lines += [f"# {spec.name}: {_described(spec)}", *crontab_lines(spec, places, now=now)]
        except UsageError as error:
            refused.append(error)
    return ("\n".join([_HEADER, *lines]) if lines else ""), refused


def crontab_lines(spec: JobSpec, places: Places, *, now: datetime) -> list[str]:
    """One job's lines: one, or several where a period needs more. Raises UsageError."""
    schedule = spec.schedule
    assert schedule is not None
    if spec.catch_up == "all":
        raise _refusal(spec, 'cron does not catch up, and the job has catch_up="all"', "`taskpilot serve`")
    if spec.jitter:
        raise _refusal(spec, f"cron cannot delay a start by jitter={format_duration(spec.jitter)!r}", _ELSE)
    command = _command(spec, places)
    return [f"{times:<20} {command}" for times in _times(spec, schedule, places, now)]


def _times(spec: JobSpec, schedule: Schedule, places: Places, now: datetime) -> list[str]:
    if isinstance(schedule, Cron):
        fields = numbers(schedule)
        if not _agrees(schedule.zone, places, now, each_hour=fields[1:] == ["*"] * 4):
            why = f"cron follows the host's clock ({places.host_zone or 'of an unknown zone'}), and it is due in {schedule.zone}"
            raise _refusal(spec, why, f"{_ELSE}, or the host's zone in the job")
        return [" ".join(fields)]
    if not isinstance(schedule, Every):
        raise _refusal(spec, f"a crontab line has no year, so it cannot express {schedule.describe()!r}", _ELSE)
    found = times_of_day(schedule)
    if found is None or any(times.seconds != (0,) for times in found):
        raise _refusal(spec, f"a crontab line cannot express {schedule.describe()!r}: it does not divide a day into whole minutes", _ELSE)
    if not _agrees("UTC", places, now, each_hour=all(len(times.hours) == 24 for times in found)):
        why = f"{schedule.describe()!r} follows UTC, and cron the host's clock ({places.host_zone or 'of an unknown zone'})"
        raise _refusal(spec, why, _ELSE)
    return [f"{listed(times.minutes, 60)} {listed(times.hours, 24)} * * *" for times in found]


def _agrees(zone: str, places: Places, now: datetime, *, each_hour: bool) -> bool:
    """Whether the host's clock shows the same; for what is due in each hour, the same minute is enough."""
    host = places.host_zone
    if host is None:
        return False
    moments = [now, *(moment for name in (zone, host) for days in changes_of(name, after=now) for moment in days)]
    apart = (_offset(moment, zone) - _offset(moment, host) for moment in moments)
    return same_clock(zone, host, after=now) or (each_hour and not any(offset % _HOUR for offset in apart))


def _offset(moment: datetime, zone: str) -> timedelta:
    return moment.astimezone(ZoneInfo(zone)).utcoffset() or timedelta(0)


def _command(spec: JobSpec, places: Places) -> str:
    words = places.run(spec.name)
    for word in words:
        # cron itself reads backslashes before % and before backslashes, and its commands end with the line.
        if "\\" in word or not is_plain(word):
            raise _refusal(spec, f"a crontab line cannot hold the path {one_line(repr(word), limit=80)}", _ELSE)
    command = shlex.join(words).replace("%", "\\%")
    if len(command.encode()) > COMMAND_MAX:
        raise _refusal(spec, f"cron drops a command of more than {COMMAND_MAX} characters, and this one has {len(command)}", _ELSE)
    return command


def _described(spec: JobSpec) -> str:
    assert spec.schedule is not None
    return spec.schedule.describe()


def _refusal(spec: JobSpec, why: str, instead: str) -> UsageError:
    return UsageError(f"job {spec.name}: {why}", hint=f"use {instead}; more: taskpilot docs deployment")
