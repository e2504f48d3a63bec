import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from taskpilot.domain.events import EventKind
from taskpilot.domain.notices import Incident, Notice
from taskpilot.domain.reasons import NO_REASON, Reason
from taskpilot.notices.incidents import Incidents
from taskpilot.notices.report import write_report
from taskpilot.notices.routes import Routes
from taskpilot.store import notice_tables as tables
from taskpilot.store import notices
from taskpilot.store.events import record_event
from tests.spine import Spine

CHANNELS = """
[notify.channels.ops]
url = "http://127.0.0.1:1/hook"
[notify.channels.night]
url = "http://127.0.0.1:1/night"
"""


class Desk(Spine):
    """A root whose events a test writes, and what is told of them."""

    def happen(
        self,
        kind: EventKind,
        job: str = "triage",
        *,
        run_id: str | None = None,
        fire: datetime | None = None,
        number: int = 1,
        reason: Reason = NO_REASON,
    ) -> None:
        with self.store.write() as connection:
            record_event(connection, kind, job, at=self.clock(), run_id=run_id, fire=fire, number=number, reason=reason)

    def look(self) -> None:
        """What a process does that writes notices."""
        routes = Routes.of(self.deployment)
        incidents = Incidents(self.deployment, routes)
        incidents.follow_events()
        incidents.follow_time()
        write_report(self.deployment, routes)

    def incidents(self) -> list[Incident]:
        with self.store.read() as connection:
            return [notices.incident_of(row) for row in connection.execute(select(tables.incidents).order_by(tables.incidents.c.opened_at))]

    def notices(self) -> list[Notice]:
        with self.store.read() as connection:
            return [notices.notice_of(row) for row in connection.execute(select(tables.notices).order_by(tables.notices.c.position))]

    @property
    def told(self) -> list[str]:
        """The events of the notices, with the channel where it is not `ops`."""
        return [one.event.value if one.channel == "ops" else f"{one.event.value} {one.channel}" for one in self.notices()]

    def facts(self, position: int = -1) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(json.dumps(dict(self.notices()[position].facts)))
        return found


@pytest.fixture
def settings() -> str:
    return '[notify]\ndefault = ["ops"]\n'


@pytest.fixture
def desk(tmp_path: Path, settings: str) -> Iterator[Desk]:
    made = Desk(tmp_path, settings=settings + CHANNELS)
    yield made
    made.close()
