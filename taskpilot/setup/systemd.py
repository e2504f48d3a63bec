"""Writes timer and service units for jobs, and a service for `taskpilot serve`; refuses what a timer cannot express, with a hint."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from taskpilot.domain.errors import UsageError
from taskpilot.domain.specs import JobSpec
from taskpilot.domain.text import one_line
from taskpilot.domain.times import format_duration, utc_iso
from taskpilot.ledger.due_policy import OVERLAP
from taskpilot.schedules.schedule import At, Cron, Every, catch_up_window
from taskpilot.setup.places import Places, changes_of, is_plain, listed, numbers, times_of_day

WATCHDOG_SECONDS: Final = 60
"""A server wakes up every 15 s at the latest: one that misses four of these hangs."""
DRAIN_EXTRA_SECONDS: Final = 20
"""After the drain: 10 s for runs that got SIGTERM, and as much to kill and record them."""
_LARGEST: Final = (59, 23, 31, 12, 7)
_WEEKDAYS: Final = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_READ_ONLY: Final = (Path("/usr"), Path("/boot"), Path("/efi"), Path("/etc"))
"""What ProtectSystem=full makes read-only."""
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@")
_HARDENING: Final = """\
# Nothing here keeps a job from its files, its network or its child processes. A job that needs sudo needs NoNewPrivileges=no.
NoNewPrivileges=yes
ProtectSystem=full
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
LockPersonality=yes"""


def job_units(jobs: Sequence[JobSpec], places: Places, *, name: str, now: datetime) -> dict[str, str]:
    """File names and texts of a timer and a service for each job. Raises UsageError that names each job that a timer cannot express."""
    units: dict[str, str] = {}
    refused = []
    for spec in jobs:
        try:
            units[f"{name}-{spec.name}.timer"] = _timer(spec, now)
            units[f"{name}-{spec.name}.service"] = _run_service(spec, places)
        except UsageError as error:
            refused.append(error)
    if refused:
        raise UsageError(problems=refused)
    return units


def serve_unit(places: Places, *, name: str, host: str, port: int) -> dict[str, str]:
    """File name and text of the service for `taskpilot serve`."""
    stop = ceil(places.drain_timeout) + DRAIN_EXTRA_SECONDS
    # KillMode=process: a crash or a restart of the server does not end its runs; at a stop, the server's own drain ends them.
    text = f"""\
[Unit]
Description=TaskPilot: scheduler, runs and HTTP
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
NotifyAccess=main
{_start(places.command("serve", "--host", host, "--port", str(port)), places)}
WatchdogSec={WATCHDOG_SECONDS}
Restart=on-failure
RestartSec=5
# A restart does not fix a wrong command line or configuration.
RestartPreventExitStatus=2 78
SuccessExitStatus=143
KillMode=process
# TASKPILOT_DRAIN_TIMEOUT is {places.drain_timeout:g} s, and then come the grace and the record.
TimeoutStopSec={stop}

{_HARDENING}{_writable(places)}

[Install]
WantedBy=multi-user.target
"""
    return {f"{name}.service": text}


def _run_service(spec: JobSpec, places: Places) -> str:
    return f"""\
[Unit]
Description=TaskPilot job {spec.name}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
{_start(places.run(spec.name), places)}
# 10 and 11: skipped. 13: waits for a person. 143: ended by a signal, and kept. TaskPilot itself enforces the run's deadline.
SuccessExitStatus=10 11 13 143
KillMode=mixed
TimeoutStopSec=30

{_HARDENING}{_writable(places)}
"""


def _timer(spec: JobSpec, now: datetime) -> str:
    if spec.catch_up == "all":
        raise _refusal(spec, 'a timer catches up on one missed fire only, and the job has catch_up="all"')
    if OVERLAP[spec.overlap].queue != 0:
        raise _refusal(spec, f"a timer does not start its service while that runs, so overlap={spec.overlap!r} would meet no run")
    lines = [f"OnCalendar={calendar}" for calendar in _calendars(spec)]
    lost = _skipped(spec, now)
    comment = "" if lost is None else "".join(f"# {line}\n" for line in lost)
    if spec.jitter:
        lines.append(_delay(spec, now))
    return f"""\
[Unit]
Description=TaskPilot job {spec.name}: {_described(spec)}

[Timer]
# The run claims the latest fire of the job's own schedule: one elapse too many starts nothing. One that comes while the service still
# runs does not start it again; `taskpilot why {spec.name}` shows the outcome of its fire.
{comment}{chr(10).join(lines)}
# systemd's default is a minute late.
AccuracySec=100ms
# After the host was off: the job's catch_up_window decides whether the latest fire is still run.
Persistent={"no" if spec.catch_up == "skip" else "yes"}

