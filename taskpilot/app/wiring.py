"""The composition root: settings in, everything wired; the only module that picks concrete classes."""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from taskpilot.budget import Spending
from taskpilot.config import Settings
from taskpilot.context.session import Session
from taskpilot.deployment import Deployment, policy_of
from taskpilot.domain.errors import ConfigurationError, TaskPilotError
from taskpilot.domain.events import RunIdentity
from taskpilot.domain.fires import StartOrder
from taskpilot.domain.instruments import TELEMETRY_FAILURES
from taskpilot.domain.protocols import Model, Signals
from taskpilot.domain.runs import LeaseGrant, exit_code
from taskpilot.domain.specs import JobSpec, ToolSpec
from taskpilot.domain.steps import StepAnswer
from taskpilot.domain.times import BootTime, boot_time, utc_now
from taskpilot.jobs.loader import load_spec
from taskpilot.journal.journal import Journal
from taskpilot.llm.factory import open_model
from taskpilot.llm.prices import Prices
from taskpilot.policy import WatchedPolicy
from taskpilot.process import asked_to_end
from taskpilot.process.linux import erase_environment
from taskpilot.runner import Runner
from taskpilot.services.attempts import Display, NoDisplay
from taskpilot.services.housekeeping import built_in_jobs
from taskpilot.services.planning import RunRequest
from taskpilot.services.publishing import publish_on_change
from taskpilot.services.running import Finished, resume_run, run_job
from taskpilot.store import runs, totals
from taskpilot.telemetry.decision_log import DecisionLogSignal
from taskpilot.telemetry.logs import LogSignal, add_handler, configure_logs, run_logger
from taskpilot.telemetry.redaction import PLACEHOLDER
from taskpilot.tools.builtin import create_task_tool, notify_tool
from taskpilot.workflow.execution import PendingTasks

CHILD_BUSY_SECONDS: Final = 15.0
"""A job's process waits longer for the store than others do: its supervisor renews the lease meanwhile."""
_SINKS: Final = {"LogSignal": "logs", "DecisionLogSignal": "decision_log"}
"""What the metric of failures calls a signal."""


def _workflow(*arguments: Any, **options: Any) -> Any:
    """Plan -> review -> execute; its shapes are built by pydantic, which only a job with a workflow imports."""
    from taskpilot.workflow.workflow import run_workflow

    return run_workflow(*arguments, **options)


