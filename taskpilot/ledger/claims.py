"""Plans of runs, and the results of claims."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from taskpilot.domain.exits import ExitCode
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome, LeaseGrant, Run, TriggerKind
from taskpilot.domain.specs import JobSpec
from taskpilot.domain.usage import usd_to_nano


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A requested run; its configuration is checked already."""

    run_id: str
    spec: JobSpec
    parameters: Mapping[str, Any]
    model: str | None
    trigger: TriggerKind
    scheduled_for: datetime | None = None
    traceparent: str | None = None

    @property
    def ceilings(self) -> dict[str, int | None]:
        """The budget as columns of the run."""
        budget = self.spec.ceilings
        return {
            "ceiling_nano": None if budget.usd is None else usd_to_nano(budget.usd),
            "ceiling_tokens": budget.tokens,
            "ceiling_llm_calls": budget.llm_calls,
            "ceiling_tool_calls": budget.tool_calls,
        }


@dataclass(frozen=True, slots=True)
class Claim:
    """The lease of a run: no other process starts it while the lease holds."""

    run: Run
    grant: LeaseGrant


@dataclass(frozen=True, slots=True)
class Hold:
    """The run is to start later: its fire is in the queue, or its command waits."""

    reason: Reason
    """`run_id` among its facts is the run that it waits for."""


@dataclass(frozen=True, slots=True)
class Skip:
    """The run does not start, and why."""

    outcome: FireOutcome
    """The outcome of the fire; of one that is claimed already, the recorded one."""
    reason: Reason

    @property
    def exit_code(self) -> ExitCode:
        """10 behind another run or fire of the job, 11 otherwise; that of the signal where one ended the wait."""
        if self.reason.code is ReasonCode.INTERRUPTED:
            return ExitCode.SIGINT if self.reason.facts.get("signal") == "SIGINT" else ExitCode.SIGTERM
        behind = self.reason.code in (ReasonCode.RUN_ACTIVE, ReasonCode.RUN_WAITING, ReasonCode.FIRE_WAITING)
        return ExitCode.SKIPPED_OVERLAP if behind else ExitCode.SKIPPED


@dataclass(frozen=True, slots=True)
class Definitions:
    """The jobs as their folder has them."""

    specs: Mapping[str, JobSpec]
    """Those that can be run."""
    broken: Mapping[str, str] = field(default_factory=dict)
    """Those whose file cannot be loaded, and why."""
    changed_at: datetime | None = None
    """When the folder was changed last, where that is known."""
    complaints: tuple[str, ...] = ()
    """What cannot be loaded and why, a line each."""
    loading: frozenset[str] = frozenset()
    """Jobs whose file is being loaded for the first time: until that is done, their schedules and fires stay as they are."""

    def knows(self, job: str) -> bool:
        """Whether it is defined, be it in a file that is broken."""
        return job in self.specs or job in self.broken


@dataclass(frozen=True, slots=True)
class Claimed:
    """What became of the fires that were due."""

    outcomes: Mapping[FireOutcome, int] = field(default_factory=dict)
    """`buffered`: the fires that were put into the queue."""
    jobs: frozenset[str] = frozenset()
    """The jobs whose counters changed."""
