"""Supervises the attempts of a run until it ends or waits."""

import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

from taskpilot.deployment import Deployment
from taskpilot.domain.decisions import Decision, DecisionStatus
from taskpilot.domain.errors import ConfigurationError, LeaseLost, StoreBusy, TaskPilotError
from taskpilot.domain.events import RunIdentity
from taskpilot.domain.ids import new_id
from taskpilot.domain.instruments import TELEMETRY_FAILURES
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import LeaseGrant, Outcome, Run, RunStatus
from taskpilot.domain.specs import JobSpec
from taskpilot.domain.text import one_line
from taskpilot.domain.times import utc_iso
from taskpilot.ledger.claims import Claim
from taskpilot.ledger.due_policy import GRACE
from taskpilot.ledger.finish_attempt import backoff, cancelled_outcome, overtaken_by
from taskpilot.policy import undecided
from taskpilot.process import Cause, ChildPlan, Ending, Interrupts, Watch, supervise
from taskpilot.store import runs, tasks, totals
from taskpilot.telemetry.ecs import EcsLines
from taskpilot.telemetry.job_output import JobOutput
from taskpilot.telemetry.log_files import Rotation, SharedLogFile
from taskpilot.telemetry.logs import FILE
from taskpilot.views.runs import OUTPUT_LOG

GRACE_SECONDS: Final = GRACE.total_seconds()
_GIVEN_UP: Final = {Cause.SIGINT, Cause.SIGTERM, Cause.SIGHUP, Cause.CANCELLED, Cause.DEADLINE, Cause.LEASE_LOST}
"""After one of these this process starts no further attempt."""

_OUTPUT_LEVELS: Final = frozenset({"TRACE", "DEBUG", "INFO"})
"""Log levels at which the output of a job is logged."""

RunChild = Callable[[JobSpec, LeaseGrant, float], int]
"""(job, lease, active seconds left) -> exit status; runs the attempt in the process that it is called in."""


class Display(Protocol):
    """Shows a run while it is running."""

    def update(self, run: Run) -> None:
        """Shows the run's current state; called about four times a second."""
        ...

    def close(self, run: Run) -> None:
        """Called at the end, also of a run that ended before the first update."""
        ...


class NoDisplay:
    """Shows nothing."""

    def update(self, run: Run) -> None:
        """Does nothing."""

    def close(self, run: Run) -> None:
        """Does nothing."""


