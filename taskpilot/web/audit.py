"""One row in the record for each write that came over HTTP, the refused ones too."""

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

ACTOR: Final = "api"
ANONYMOUS: Final = "stranger"
"""Who has no token, or a wrong one."""
STRANGERS_A_MINUTE: Final = 60
"""So many refusals of strangers are recorded a minute: the record is not theirs to fill."""

_WRITE: Final = re.compile(r"/api/v1/(jobs|runs|tasks|decisions)/([^/]+)/([a-z]+)")


class Audit:
    """Writes those rows; may be used from any thread."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = Lock()
        self._minute = 0
        self._strangers = 0

    def begin(self, method: str, path: str) -> str:
        """Records a write before it is done and gives the row's id; what cannot be recorded is not done. Raises StoreError or StoreBusy."""
        action, subject = _named(method, path)
        deployment = self._services.deployment
        with deployment.store.write() as connection:
            return insert_audit(connection, actor=ACTOR, action=action, subject=subject, now=self._services.now())

    def end(self, audit_id: str, status: int, body: bytes) -> None:
        """Adds what it came to. It is done by now: a store that is busy leaves the row without an answer."""
        with suppress(TaskPilotError), self._services.deployment.store.write() as connection:
            answer_audit(connection, audit_id, f"{status} {_sentence(body)}".strip())

    def refused(self, method: str, path: str, status: int, *, stranger: bool) -> None:
        """Records a write that was refused at the door. Nothing was done: a store that is busy loses no more than this row."""
        if stranger and not self._has_room():
            return
        action, subject = _named(method, path)
        actor = ANONYMOUS if stranger else ACTOR
        with suppress(TaskPilotError), self._services.deployment.store.write() as connection:
            insert_audit(connection, actor=actor, action=action, subject=subject, answer=str(status), now=self._services.now())

    def _has_room(self) -> bool:
        with self._lock:
            minute = int(time.monotonic() // 60)
            if minute != self._minute:
                self._minute, self._strangers = minute, 0
            self._strangers += 1
            return self._strangers <= STRANGERS_A_MINUTE


def _named(method: str, path: str) -> tuple[str, str]:
    """Like ("runs.cancel", the run's id); of a path that is no write of ours, its method and itself."""
    found = _WRITE.fullmatch(path)
    return (f"{found[1]}.{found[3]}", one_line(found[2])) if found else (one_line(method, limit=20), one_line(path))


def _sentence(body: bytes) -> str:
    try:
        answer = json.loads(body)
    except ValueError:
        return ""
    return one_line(str(answer.get("detail") or answer.get("message") or ""), limit=500) if isinstance(answer, dict) else ""
