"""Runs one attempt in the process that it is called in: the one place where every trigger ends."""

import time
import traceback
from collections.abc import Callable
from datetime import datetime
from typing import Any

from taskpilot.context import scope
from taskpilot.context.run_context import RunContext
from taskpilot.context.session import Session
from taskpilot.context.values import to_json
from taskpilot.domain.errors import LeaseLost, Stop, Terminated
from taskpilot.domain.runs import LeaseGrant, Outcome, Reason, RunStatus, exit_code
from taskpilot.jobs.parameters import bind_parameters
from taskpilot.runner.judgement import judge


class Runner:
    """Calls a job with its context and records what it came to."""

    def __init__(self, *, end: Callable[..., RunStatus], now: Callable[[], datetime]) -> None:
        self._end = end
        self._now = now

    def run(self, session: Session, grant: LeaseGrant) -> Outcome:
        """The attempt's outcome, recorded. Raises Terminated where the supervisor asked the process to end: it records the end itself."""
        began = time.monotonic()
        session.tell("run-started", f"attempt {grant.attempt} of {session.run.job} started", attempt=grant.attempt)
        result, error = self._call(session)
        if isinstance(error, Terminated):
            raise error
        outcome = self._lease_lost(session, error) or judge(session, result, error)
        try:
            self._end(grant, outcome, active_seconds=time.monotonic() - began, keep_lease=True)
        except LeaseLost as lost:
            outcome = Outcome(RunStatus.LOST, Reason.LEASE, str(lost))
        level = "info" if outcome.status is RunStatus.SUCCEEDED else "warning"
        fields = {"status": outcome.status, "reason": outcome.reason, "exit_code": int(exit_code(outcome.status, outcome.reason))}
        session.tell("run-ended", f"attempt {grant.attempt} of {session.run.job}: {outcome.status} {outcome.detail}", level=level, **fields)
        return outcome

    def _call(self, session: Session) -> tuple[Any, BaseException | None]:
        context = RunContext(session)
        try:
            arguments = bind_parameters(session.spec, session.run.parameters)
            with scope.entered(""):
                return to_json(session.spec.function(context, **arguments)), None
        except SystemExit as left:
            # A job that says goodbye with a code other than 0 says that it failed.
            code = left.code
            return (None, None) if code in (None, 0) else (None, RuntimeError(f"the job left by sys.exit({code!r})"))
        except Stop as stop:
            return None, stop
        except BaseException as error:
            # The traceback is for `runs logs --output`; the record has the one sentence.
            traceback.print_exc()
            return None, error
        finally:
            session.close()

    def _lease_lost(self, session: Session, error: BaseException | None) -> Outcome | None:
        """Lost, where an effect was refused for the lease, also if the job swallowed that; recorded only where nobody took the run over."""
        lost = next((stop for stop in (*session.stops, error) if isinstance(stop, LeaseLost)), None)
        return None if lost is None else Outcome(RunStatus.LOST, Reason.LEASE, str(lost), retry=True)