class Attempts:
    """Supervises one claimed run in this process."""

    def __init__(
        self,
        deployment: Deployment,
        spec: JobSpec,
        run_child: RunChild,
        display: Display,
        on_start: Callable[[], None],
        on_fork: Callable[[], None] = lambda: None,
    ) -> None:
        self._deployment = deployment
        self._spec = spec
        self._run_child = run_child
        self._display = display
        self._on_start = on_start
        """Called in a tick of each attempt; one that ends within a moment has none."""
        self._on_fork = on_fork
        """Called as soon as an attempt runs; it must return at once."""

    def run(self, claim: Claim, interrupts: Interrupts) -> None:
        """Makes attempts until the run ended, waits, or may not continue here; its state is in the store."""
        grant = claim.grant
        while True:
            try:
                ending = self._attempt(grant, interrupts)
            except OSError as error:
                # Its folder or output cannot be opened, or no process can be made: nothing was started.
                self._release(grant, Outcome(RunStatus.FAILED, Reason(ReasonCode.NOT_STARTED, {"error": one_line(str(error))})))
                raise
            status = self._close(grant, ending)
            if status is not RunStatus.QUEUED or ending.cause in _GIVEN_UP:
                return
            if not self._pause(grant, interrupts):
                return
            try:
                self._deployment.follow_settings()
            except ConfigurationError as error:
                self._release(grant, Outcome(RunStatus.FAILED, Reason(ReasonCode.CONFIGURATION, {"error": error.one_line})))
                return
            try:
                grant = self._deployment.ledger.next_attempt(grant, self._spec)
            except LeaseLost:
                # Another process took the run over while this one was suspended.
                return

    def _attempt(self, grant: LeaseGrant, interrupts: Interrupts) -> Ending:
        deployment = self._deployment
        run = self._run(grant.run_id)
        left = (run.deadline_micros - run.active_micros) / 1_000_000
        run_dir = deployment.make_run_dir(grant.run_id)
        output = self._follow(run_dir / OUTPUT_LOG, run, grant)
        plan = ChildPlan(
            main=lambda: self._run_child(self._spec, grant, left),
            root=deployment.settings.root,
            output=run_dir / OUTPUT_LOG,
            add_environment=deployment.settings.dotenv,
            drop_environment=deployment.settings.withheld,
        )
        started = False

        def tick() -> None:
            nonlocal started
            if not started:
                started = True
                self._on_start()
            with suppress(OSError):
                output.copy_new()
            # A run that nobody looks at is not read four times a second.
            if not isinstance(self._display, NoDisplay):
                self._display.update(self._run(grant.run_id))

        watch = Watch(
            deadline_seconds=left,
            renew=lambda active: deployment.ledger.renew(grant, active_seconds=active),
            cancelled=lambda: self._grace(grant.run_id),
            tick=tick,
            forked=self._on_fork,
            grace_seconds=GRACE_SECONDS,
            lease_seconds=deployment.settings.lease_seconds,
        )
        # No connection may be shared with the child.
        deployment.store.dispose()
        try:
            return supervise(plan, watch, interrupts=interrupts)
        finally:
            output.close()
            if output.lost:
                self._count_lost(output.lost)

    def _count_lost(self, lines: int) -> None:
        """Counts lines of output that could not be logged; an error here does not matter to the attempt."""
        with suppress(TaskPilotError), self._deployment.store.write() as connection:
            totals.add(connection, self._spec.name, [totals.count(TELEMETRY_FAILURES, lines, sink="logs")])

    def _follow(self, path: Path, run: Run, grant: LeaseGrant) -> JobOutput:
        """Copies the output of the attempt's processes into the shared log."""
        settings, deployment = self._deployment.settings, self._deployment.store.deployment
        return JobOutput(
            path,
            RunIdentity.of(run, attempt=grant.attempt, deployment=deployment),
            SharedLogFile(settings.state_dir / FILE, rotation=Rotation.in_state_dir(settings.state_dir)),
            EcsLines(self._deployment.redactor),
            logged=settings.log_level in _OUTPUT_LEVELS,
        )

    def _grace(self, run_id: str) -> float | None:
        """Seconds that the run may take to end; None where it was not asked to."""
        with self._deployment.store.read() as connection:
            asked = runs.cancel_request(connection, run_id)
        if asked is None:
            return None
        return GRACE_SECONDS if asked.grace is None else asked.grace.total_seconds()

    def _close(self, grant: LeaseGrant, ending: Ending) -> RunStatus:
        """Records the attempt's end where the job's process did not; returns the run's state."""
        self._record_denials(grant.run_id)
        run = self._run(grant.run_id)
        outcome = outcome_of(ending, run)
        keep = ending.cause not in _GIVEN_UP
        if run.status is RunStatus.RUNNING:
            with suppress(LeaseLost):
                return self._deployment.ledger.end(grant, outcome, active_seconds=ending.active_seconds, keep_lease=keep)
            run = self._run(grant.run_id)
        if run.status is RunStatus.QUEUED and not keep:
            # The child left the run for another attempt, but a signal ended this command.
            self._release(grant, outcome)
            run = self._run(grant.run_id)
        return run.status

    def _record_denials(self, run_id: str) -> None:
        """A call whose decision the job's process did not survive is a recorded denial; an error here does not matter to the attempt."""
        with suppress(TaskPilotError, OSError):
            for question, result in undecided(self._deployment.run_dir(run_id)):
                decision = Decision(
                    id=new_id(),
                    run_id=run_id,
                    job=self._spec.name,
                    step_key="",
                    agent=question.agent,
                    tool=question.tool,
                    arguments=question.arguments,
                    engine=result.engine,
                    path=result.path,
                    verdict=result.verdict,
                    status=DecisionStatus.FINAL,
                    reasons=result.reasons,
                    decided_at=self._deployment.now(),
                    input={"tool": question.tool, "agent": question.agent, "job": self._spec.name, "job_tools": list(question.job_tools)},
                )
                with self._deployment.store.write() as connection:
                    tasks.insert_decision(connection, decision)

    def _pause(self, grant: LeaseGrant, interrupts: Interrupts) -> bool:
        """Waits before the attempt after a failed one; False where a signal or a person ended the run meanwhile."""
        deployment = self._deployment
        run = self._run(grant.run_id)
        failed = run.reason.code not in (ReasonCode.SIGNAL, ReasonCode.LEASE)
        seconds = backoff(self._spec.retry, run.attempts, random.random()).total_seconds() if failed else 0.0  # noqa: S311  no secret
        if (fire := overtaken_by(self._spec, run.scheduled_for, deployment.now() + timedelta(seconds=seconds))) is not None:
            self._release(grant, _overtaken(run, utc_iso(fire)))
            return False
        until = time.monotonic() + seconds
        while interrupts.first is None:
            run = self._run(grant.run_id)
            if run.cancel_requested:
                self._release(grant, cancelled_outcome(run))
                return False
            left = until - time.monotonic()
            if left <= 0:
                return True
            interrupts.wait(min(left, 1.0))
            # Tried again a second later, long before the lease ends.
            with suppress(StoreBusy):
                if not deployment.ledger.renew(grant, active_seconds=0):
                    return False
        interrupts.acknowledge()
        cause = {signal.SIGINT: Cause.SIGINT, signal.SIGHUP: Cause.SIGHUP}.get(interrupts.first, Cause.SIGTERM)
        self._release(grant, outcome_of(Ending(cause, None, None, 0.0), run))
        return False

    def _release(self, grant: LeaseGrant, outcome: Outcome) -> None:
        try:
            self._deployment.ledger.give_up(grant, outcome)
        except (TaskPilotError, LeaseLost):
            # Another process has the run, and will end it.
            return

    def _run(self, run_id: str) -> Run:
        with self._deployment.store.read() as connection:
            run = runs.get_run(connection, run_id)
        assert run is not None
        return run


