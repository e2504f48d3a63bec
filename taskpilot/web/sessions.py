"""Who is logged in on the page: sessions in memory that end, and a limit on wrong logins."""

import secrets
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from enum import IntEnum
from threading import Lock
from typing import Final

IDLE_SECONDS: Final = 12 * 3600.0
"""A session ends after this time without a request."""
LONGEST_SECONDS: Final = 7 * 86_400.0
"""And after this time in any case."""
MOST: Final = 1_000
"""Of more sessions, the one that was used least recently ends."""

WRONG_LOGINS: Final = 10
"""From one address in a minute; further ones are refused without a look at the token."""
_MINUTE: Final = 60.0
_ADDRESSES_MAX: Final = 10_000


class Role(IntEnum):
    """What a client may do."""

    NOBODY = 0
    READER = 1
    WRITER = 2


@dataclass(slots=True)
class Session:
    """One login."""

    role: Role
    csrf: str
    began: float
    used: float
    told: list[str] = field(default_factory=list)
    """What the next page says about the last action."""


class Sessions:
    """The sessions by the secret in their cookie; may be used from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._by_id: OrderedDict[str, Session] = OrderedDict()

    def begin(self, role: Role) -> str:
        """The secret of a new session."""
        name, now = secrets.token_urlsafe(32), time.monotonic()
        with self._lock:
            self._by_id[name] = Session(role, secrets.token_urlsafe(24), now, now)
            while len(self._by_id) > MOST:
                self._by_id.popitem(last=False)
        return name

    def find(self, name: str) -> Session | None:
        """The session, which is used by this; None where there is none or it has ended."""
        now = time.monotonic()
        with self._lock:
            found = self._by_id.get(name)
            if found is None:
                return None
            if now - found.used > IDLE_SECONDS or now - found.began > LONGEST_SECONDS:
                del self._by_id[name]
                return None
            found.used = now
            self._by_id.move_to_end(name)
            return found

    def end(self, name: str) -> None:
        """Ends a session, if there is one."""
        with self._lock:
            self._by_id.pop(name, None)


class LoginLimit:
    """Counts the wrong logins of each address."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def is_reached(self, address: str) -> bool:
        """Whether this address had too many wrong logins in the last minute."""
        with self._lock:
            times = self._wrong.get(address)
            while times and time.monotonic() - times[0] >= _MINUTE:
                times.popleft()
            return times is not None and len(times) >= WRONG_LOGINS

    def count(self, address: str) -> None:
        """Notes a wrong login."""
        with self._lock:
            self._wrong.setdefault(address, deque(maxlen=WRONG_LOGINS)).append(time.monotonic())
            self._wrong.move_to_end(address)
            while len(self._wrong) > _ADDRESSES_MAX:
                self._wrong.popitem(last=False)
