"""The composition root: settings in, everything wired; the only room that picks concrete classes."""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from taskpilot.context.session import Session
from taskpilot.domain.errors import ConfigurationError, TaskPilotError
from taskpilot.domain.facts import RunIdentity
from taskpilot.domain.fires import StartOrder
from taskpilot.domain.instruments import TELEMETRY_FAILURES
from taskpilot.domain.moments import utc_now
from taskpilot.domain.runs import LeaseGrant, exit_code
from taskpilot.domain.specs import JobSpec, ToolSpec
from taskpilot.journal.journal import Journal
from taskpilot.models.opening import open_model
from taskpilot.models.prices import Prices
from taskpilot.operations.attempts import Display, NoDisplay
from taskpilot.operations.house import House
from taskpilot.operations.planning import RunRequest
from taskpilot.operations.policy import policy_of
from taskpilot.operations.running import Finished, StepAnswer, resume_run, run_job
from taskpilot.ports import Model, Signals
from taskpilot.runner.runner import Runner
from taskpilot.settings import Settings
from taskpilot.settings.secrets import secrets_of
from taskpilot.signals.decision_log import DecisionLogSignal
from taskpilot.signals.logs import LogSignal, configure_logs, run_logger
from taskpilot.signals.redaction import Redactor
from taskpilot.spending import Spending
from taskpilot.store import runs, totals
from taskpilot.supervisor import asked_to_end
from taskpilot.tools.builtin import create_task_tool
from taskpilot.tools.notify import notify_tool
from taskpilot.workflow.filing import PendingTasks

_SINKS: Final = {"LogSignal": "logs", "DecisionLogSignal": "decision_log"}
"""What the metric of failures calls a signal."""


def _workflow(*arguments: Any, **options: Any) -> Any:
    """Plan -> review -> execute; its shapes are built by pydantic, which only a job that has a workflow pays for."""
    from taskpilot.workflow.workflow import run_workflow

    return run_workflow(*arguments, **options)


class App:
    """One deployment, ready to be used."""

    def __init__(self, settings: Settings, *, now: Callable[[], datetime] = utc_now) -> None:
        self.house = House(settings, now=now)
        self._lost_log_lines: Callable[[], int] = lambda: 0

    def run(self, request: RunRequest, display: Display) -> Finished:
        """Runs a job with this process as its supervisor."""
        return run_job(self.house, request, self.run_child, display)

    def resume(self, run_id: str, *, model: str | None, answer: StepAnswer | None, display: Display) -> Finished:
        """Goes on with a run with this process as its supervisor."""
        return resume_run(self.house, run_id, model=model, answer=answer, run_child=self.run_child, display=display)

    def serve_orders(self, connection: socket.socket) -> None:
        """Is a fork server: forks a supervisor for each order that comes, until the server on the other side is gone."""
        from taskpilot.engines.fork_server import serve_orders

        serve_orders(connection, self._start_order)

    def _start_order(self, order: StartOrder) -> int:
        from taskpilot.operations.starting import start_order

        finished = start_order(self.house, order, self.run_child, NoDisplay())
        return 0 if finished is None else int(finished.exit_code)

    def run_child(self, spec: JobSpec, grant: LeaseGrant, seconds_left: float) -> int:
        """One attempt in this process, which was forked for it; gives its exit status."""
        self.house.store.after_fork()
        self.house.make_current()
        session = self.open_session(spec, grant, seconds_left)
        redactor = Redactor(self.secrets())
        outcome = Runner(
            end=self.house.ledger.end,
            now=self.house.now,
            mask=redactor.masked,
            hide=redactor.hidden_in,
            asked_to_end=asked_to_end,
        ).run(session, grant)
        self._count_failures(session)
        return int(exit_code(outcome.status, outcome.reason))

    def _count_failures(self, session: Session) -> None:
        """Counts what signals could not write; quiet, since the attempt has ended well or not without it."""
        failed = {_SINKS.get(signal, signal): number for signal, number in session.signals.failures.items()}
        failed["logs"] = failed.get("logs", 0) + self._lost_log_lines()
        failures = [totals.count(TELEMETRY_FAILURES, number, sink=sink) for sink, number in failed.items() if number]
        if failures:
            with suppress(TaskPilotError), self.house.store.write() as connection:
                totals.add(connection, session.run.job, failures)

    def open_session(self, spec: JobSpec, grant: LeaseGrant, seconds_left: float, *, model: Model | None = None) -> Session:
        """What one attempt works with: signals, journal, policy, tools, and a model that is opened when it is first asked."""
        house, settings = self.house, self.house.settings
        with house.store.read() as connection:
            run = runs.get_run(connection, grant.run_id)
        assert run is not None
        identity = RunIdentity.of(run, attempt=grant.attempt, deployment=house.store.deployment)
        self._lost_log_lines = configure_logs(
            settings.state_dir,
            run_id=run.id,
            level=settings.log_level,
            identity=identity,
            deployment=house.store.deployment,
            secrets=self.secrets(),
        )
        log = run_logger(identity)
        prices = Prices(settings.prices_file)
        journal = Journal(house.store, run, grant, now=house.now, mask=Redactor(self.secrets()).masked)
        filing = PendingTasks(journal, run, house.now)

        def open_tools() -> dict[str, ToolSpec]:
            built_in = (create_task_tool(filing.file), notify_tool(settings.notify_channels, log.info))
            return {tool.name: tool for tool in (*spec.tools, *built_in)}

        # A channel that cannot be used is told before anything is done or spent.
        tools = open_tools() if settings.notify_channels else None
        return Session(
            run=run,
            spec=spec,
            identity=identity,
            journal=journal,
            spending=Spending(
                run.model or "", lambda name, usage, at: prices.cost_nano(name, usage, at=at, base_url=settings.openai_base_url)
            ),
            open_model=lambda: model or self._open_model(run.model, spec),
            policy=policy_of(settings),
            open_tools=lambda: tools or open_tools(),
            signals=Signals([LogSignal(), DecisionLogSignal(settings.state_dir, secrets=self.secrets())]),
            now=house.now,
            log=log,
            run_dir=house.run_dir(run.id),
            deadline=time.monotonic() + seconds_left,
            workflow=_workflow,
        )

    def _open_model(self, name: str | None, spec: JobSpec) -> Model:
        settings = self.house.settings
        if name is None:
            raise ConfigurationError(
                f"job {spec.name} asks a model, and none is named: type `--model offline` (embedded rules: no key, no network, no cost), "
                "or name a real one by `--model NAME`, TASKPILOT_MODEL or the job's model=, with OPENAI_API_KEY or OPENAI_BASE_URL set. "
                "No token was spent."
            )
        key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
        return open_model(name, api_key=key, base_url=settings.openai_base_url)

    def secrets(self) -> tuple[str, ...]:
        """What must be in no line and no answer."""
        return secrets_of(self.house.settings)
