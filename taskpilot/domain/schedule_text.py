"""The way back from a schedule's description, as the store keeps it, to the schedule."""

import re
from typing import Final

from taskpilot.domain.schedule import Schedule, at, cron, every

_CRON: Final = re.compile(r"cron (.+) \(([^()]+)\)")
_EVERY: Final = re.compile(r"every (\S+)(?: from (\S+))?")
_AT: Final = re.compile(r"at (\S+)")


def schedule_of(text: str) -> Schedule:
    """The schedule whose `describe()` gave the text. Raises ValueError where none would: another version wrote it."""
    if found := _CRON.fullmatch(text):
        return cron(found[1], timezone=found[2])
    if found := _EVERY.fullmatch(text):
        return every(found[1], anchor=found[2])
    if found := _AT.fullmatch(text):
        return at(found[1])
    raise ValueError(f"{text!r} describes no schedule of this version")
