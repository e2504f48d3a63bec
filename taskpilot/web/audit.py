"""Records each write request over HTTP, refused ones too."""

import json
import re
import time
from contextlib import suppress
from threading import Lock
from typing import Final

from taskpilot.domain.errors import TaskPilotError
from taskpilot.domain.text import one_line
from taskpilot.store.schedulers import answer_audit, insert_audit
from taskpilot.web.dependencies import Services

API: Final = "api"
"""The actor of a request with a token."""
PAGE: Final = "page"
"""The actor of a form of somebody who is logged in."""
ANONYMOUS: Final = "anonymous"
"""The actor of a request without a valid token."""
ANONYMOUS_A_MINUTE: Final = 60
"""At most so many refused requests without a valid token are recorded a minute, so that they cannot fill the store."""

_WRITE: Final = re.compile(r"(?:/api/v1)?/(jobs|runs|tasks|decisions|approvals|incidents)/([^/]+)/([a-z]+)")


class Audit:
    """Writes the audit rows; may be used from any thread."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = Lock()
        self._minute = 0
        self._anonymous = 0

    def begin(self, method: str, path: str, actor: str) -> str:
        """Records a request before it is executed; returns the row's id. On StoreError or StoreBusy it must not be executed."""
        action, subject = _named(method, path)
        deployment = self._services.deployment
        with deployment.store.write() as connection:
            return insert_audit(connection, actor=actor, action=action, subject=subject, now=self._services.now())

    def end(self, audit_id: str, status: int, body: bytes) -> None:
        """Adds the answer. The request has been executed: if the store is busy, the row stays without an answer."""
        with suppress(TaskPilotError), self._services.deployment.store.write() as connection:
            answer_audit(connection, audit_id, f"{status} {_sentence(body)}".strip())

    def answered(self, actor: str, action: str, subject: str) -> None:
        """Records an answer by a link, which is recorded already; if the store is busy, the row is dropped."""
        with suppress(TaskPilotError), self._services.deployment.store.write() as connection:
            insert_audit(connection, actor=actor, action=action, subject=subject, answer="200", now=self._services.now())

    def refused(self, method: str, path: str, status: int, *, anonymous: bool, actor: str = API) -> None:
        """Records a refused request; if the store is busy, the row is dropped."""
        if anonymous and not self._has_room():
            return
        action, subject = _named(method, path)
        actor = ANONYMOUS if anonymous else actor
        with suppress(TaskPilotError), self._services.deployment.store.write() as connection:
            insert_audit(connection, actor=actor, action=action, subject=subject, answer=str(status), now=self._services.now())

    def _has_room(self) -> bool:
        with self._lock:
            minute = int(time.monotonic() // 60)
            if minute != self._minute:
                self._minute, self._anonymous = minute, 0
            self._anonymous += 1
            return self._anonymous <= ANONYMOUS_A_MINUTE


def _named(method: str, path: str) -> tuple[str, str]:
    """Action and subject, like ("runs.cancel", the run's id); for an unknown path, the method and the path."""
    found = _WRITE.fullmatch(path)
    return (f"{found[1]}.{found[3]}", one_line(found[2])) if found else (one_line(method, limit=20), one_line(path))


def _sentence(body: bytes) -> str:
    try:
        answer = json.loads(body)
    except ValueError:
        return ""
    return one_line(str(answer.get("detail") or answer.get("message") or ""), limit=500) if isinstance(answer, dict) else ""
