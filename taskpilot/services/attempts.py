"""The supervisor's part of a run: attempt after attempt, until the run stands somewhere for good."""

import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

from taskpilot.deployment import Deployment
from taskpilot.domain.errors import LeaseLost, StoreBusy, TaskPilotError
from taskpilot.domain.events import RunIdentity
from taskpilot.domain.instruments import TELEMETRY_FAILURES
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import LeaseGrant, Outcome, Run, RunStatus
from taskpilot.domain.specs import JobSpec
from taskpilot.domain.text import one_line
from taskpilot.domain.times import utc_iso
from taskpilot.ledger.claims import Claim
from taskpilot.ledger.due_policy import GRACE
from taskpilot.ledger.finish_attempt import backoff, cancelled_outcome, overtaken_by
from taskpilot.process import Cause, ChildPlan, Ending, Interrupts, Watch, supervise
from taskpilot.store import runs, totals
from taskpilot.telemetry.ecs import EcsLines
from taskpilot.telemetry.job_output import JobOutput
from taskpilot.telemetry.log_files import Rotation, SharedLogFile
from taskpilot.telemetry.logs import FILE
from taskpilot.views.runs import OUTPUT_LOG

GRACE_SECONDS: Final = GRACE.total_seconds()
_GIVEN_UP: Final = {Cause.SIGINT, Cause.SIGTERM, Cause.SIGHUP, Cause.CANCELLED, Cause.DEADLINE, Cause.LEASE_LOST}
"""After one of these this command starts no further attempt."""

_TELLING: Final = frozenset({"TRACE", "DEBUG", "INFO"})
"""Log levels at which what a job prints is told."""

RunChild = Callable[[JobSpec, LeaseGrant, float], int]
"""(job, lease, active seconds left) -> exit status; runs the attempt in the process that it is called in."""


class Display(Protocol):
    """What a live run is shown on."""

    def update(self, run: Run) -> None:
        """The run as the record has it now; called about four times a second."""
        ...

    def close(self) -> None:
        """Nothing more will come."""
        ...


class NoDisplay:
    """Shows nothing."""

    def update(self, run: Run) -> None:
        """Takes no notice."""

    def close(self) -> None:
        """There is nothing to end."""


class Attempts:
    """Supervises one claimed run in this process."""

    def __init__(self, deployment: Deployment, spec: JobSpec, run_child: RunChild, display: Display, on_start: Callable[[], None]) -> None:
        self._deployment = deployment
        self._spec = spec
        self._run_child = run_child
        self._display = display
        self._on_start = on_start

    def run(self, claim: Claim, interrupts: Interrupts) -> None:
        """Attempts, until the run ended, waits, or may not go on here; the record then says where it stands."""
        grant = claim.grant
        while True:
            try:
                ending = self._attempt(grant, interrupts)
            except OSError as error:
                # Its folder or output cannot be opened, or no process is left: nothing was started, and nobody else waits for its lease.
                self._release(grant, Outcome(RunStatus.FAILED, Reason(ReasonCode.NOT_STARTED, {"error": one_line(str(error))})))
                raise
            status = self._close(grant, ending)
            if status is not RunStatus.QUEUED or ending.cause in _GIVEN_UP:
                return
            if not self._pause(grant, interrupts):
                return
            try:
                grant = self._deployment.ledger.next_attempt(grant, self._spec)
            except LeaseLost:
                # Somebody took the run over while this process stood still: then it is theirs.
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
            drop_environment=deployment.settings.secrets_for_serve_only,
        )
        started = False

        def tick() -> None:
            nonlocal started
            if not started:
                started = True
                self._on_start()
            with suppress(OSError):
                output.copy_new()
            self._display.update(self._run(grant.run_id))

        watch = Watch(
            deadline_seconds=left,
            renew=lambda active: deployment.ledger.renew(grant, active_seconds=active),
            cancelled=lambda: self._grace(grant.run_id),
            tick=tick,
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
        """Quiet: the attempt has ended well or not without them."""
        with suppress(TaskPilotError), self._deployment.store.write() as connection:
            totals.add(connection, self._spec.name, [totals.count(TELEMETRY_FAILURES, lines, sink="logs")])

    def _follow(self, path: Path, run: Run, grant: LeaseGrant) -> JobOutput:
        """What the attempt's processes will print, on its way into the shared log."""
        settings, deployment = self._deployment.settings, self._deployment.store.deployment
        return JobOutput(
            path,
            RunIdentity.of(run, attempt=grant.attempt, deployment=deployment),
            SharedLogFile(settings.state_dir / FILE, rotation=Rotation.in_state_dir(settings.state_dir)),
            EcsLines(self._deployment.redactor),
            logged=settings.log_level in _TELLING,
        )

    def _grace(self, run_id: str) -> float | None:
        """Seconds that the run may take to end, where it is asked to."""
        run = self._run(run_id)
        if not run.cancel_requested:
            return None
        return GRACE_SECONDS if run.cancel_grace is None else run.cancel_grace.total_seconds()

    def _close(self, grant: LeaseGrant, ending: Ending) -> RunStatus:
        """Writes the attempt's end where the job's process did not; gives where the run stands."""
        outcome = outcome_of(ending, self._run(grant.run_id))
        keep = ending.cause not in _GIVEN_UP
        try:
            status = self._deployment.ledger.end(grant, outcome, active_seconds=ending.active_seconds, keep_lease=keep)
        except LeaseLost:
            status = self._run(grant.run_id).status
            if status is RunStatus.QUEUED and not keep:
                # The child left the run for another attempt, and then a signal said that there will be none here.
                self._release(grant, outcome)
                status = self._run(grant.run_id).status
        return status

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
            # Busy for a moment: asked again a second later, long before the lease ends.
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
            # Somebody else has the run: then it is theirs to end.
            return

    def _run(self, run_id: str) -> Run:
        with self._deployment.store.read() as connection:
            run = runs.get_run(connection, run_id)
        assert run is not None
        return run


def _overtaken(run: Run, fire: str) -> Outcome:
    """What a run comes to whose last attempt was to be followed by another one, which would start after the next fire."""
    lost = run.reason.code in (ReasonCode.SIGNAL, ReasonCode.LEASE, ReasonCode.SIGTERM)
    return Outcome(RunStatus.LOST if lost else RunStatus.FAILED, run.reason.as_cause_of(ReasonCode.OVERTAKEN, fire=fire))


def outcome_of(ending: Ending, run: Run) -> Outcome:
    """What an attempt of a run came to whose process did not record its end itself."""
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
