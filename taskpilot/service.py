"""The composition root of `taskpilot serve`: clock, scheduler, engine and HTTP of one deployment, wired and run to their end."""

import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from taskpilot.app import App
from taskpilot.domain.identity import new_id
from taskpilot.engines.local import LocalEngine
from taskpilot.operations.maintenance import deliver_owed
from taskpilot.operations.metrics import push_metrics
from taskpilot.operations.traces import replay
from taskpilot.scheduler.bell import Bell
from taskpilot.scheduler.clock import Clock
from taskpilot.scheduler.notify import Notifier
from taskpilot.scheduler.scheduler import Scheduler
from taskpilot.scheduler.serving import Serving
from taskpilot.scheduler.telemetry import Telemetry
from taskpilot.settings.service import service_manager
from taskpilot.signals.gateway import push_scheduler
from taskpilot.signals.logs import configure_logs, run_logger
from taskpilot.store import schedulers
from taskpilot.supervisor.lease import suspend_aware_seconds
from taskpilot.web.server import HttpServer
from taskpilot.web.services import Services

_PUSH_SECONDS: Final = 10.0


def serve(app: App, *, engine_command: Sequence[str], host: str, port: int | None, say: Callable[[str], None] = lambda _line: None) -> None:
    """Keeps time and answers over HTTP until SIGTERM or SIGINT, then waits for its runs. Only for the main thread of a process.

    `engine_command` starts a fork server (`App.serve_orders`) whose standard input is the connection. `port` None: the settings' one.
    `say` is told when fires can be met, and when the scheduler cannot do its work. Raises StoreError, StoreBusy or ConfigurationError
    before anything runs.
    """
    house, settings = app.house, app.house.settings
    scheduler_id = new_id()
    configure_logs(settings.state_dir, level=settings.log_level, deployment=house.store.deployment, secrets=app.secrets())
    log = run_logger(name="taskpilot.scheduler")
    telemetry = Telemetry(lambda: _push(app), first=lambda: _push_zeros(app))
    manager = service_manager()
    bell = Bell()
    engine = LocalEngine(engine_command, on_end=bell.ring, on_lost=house.queue.put_back)
    clock = Clock(lambda _job: bell.ring())
    scheduler = Scheduler(
        house,
        engine,
        scheduler_id=scheduler_id,
        log=log,
        set_alarms=clock.set_schedules,
        changed=telemetry.changed,
        boottime=suspend_aware_seconds,
    )
    serving = Serving(
        scheduler, engine, clock, Notifier(manager.notify_socket), log, bell=bell, drain_seconds=settings.drain_timeout, say=say
    )
    services = Services(house, house.now, serving.seconds_since_turn, lambda: scheduler.state, bell.ring)
    http = HttpServer(services, host=host, port=settings.port if port is None else port)
    # First of all: a port that is taken leaves no trace of a server that never was one.
    http.start()
    try:
        with house.store.write() as connection:
            schedulers.begin_scheduler(connection, scheduler_id, owner=house.owner, version=_version(), now=house.now())
        engine.start()
        telemetry.start()
        serving.run(ready=lambda: say(_line(app, http.url)))
    finally:
        engine.stop()
        clock.stop()
        http.stop(1.0)
        telemetry.stop(2.0)


def _line(app: App, url: str) -> str:
    jobs = len(app.house.catalog.jobs)
    return f"{app.house.store.deployment} keeps time for {jobs} job{'' if jobs == 1 else 's'}, {url} (pid {os.getpid()}); Ctrl-C ends it"


def _push(app: App) -> None:
    house, url = app.house, app.house.settings.pushgateway_url
    if url is not None:
        push_scheduler(house.store, url, house.settings.state_dir, seconds_left=_PUSH_SECONDS)
        deliver_owed(house, seconds=_PUSH_SECONDS)
    if house.settings.otel_enabled:
        replay(house, seconds=_PUSH_SECONDS)


def _push_zeros(app: App) -> None:
    """So that a first run is seen as an increase."""
    if app.house.settings.pushgateway_url is not None:
        for _pushed in push_metrics(app.house):
            pass


def _version() -> str:
    try:
        return version("taskpilot")
    except PackageNotFoundError:
        return "unknown"


def fork_server_command(*options: str) -> tuple[str, ...]:
    """The command line of a fork server for the same root."""
    return (sys.executable, "-m", "taskpilot", *options, "serve", "--fork-server")