[Install]
WantedBy=timers.target
"""


def _calendars(spec: JobSpec) -> list[str]:
    schedule = spec.schedule
    if isinstance(schedule, Cron):
        return _cron_calendars(schedule)
    if isinstance(schedule, At) and not schedule.when.microsecond:
        return [f"{schedule.when:%Y-%m-%d %H:%M:%S} UTC"]
    found = times_of_day(schedule) if isinstance(schedule, Every) else None
    if found is None:
        raise _refusal(spec, f"OnCalendar= cannot express {_described(spec)!r}: its times in UTC differ from day to day")
    return [
        f"*-*-* {listed(one.hours, 24, width=2)}:{listed(one.minutes, 60, width=2)}:{listed(one.seconds, 60, width=2)} UTC" for one in found
    ]


def _cron_calendars(schedule: Cron) -> list[str]:
    """One line, or two where either of the day fields may match: within one line, OnCalendar= requires both."""
    fields = numbers(schedule)
    values = [_values(field, low, high) for field, low, high in zip(fields, (0, 0, 1, 1, 0), _LARGEST, strict=True)]
    minute, hour = (listed(tuple(values[index]), 60 if index == 0 else 24, width=2) for index in (0, 1))
    month, day = listed(tuple(values[3]), 12, width=2), listed(tuple(values[2]), 31, width=2)
    weekdays = ",".join(_WEEKDAYS[number] for number in sorted({number % 7 for number in values[4]}, key=lambda number: number or 7))
    week = "" if len({number % 7 for number in values[4]}) == 7 else f"{weekdays} "
    at = f"{hour}:{minute}:00 {schedule.zone}"
    if week and day != "*" and not (fields[2].startswith("*") or fields[4].startswith("*")):
        return [f"*-{month}-{day} {at}", f"{week}*-{month}-* {at}"]
    return [f"{week}*-{month}-{day} {at}"]


def _values(field: str, low: int, high: int) -> list[int]:
    found: set[int] = set()
    for term in field.split(","):
        head, _, step = term.partition("/")
        first, _, last = (f"{low}-{high}" if head == "*" else head).partition("-")
        found.update(range(int(first), int(last or first) + 1, int(step or 1)))
    return sorted(found)


def _skipped(spec: JobSpec, now: datetime) -> tuple[str, str] | None:
    """Comment lines for a fire that the timer skips when clocks change: a fixed time in the gap, or in the repeated hour."""
    schedule = spec.schedule
    if not isinstance(schedule, Cron):
        return None
    zone = ZoneInfo(schedule.zone)
    fields = numbers(schedule)
    minutes, hours = _values(fields[0], 0, 59), _values(fields[1], 0, 23)
    for start, end in changes_of(schedule.zone, after=now):
        for fire in schedule.between(start, end):
            wall = fire.astimezone(zone)
            if wall.fold or wall.hour not in hours or wall.minute not in minutes:
                when = utc_iso(fire)
                return (
                    f"systemd skips the fire of {when}, when the clocks in {schedule.zone} change, and later ones like it:",
                    f"`taskpilot run {spec.name} --scheduled-for {when}` runs it by hand, `taskpilot serve` automatically.",
                )
    return None


def _delay(spec: JobSpec, now: datetime) -> str:
    assert spec.schedule is not None
    period = spec.schedule.period_hint(now)
    longest = catch_up_window(spec.schedule, now, chosen=spec.catch_up_window)
    longest = longest if period is None else min(longest, period)
    if spec.jitter >= longest:
        why = f"with jitter={format_duration(spec.jitter)!r} a start may come when its fire cannot be claimed any more"
        raise _refusal(spec, f"{why} ({format_duration(longest)} after its time)")
    return f"RandomizedDelaySec={spec.jitter / timedelta(seconds=1):g}s"


def _start(command: list[str], places: Places) -> str:
    return f"""\
User={places.user}
# Keys belong into .env in the root, which TaskPilot reads itself.
ExecStart={exec_line(command)}"""


def exec_line(command: Sequence[str]) -> str:
    """A command line in systemd's grammar: quoted, with `%` and `$` doubled. Raises UsageError for what it cannot hold."""
    program, *arguments = command
    if not is_plain(program) or set(program) & set("\"'\\"):
        # systemd refuses such a path as the program, and takes it as an argument.
        return exec_line(["/bin/sh", "-c", 'exec "$0" "$@"', *command])
    # systemd expands no variable in the program's path, so a $ there needs no escape.
    return " ".join([_word(program), *(_word(word).replace("$", "$$") for word in arguments)])


def _word(text: str) -> str:
    if not text.isascii() and any(0xD800 <= ord(character) < 0xE000 for character in text):
        raise UsageError(f"a unit cannot hold the path {one_line(repr(text), limit=80)}: it is not UTF-8", hint="rename the folder")
    escaped = "".join(
        f"\\x{ord(character):02x}" if ord(character) < 32 or ord(character) == 127 else _ESCAPES.get(character, character)
        for character in text
    )
    return escaped if text and set(text) <= _PLAIN else f'"{escaped}"'


_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "%": "%%"}


def _writable(places: Places) -> str:
    """The folders that a job and we write, where ProtectSystem= would forbid it."""
    within = [path for path in (places.root, places.state_dir) if any(path.is_relative_to(folder) for folder in _READ_ONLY)]
    return "".join(f"\nReadWritePaths=-{_word(str(path))}" for path in within)


def _described(spec: JobSpec) -> str:
    assert spec.schedule is not None
    return spec.schedule.describe()


def _refusal(spec: JobSpec, why: str) -> UsageError:
    return UsageError(f"job {spec.name}: {why}", hint="use `taskpilot serve` (`taskpilot export systemd --serve` writes its unit)")
