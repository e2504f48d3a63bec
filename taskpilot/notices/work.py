"""The work of notices in a process: once after a run of a command, and again and again in a server. It never changes a run's result."""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from taskpilot.channels import TIMEOUT_SECONDS
from taskpilot.deployment import Deployment
from taskpilot.domain.runs import Owner
from taskpilot.domain.specs import JobSpec
from taskpilot.http import Deadline, TimedCall
from taskpilot.ledger.claims import Claim
from taskpilot.notices.incidents import Incidents
from taskpilot.notices.routes import Routes
from taskpilot.store import notices, serving_queries
from taskpilot.store.schedulers import living_schedulers

AFTER_RUN_SECONDS: Final = 9.0
"""How long a command tries to send its notices, after its run is recorded; with the record of the last try 10 s."""
_WAIT_SECONDS: Final = 0.2
"""Between two looks whether another process has ended its sending."""
_LOOK_SECONDS: Final = 30.0
"""Between two looks of a server for what is due by time alone."""
_SERVER_SECONDS: Final = 15.0


def send_after_run(deployment: Deployment, *, stop: Callable[[], bool], seconds: float = AFTER_RUN_SECONDS) -> None:
    """Writes and sends what is due, for at most `seconds`; what is left is sent by the next run or by a server. Never raises."""
    # Whatever goes wrong here, the run has its result.
    with suppress(Exception):
        end = Deadline(seconds)
        routes = Routes.of(deployment)
        _write(deployment, routes, by_time=bool(deployment.settings.notify_channels))
        while (busy := _send(deployment, routes, seconds=end.left, stop=stop)) is not None and end.left > 0 and not stop():
            if _is_server(deployment, busy):
                # It sees what was written within a second.
                return
            time.sleep(min(_WAIT_SECONDS, max(end.left, 0)))


def ping_start(deployment: Deployment, spec: JobSpec, claim: Claim) -> list[TimedCall[None]]:
    """Tells the ping URLs of a job that a run starts, beside the run and not again where it fails; only of a run's first attempt."""
    from taskpilot.channels.ping import ping

    if claim.grant.attempt > 1:
        return []
    urls = dict.fromkeys(filter(None, (spec.ping_url, deployment.settings.notify_ping_url)))
    # What it raises is kept in the call: nobody asks.
    return [TimedCall(partial(ping, url, "start", claim.run.id, seconds=TIMEOUT_SECONDS)) for url in urls]


class NoticeWork:
    """What a server does each second."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._looked_at = float("-inf")

    def __call__(self) -> None:
        """Writes and sends what is due. Raises StoreError or StoreBusy; the next call tries again."""
        deployment = self._deployment
        look = time.monotonic() - self._looked_at >= _LOOK_SECONDS
        with deployment.store.read() as connection:
            new = serving_queries.last_event(connection) > notices.notice_state_of(connection).cursor
            due = bool(notices.channels_due(connection, deployment.now()))
        if not (look or new or due):
            return
        routes = Routes.of(deployment)
        if look or new:
            _write(deployment, routes, by_time=True)
            self._looked_at = time.monotonic()
        _send(deployment, routes, seconds=_SERVER_SECONDS, announce=False)


def _write(deployment: Deployment, routes: Routes, *, by_time: bool) -> None:
    """Records the notices of new events; with `by_time` also reminders, overdue jobs and the report."""
    found = Incidents(deployment, routes)
    found.follow_events()
    if by_time:
        found.follow_time()
    if deployment.settings.notify_report is not None:
        from taskpilot.notices.report import write_report

        write_report(deployment, routes)


def _send(
    deployment: Deployment, routes: Routes, *, seconds: float, announce: bool = True, stop: Callable[[], bool] = bool
) -> Owner | None:
    """Sends what is due; gives the process that does so already, where there is one."""
    with deployment.store.read() as connection:
        if not notices.channels_due(connection, deployment.now()):
            return None
    # Late: a run with no channel to tell does not import it.
    from taskpilot.notices.delivery import Sender

    return Sender(deployment, routes, announce=announce, stop=stop).send(seconds=seconds)


def _is_server(deployment: Deployment, owner: Owner) -> bool:
    with deployment.store.read() as connection:
        return any(one.owner == owner for one in living_schedulers(connection, deployment.boot()))
