"""What asks for a run, and what comes of asking."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from taskpilot.domain.exits import ExitCode
from taskpilot.domain.runs import FireOutcome, LeaseGrant, Run, TriggerKind
from taskpilot.domain.specs import JobSpec
from taskpilot.domain.usage import usd_to_nano


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run that somebody asks for; its configuration is checked already."""

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
    """The run is ours: nobody else starts it while the lease holds."""

    run: Run
    grant: LeaseGrant


@dataclass(frozen=True, slots=True)
class Skip:
    """The run is not to be started, and why."""

    outcome: FireOutcome
    """What became of the fire; of one that is claimed already, what its claimer recorded."""
    exit_code: ExitCode
    message: str
    run_id: str | None = None
    recorded: bool = False
    """True where this skip is a new row of the ledger."""