class App:
    """One deployment, ready to be used."""

    def __init__(self, settings: Settings, *, now: Callable[[], datetime] = utc_now, boot: Callable[[], BootTime] = boot_time) -> None:
        self.deployment = Deployment(settings, now=now, boot=boot, built_in=built_in_jobs)
        self._lost_log_lines: Callable[[], int] = lambda: 0

    def run(self, request: RunRequest, display: Display) -> Finished:
        """Runs a job with this process as its supervisor."""
        return run_job(publish_on_change(self.deployment), request, self.run_child, display)

    def resume(self, run_id: str, *, model: str | None, answer: StepAnswer | None, display: Display) -> Finished:
        """Continues a run with this process as its supervisor."""
        return resume_run(publish_on_change(self.deployment), run_id, model=model, answer=answer, run_child=self.run_child, display=display)

    def serve_orders(self, connection: socket.socket) -> None:
        """Runs a fork server: forks a supervisor for each order, until the server at the other end has ended."""
        from taskpilot.engines.fork_server import serve_orders

        erase_environment(self.deployment.settings.withheld)
        add_handler(self.deployment.settings.log_level.upper())
        serve_orders(connection, self._start_order)

    def _start_order(self, order: StartOrder) -> int:
        from taskpilot.services.queued_runs import start_order

        finished = start_order(publish_on_change(self.deployment), order, self.run_child, NoDisplay())
        return 0 if finished is None else int(finished.exit_code)

    def run_child(self, spec: JobSpec, grant: LeaseGrant, seconds_left: float) -> int:
        """One attempt in this process, which was forked for it; gives its exit status."""
        self.deployment.store.after_fork(busy_seconds=CHILD_BUSY_SECONDS)
        self.deployment.make_current()
        session = self.open_session(spec, grant, seconds_left)
        redactor = self.deployment.redactor
        outcome = Runner(
            end=self.deployment.ledger.end,
            now=self.deployment.now,
            mask=redactor.masked,
            hide=redactor.hidden_in,
            asked_to_end=asked_to_end,
        ).run(session, grant)
        self._count_failures(session)
        return int(exit_code(outcome.status, outcome.reason.cause))

    def _count_failures(self, session: Session) -> None:
        """Counts what signals could not write. No error leaves it: the attempt has ended already."""
        failed = {_SINKS.get(signal, signal): number for signal, number in session.signals.failures.items()}
        failed["logs"] = failed.get("logs", 0) + self._lost_log_lines()
        failures = [totals.count(TELEMETRY_FAILURES, number, sink=sink) for sink, number in failed.items() if number]
        if failures:
            with suppress(TaskPilotError), self.deployment.store.write() as connection:
                totals.add(connection, session.run.job, failures)

    def open_session(self, spec: JobSpec, grant: LeaseGrant, seconds_left: float, *, model: Model | None = None) -> Session:
        """What one attempt works with: signals, journal, policy, tools, and a model that is opened at its first call."""
        deployment, settings = self.deployment, self.deployment.settings
        with deployment.store.read() as connection:
            run = runs.get_run(connection, grant.run_id)
        assert run is not None
        identity = RunIdentity.of(run, attempt=grant.attempt, deployment=deployment.store.deployment)
        self._lost_log_lines = configure_logs(
            settings.state_dir,
            run_id=run.id,
            level=settings.log_level,
            identity=identity,
            deployment=deployment.store.deployment,
            secrets=self.secrets(),
        )
        log = run_logger(identity)
        for warning in settings.warnings:
            log.warning(warning)
        prices = Prices(settings.prices_file)
        journal = Journal(deployment.store, run, grant, now=deployment.now, boot=deployment.boot, mask=deployment.redactor.masked)
        filing = PendingTasks(journal, run, deployment.now)

        # A channel that cannot be used is an error before anything is done or spent.
        notify = notify_tool(settings.notify_channels, log.info) if settings.notify_channels else None

        def open_tools() -> dict[str, ToolSpec]:
            built_in = (create_task_tool(filing.file), notify or notify_tool(settings.notify_channels, log.info))
            return {tool.name: tool for tool in (*session.spec.tools, *built_in)}

        session = Session(
            run=run,
            spec=spec,
            identity=identity,
            journal=journal,
            spending=Spending(
                run.model or "", lambda name, usage, at: prices.cost_nano(name, usage, at=at, base_url=settings.openai_base_url)
            ),
            open_model=lambda: model or self._open_model(run.model, spec),
            policy=WatchedPolicy(policy_of(settings), deployment.run_dir(run.id), hide=deployment.redactor.hidden_in),
            open_tools=open_tools,
            signals=Signals([LogSignal(), DecisionLogSignal(settings.state_dir, secrets=self.secrets())]),
            now=deployment.now,
            boot=deployment.boot,
            log=log,
            run_dir=deployment.run_dir(run.id),
            deadline=time.monotonic() + seconds_left,
            hide=lambda value: deployment.redactor.hidden_in(value, PLACEHOLDER),
            load_spec=lambda one: load_spec(one, settings.jobs_dir),
            max_output_tokens=settings.openai_max_output_tokens,
            approval_timeout=settings.approval_timeout,
            workflow=_workflow,
        )
        return session

    def _open_model(self, name: str | None, spec: JobSpec) -> Model:
        if name is None:
            raise ConfigurationError(
                f"job {spec.name} asks a model, and none is named. No token was spent.",
                hint="type `--model offline` (embedded rules: no key, no network, no cost), "
                "or name a real one by `--model NAME`, TASKPILOT_MODEL or the job's model=, with OPENAI_API_KEY or OPENAI_BASE_URL set",
            )
        return open_model(name, self.deployment.settings)

    def secrets(self) -> tuple[str, ...]:
        """Values that no log line and no answer may contain."""
        return self.deployment.secrets
