"""Writes the report of the night for the default channels, once for each time at which it is due."""

from datetime import datetime, time, timedelta

from taskpilot.deployment import Deployment
from taskpilot.domain.ids import new_id
from taskpilot.domain.notices import NoticeEvent
from taskpilot.domain.times import local_instant
from taskpilot.messages.notices import commanded, report_facts
from taskpilot.notices.routes import Routes
from taskpilot.store import notices
from taskpilot.views.status import status, status_json


def write_report(deployment: Deployment, routes: Routes) -> None:
    """Writes the report where it is due and not written yet; it covers the time since the one before. Raises StoreError or StoreBusy."""
    at = routes.settings.notify_report
    if at is None or not routes.settings.notify_default:
        return
    now = deployment.now()
    due = _last(at, now)
    with deployment.store.read() as connection:
        reported = notices.notice_state_of(connection).reported_at
    if reported is not None and due <= reported <= now:
        return
    root = str(routes.settings.root)
    # The first time only sets the mark: who turns it on in the afternoon gets the first report the next morning. So does a mark that lies
    # ahead, of a time when the clock was wrong.
    found = None
    if reported is not None and reported < due:
        found = status_json(status(deployment, since=reported), lambda words: commanded(words, root))
    with deployment.store.write() as connection:
        if notices.notice_state_of(connection).reported_at != reported:
            return
        notices.set_reported(connection, due)
        if found is None:
            return
        facts = deployment.redactor.plain(report_facts(found, deployment=deployment.store.deployment, root=root, at=now))
        for name in routes.settings.notify_default:
            notices.insert_notice(connection, NoticeEvent.REPORT, name, notice_id=new_id(), at=now, facts=facts)


def _last(at: time, now: datetime) -> datetime:
    """The last instant before or at `now` at which the clock of this machine showed that time."""
    today = now.astimezone().date()
    found = local_instant(datetime.combine(today, at))
    return found if found <= now else local_instant(datetime.combine(today - timedelta(days=1), at))
