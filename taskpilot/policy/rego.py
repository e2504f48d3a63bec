"""Decides tool calls by Rego: the default policy and the project's own, both asked, the stricter word in force."""

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from taskpilot.domain.decisions import PolicyInput, PolicyResult, Verdict
from taskpilot.domain.errors import Stop
from taskpilot.policy import engines, guards
from taskpilot.policy.sources import Policy, default_policy, project_policy

ENGINE: Final = "regorus"
PATH: Final = "taskpilot/tools"
"""The package that is asked, as OPA's decision log writes a path."""
GUARDS_PATH: Final = "taskpilot/guards"
"""Where a call was refused before any policy saw it."""
_PROBE: Final = json.dumps(
    guards.document(PolicyInput(tool="probe", arguments={}, agent="job", job="probe", run_id="probe", job_tools=())), ensure_ascii=False
)


class RegoPolicy:
    """The policy engine of a run. Threads may share one: each gets its own engine when it first asks."""

    def __init__(self, *, files: Sequence[Path] = (), default: bool = True) -> None:
        """Reads the texts, once. With `default=False` the project's files alone decide; with no files either, nothing is allowed.

        Raises ConfigurationError where a file cannot be read. Loads no engine: that happens in the process and thread that asks.
        """
        policies: list[Policy] = []
        if default:
            policies.append(default_policy())
        if files:
            policies.append(project_policy(files))
        self.policies: Final = tuple(policies)
        self.has_default: Final = default

    def decide(self, question: PolicyInput) -> PolicyResult:
        """A definite allow, a need for approval, or a denial; never raises but to stop the process."""
        started = time.perf_counter_ns()
        path, error = PATH, None
        try:
            verdict, reasons = self._decide(question)
        except guards.InputRefused as refusal:
            path, verdict, reasons = GUARDS_PATH, Verdict.DENY, (str(refusal),)
        except (KeyboardInterrupt, SystemExit, Stop):
            raise
        except BaseException as failure:  # regorus' PanicException is not an Exception, and a policy that fails must deny.
            error = f"policy_error: {engines.explain(failure)}"
            verdict, reasons = Verdict.DENY, (error,)
        return PolicyResult(
            verdict=verdict,
            reasons=reasons,
            engine=ENGINE,
            path=path,
            evaluation_nanoseconds=time.perf_counter_ns() - started,
            error=error,
        )

    def compile(self) -> None:
        """Compiles every policy and asks its entry points once. Raises ConfigurationError that names the file and the line."""
        for policy in self.policies:
            engines.compile_policy(policy, [_PROBE])

    def _decide(self, question: PolicyInput) -> tuple[Verdict, tuple[str, ...]]:
        asked = json.dumps(guards.document(question), ensure_ascii=False, allow_nan=False)
        answers = [engines.ask(policy, asked) for policy in self.policies]
        denials = _unique(answer.deny for answer in answers)
        if denials:
            return Verdict.DENY, denials
        approvals = _unique(answer.require_approval for answer in answers)
        if approvals:
            return Verdict.REQUIRE_APPROVAL, approvals
        allowing = tuple(policy.label for policy, answer in zip(self.policies, answers, strict=True) if answer.allow)
        if allowing:
            return Verdict.ALLOW, (f"allowed by {' and '.join(allowing)}",)
        return Verdict.DENY, ("no rule allows it",)


def _unique(groups: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reason for group in groups for reason in group))