def _overtaken(run: Run, fire: str) -> Outcome:
    """The outcome of a run whose next attempt would start after the next fire."""
    lost = run.reason.code in (ReasonCode.SIGNAL, ReasonCode.LEASE, ReasonCode.SIGTERM)
    return Outcome(RunStatus.LOST if lost else RunStatus.FAILED, run.reason.as_cause_of(ReasonCode.OVERTAKEN, fire=fire))


def outcome_of(ending: Ending, run: Run) -> Outcome:
    """The outcome of an attempt whose process did not record its end."""
    match ending.cause:
        case Cause.DEADLINE:
            return Outcome(RunStatus.TIMED_OUT, run.deadline_reason)
        case Cause.CANCELLED:
            return cancelled_outcome(run)
        case Cause.SIGINT:
            return Outcome(RunStatus.CANCELLED, Reason(ReasonCode.SIGINT))
        case Cause.SIGTERM | Cause.SIGHUP:
            return Outcome(RunStatus.LOST, Reason(ReasonCode.SIGTERM, {"signal": ending.cause.name}), retry=True)
        case Cause.LEASE_LOST:
            return Outcome(RunStatus.LOST, Reason(ReasonCode.LEASE, {"killed": True}), retry=True)
        case Cause.SIGNALED:
            name = signal.Signals(ending.signal).name if ending.signal in set(signal.Signals) else str(ending.signal)
            return Outcome(RunStatus.LOST, Reason(ReasonCode.SIGNAL, {"signal": name}), retry=True)
        case _:
            return Outcome(RunStatus.FAILED, Reason(ReasonCode.EXITED, {"exit_status": ending.exit_status}), retry=True)
