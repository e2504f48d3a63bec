"""Answers of writes by idempotency key, so that a request that is sent again acts once."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final

from starlette.types import Message

KEPT_SECONDS: Final = 86_400.0
MOST: Final = 2_000
KEY_MOST: Final = 200
"""Characters of a key."""
KEY_PATTERN: Final = "^[!-~]+$"


@dataclass(slots=True)
class Repeat:
    """A request with a key, and its answer."""

    digest: bytes
    at: float
    messages: Sequence[Message] | None = None
    """None while it is executed."""


class Repeats:
    """The answers of this start of the server. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: OrderedDict[tuple[str, ...], Repeat] = OrderedDict()

    def begin(self, key: tuple[str, ...], body: bytes) -> Repeat | None:
        """Notes a request, and gives None; or gives the earlier request with this key."""
        now, digest = time.monotonic(), hashlib.sha256(body).digest()
        with self._lock:
            while self._known and (len(self._known) >= MOST or now - next(iter(self._known.values())).at > KEPT_SECONDS):
                self._known.popitem(last=False)
            found = self._known.get(key)
            if found is None:
                self._known[key] = Repeat(digest, now)
            return found

    def end(self, key: tuple[str, ...], messages: Sequence[Message], *, keep: bool) -> None:
        """Keeps the answer, or forgets the request: one that was refused for now may be tried again."""
        with self._lock:
            if keep and key in self._known:
                self._known[key].messages = messages
            else:
                self._known.pop(key, None)
