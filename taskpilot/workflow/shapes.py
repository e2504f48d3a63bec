"""What the agents are asked to answer, and what a workflow gives back."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from taskpilot.domain.tasks import DESCRIPTION_MAX, TITLE_MAX, Priority, ReviewVerdict, TaskStatus


class Proposal(BaseModel):
    """One task that the planner proposes."""

    model_config = ConfigDict(extra="forbid")

    title: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=TITLE_MAX)]
    priority: Priority
    description: Annotated[str, StringConstraints(max_length=DESCRIPTION_MAX)] = ""


class Plan(BaseModel):
    """The planner's answer: one task or more."""

    model_config = ConfigDict(extra="forbid")

    tasks: Annotated[list[Proposal], Field(min_length=1, max_length=20)]


class Review(BaseModel):
    """The reviewer's answer: one verdict of a closed set, and why."""

    model_config = ConfigDict(extra="forbid")

    verdict: ReviewVerdict
    reason: Annotated[str, StringConstraints(max_length=2_000)]


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What became of one proposed task."""

    id: str
    title: str
    priority: Priority
    status: TaskStatus
    reason: str


@dataclass(frozen=True, slots=True)
class WorkflowResult:
    """What became of one request."""

    request: str
    tasks: tuple[TaskResult, ...]
