"""The exit codes that every command promises."""

from enum import IntEnum
from typing import Self


class ExitCode(IntEnum):
    """What a command's exit status means; the order is that of `taskpilot exit-codes`."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:
        """A member is its number, with its meaning."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    SUCCEEDED = 0, "succeeded, or nothing to do"
    FAILED = 1, "failed, or lost with no attempt left"
    USAGE = 2, "usage error; unknown job or parameter"
    SKIPPED_OVERLAP = 10, "skipped: another run of the job is active (--skip-ok makes it 0)"
    SKIPPED = 11, "skipped: the job is paused, or its scheduled run was started already (--skip-ok makes it 0)"
    BUDGET = 12, "stopped by a budget"
    WAITING = 13, "waits for a person"
    DENIED = 14, "denied by a rule or a person"
    REQUIREMENT = 15, "a ctx.require() check failed"
    CANCELLED = 16, "cancelled by a person"
    STORE = 74, "the database or the state folder cannot be used: full, read-only, corrupt; nothing was overwritten"
    TEMPORARY = 75, "temporary: model server unreachable, database locked or away; safe to retry"
    CONFIGURATION = 78, "invalid configuration or broken job file; no tokens spent"
    DEADLINE = 124, "deadline exceeded"
    SIGINT = 130, "SIGINT before the end: cancelled"
    SIGTERM = 143, "SIGTERM or SIGHUP before the end: the attempt is lost; a retry or `runs resume` goes on"
