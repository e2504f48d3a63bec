"""The budget of a run, in words."""

from taskpilot.domain.specs import DEFAULT_BUDGET, Budget, JobSpec


def ceilings(budget: Budget) -> str:
    """The limits of a budget: "0.50 USD, 60 LLM calls"."""
    counts = ((budget.tokens, "tokens"), (budget.llm_calls, "LLM calls"), (budget.tool_calls, "tool calls"))
    parts = [] if budget.usd is None else [f"{budget.usd} USD"]
    parts += [f"{number:,} {noun}" for number, noun in counts if number is not None]
    return ", ".join(parts) or "no limit"


def budget_of(spec: JobSpec) -> str:
    """The limits of one run, where they come from, and the limit of one approved task."""
    source = "the default; the job sets none" if spec.ceilings is DEFAULT_BUDGET else "set by the job"
    tasks = f"{spec.task_tool_calls:,} tool call{'' if spec.task_tool_calls == 1 else 's'} a task"
    return f"{ceilings(spec.ceilings)} a run ({source}); {tasks}"
