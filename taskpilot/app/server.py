"""Wires `taskpilot serve`: clock, scheduler, engine and HTTP of one deployment."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from threading import current_thread
from typing import Final

from taskpilot.app.wiring import App
from taskpilot.config.caller import service_manager
from taskpilot.domain.errors import ConfigurationError, StoreError, TaskPilotError
from taskpilot.domain.ids import new_id
from taskpilot.domain.version import version
from taskpilot.engines.local import LocalEngine
from taskpilot.jobs.catalog import catalog_of
from taskpilot.messages.attention import commanded
from taskpilot.notices.routes import unusable_channels
from taskpilot.notices.work import NoticeWork
from taskpilot.process.isolated import keep_helper
from taskpilot.process.linux import erase_environment
from taskpilot.scheduler.clock import Clock, WakeEvent
from taskpilot.scheduler.job_files import JobFiles
from taskpilot.scheduler.reporter import Reporter
from taskpilot.scheduler.scheduler import Scheduler
from taskpilot.scheduler.serving import DeliveryThread, Notifier, Serving
from taskpilot.services.maintenance import replay_traces
from taskpilot.services.metrics import push_metrics
from taskpilot.services.publishing import publish_changes
from taskpilot.store import schedulers
from taskpilot.store.totals import Change
from taskpilot.telemetry.logs import configure_logs, run_logger
from taskpilot.views.job_facts import describe
from taskpilot.web.dependencies import Services
from taskpilot.web.server import HttpServer
from taskpilot.web.tokens import publish_link, withdraw_link

_PUSH_EVERY: Final = timedelta(seconds=15)
_PUSH_SECONDS: Final = 10.0
_SEND_EVERY: Final = timedelta(seconds=1)
"""As often as the scheduler looks at its queue."""


def serve(
    app: App,
    *,
    engine_command: Sequence[str],
    host: str,
    port: int | None,
    echo: Callable[[str], None] = lambda _line: None,
    quiet: bool = False,
) -> None:
    """Runs the scheduler and the HTTP API until SIGTERM or SIGINT, then waits for its runs. Only for the main thread of a process.

    `engine_command` starts a fork server (`App.serve_orders`) whose standard input is the connection. `port` None: the one of the settings.
    `echo` prints when runs can be started, when the scheduler fails, which jobs could not start, and, unless `quiet`, each run. Raises
    StoreError, StoreBusy or ConfigurationError before anything runs.
    """
    deployment, settings = app.deployment, app.deployment.settings
    scheduler_id = new_id()

    def write_logs() -> None:
        level = deployment.settings.log_level
        configure_logs(settings.state_dir, level=level, deployment=deployment.store.deployment, secrets=app.secrets())

    write_logs()
    log = run_logger(name="taskpilot.scheduler")
    for warning in settings.warnings:
        log.warning(warning)
    erase_environment(settings.withheld)
    telemetry = DeliveryThread(lambda: _push(app), name="telemetry", first=lambda: _push_zeros(app))
    notices = DeliveryThread(NoticeWork(deployment), name="notices", first=lambda: _check_channels(app, echo))
    loop = current_thread()

    def publish(changes: frozenset[Change]) -> None:
        """The loop waits for no gateway: the telemetry thread publishes its changes. A request publishes its own before its answer."""
        if current_thread() is loop:
            telemetry.request()
        else:
            publish_changes(deployment, changes)

    deployment.on_change = publish
    keep_helper(on=True)
    try:
        deployment.use_catalog(deployment.job_folder.known())
    except ConfigurationError:
        deployment.use_catalog(catalog_of(settings.jobs_dir, (), ()))
    wake_event = WakeEvent()
    engine = LocalEngine(engine_command, on_end=wake_event.set, on_lost=deployment.queue.requeue)
    clock = Clock(wake_event.set)
    clock.call_every(_PUSH_EVERY, telemetry.request, name="push telemetry")
    clock.call_every(_SEND_EVERY, notices.request, name="send notices")
    job_files = JobFiles(deployment, wake_event.set)
    scheduler = Scheduler(
        deployment,
        engine,
        clock,
        scheduler_id=scheduler_id,
        log=log,
        job_files=job_files,
        on_settings=write_logs,
        tell=echo,
        report=None if quiet else Reporter(deployment, echo).report,
    )
    serving = Serving(
        scheduler,
        engine,
        clock,
        Notifier(service_manager().notify_socket),
        log,
        wake_event=wake_event,
        drain_seconds=settings.drain_timeout,
        settled=job_files.settled.is_set,
        echo=echo,
    )
    services = Services(
        deployment,
        deployment.now,
        seconds_since_tick=serving.seconds_since_tick,
        state=lambda: scheduler.state,
        failure=lambda: scheduler.error,
        wake=wake_event.set,
    )
    http = HttpServer(services, host=host, port=settings.port if port is None else port)
    # First of all: a server whose port is taken leaves no row.
    with serving.signals():
        http.start()
        # Its token and its code are secrets from here on.
        write_logs()
        try:
            with deployment.store.write() as connection:
                schedulers.begin_scheduler(
                    connection, scheduler_id, owner=deployment.owner, version=version(), now=deployment.now(), boot=deployment.boot()
                )
            engine.start()
            job_files.start()
            telemetry.start()
            notices.start()
            serving.run(ready=lambda: _tell_ready(app, http, echo))
            if not quiet:
                echo("the server has ended; goodbye")
        finally:
            job_files.stop(1.0)
            engine.stop()
            clock.stop()
            http.stop(1.0)
            withdraw_link(settings.state_dir)
            notices.stop(2.0)
            telemetry.stop(2.0)
            if (gateway := deployment.gateway) is not None:
                with suppress(TaskPilotError):
                    gateway.delete_scheduler(seconds=2.0)
            keep_helper(on=False)


def _tell_ready(app: App, http: HttpServer, echo: Callable[[str], None]) -> None:
    jobs = len(app.deployment.catalog.jobs)
    echo(f"scheduler running: {jobs} job{'' if jobs == 1 else 's'}, {http.url} (pid {os.getpid()}); press Ctrl-C to stop")
    link = http.login_link
    if link is not None:
        settings = app.deployment.settings
        with suppress(StoreError):
            publish_link(settings.state_dir, link)
        # What a service prints is in the system's journal, which others may read.
        command = commanded(("--root", str(settings.root), "open"))
        echo(f"to log in on the page: {command if service_manager().notify_socket else link}")


def _check_channels(app: App, echo: Callable[[str], None]) -> None:
    """Prints which channels cannot be used."""
    for name, error in unusable_channels(app.deployment.settings).items():
        echo(f"nothing can be sent to the channel {name}: {error.one_line}")


def _push(app: App) -> None:
    deployment = app.deployment
    if (gateway := deployment.gateway) is not None:
        gateway.push_scheduler(seconds=_PUSH_SECONDS)
        gateway.push_pending(partial(describe, deployment), seconds=_PUSH_SECONDS)
    if deployment.settings.otel_enabled:
        replay_traces(deployment, seconds=_PUSH_SECONDS)


def _push_zeros(app: App) -> None:
    """Pushes every counter once before the first run, so that the first run is seen as an increase."""
    if app.deployment.settings.pushgateway_url is not None:
        for _pushed in push_metrics(app.deployment):
            pass


def fork_server_command(*options: str) -> tuple[str, ...]:
    """The command line of a fork server for the same root."""
    return (sys.executable, "-m", "taskpilot", *options, "serve", "--fork-server")
