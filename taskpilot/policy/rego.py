"""Decides tool calls by Rego: both the default and the project's policy are evaluated, and the stricter verdict counts."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from taskpilot.domain.decisions import PolicyInput, PolicyResult, Verdict
from taskpilot.domain.errors import Stop
from taskpilot.policy import engines, guards
from taskpilot.policy.sources import Policy, default_policy, project_policy

ENGINE: Final = "regorus"
PATH: Final = "taskpilot/tools"
"""The evaluated package, as a path in OPA's decision log."""
GUARDS_PATH: Final = "taskpilot/guards"
"""The path of a call that was refused before any policy saw it."""
_PROBE: Final = json.dumps(
    guards.document(PolicyInput(tool="probe", arguments={}, agent="job", job="probe", run_id="probe", job_tools=())), ensure_ascii=False
)

_PROBES: Final = tuple(
    json.dumps(guards.document(PolicyInput(tool=tool, arguments=arguments, agent="executor", job="probe", run_id="probe", job_tools=())))
    for tool, arguments in (
        ("create_task", {"title": "a sensitive title", "priority": "high", "description": ""}),
        ("notify", {"channel": "ops", "message": "a message"}),
    )
)


class RegoPolicy:
    """The policy engine of a run. Threads may share one: each gets its own engine at its first call."""

    def __init__(self, *, files: Sequence[Path] = (), default: bool = True) -> None:
        """Reads the texts once. With `default=False` only the project's files decide; without files, nothing is allowed.

        Raises ConfigurationError if a file cannot be read. The engine is loaded later, in the process and thread that needs it.
        """
        self.files: Final = tuple(files)
        policies: list[Policy] = []
        if default:
            policies.append(default_policy())
        if files:
            policies.append(project_policy(files))
        self.policies: Final = tuple(policies)
        self.has_default: Final = default

    def decide(self, question: PolicyInput) -> PolicyResult:
        """Allow, require approval, or deny. Raises only what stops the process or the run."""
        started = time.perf_counter_ns()
        path, error = PATH, None
        try:
            verdict, reasons = self._decide(question)
        except guards.InputRefused as refusal:
            path, verdict, reasons = GUARDS_PATH, Verdict.DENY, (str(refusal),)
        except (KeyboardInterrupt, SystemExit, Stop):
            raise
        except BaseException as failure:  # regorus' PanicException is not an Exception; a policy that fails must deny.
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

    @property
    def fingerprint(self) -> str:
        """A digest of all texts."""
        return hashlib.sha256("".join(policy.fingerprint for policy in self.policies).encode()).hexdigest()

    def compile(self, note: Callable[[str], None] = lambda _place: None) -> None:
        """Compiles every policy and evaluates its entry points once. Raises ConfigurationError that names the file and the line.

        `note` is told the place before each step, for the case that it does not return.
        """
        for policy in self.policies:
            engines.compile_policy(policy, [_PROBE, *_PROBES], note)

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
