"""Ids: time-ordered UUIDs, parsed before they become a path or a query."""

import os
import time
import uuid
from datetime import datetime
from typing import Final

from taskpilot.domain.errors import UsageError

SHORT: Final = 8
"""Characters of an id's end that lists show; every command takes them in place of the whole id."""


def new_id() -> str:
    """A UUIDv7 (RFC 9562, 5.7) as text: 48 bits of Unix milliseconds, then 74 random bits, so that ids sort by creation time."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & (1 << 48) - 1) << 80
    value |= 0x7 << 76 | (random >> 68 & 0xFFF) << 64
    value |= 0b10 << 62 | random & (1 << 62) - 1
    return str(uuid.UUID(int=value))


def short_id(whole: str) -> str:
    """The end of an id, as lists show it."""
    return whole[-SHORT:]


def smallest_id(moment: datetime) -> str:
    """The smallest id that can be made at an instant or later."""
    milliseconds = max(0, min(int(moment.timestamp() * 1000), (1 << 48) - 1))
    return str(uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | 0b10 << 62))


def parse_id(text: str, *, noun: str = "run", shown_by: str | None = None) -> str:
    """The canonical text of an id that came from outside. Raises UsageError where it is no UUID.

    `shown_by` is the command that shows such ids, where that is not the list of the noun.
    """
    try:
        return str(uuid.UUID(text))
    except (ValueError, AttributeError, TypeError):
        raise UsageError(
            f"{str(text)[:64]!r} is not {'an' if noun[0] in 'aeio' else 'a'} {noun} id", hint=f"taskpilot {shown_by or f'{noun}s list'}"
        ) from None
