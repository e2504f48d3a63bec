"""`taskpilot policy check`: sample calls with their expected verdicts, tried in a process of its own."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from taskpilot.domain.decisions import PolicyInput, Verdict
from taskpilot.domain.errors import ConfigurationError
from taskpilot.policy.rego import RegoPolicy
from taskpilot.process.isolated import Limits, Trouble, call_isolated, note

_MEMORY_BYTES: Final = 3 << 30
"""The engine reserves a gigabyte of addresses at its start, which counts."""
CHECK_SECONDS: Final = 5
"""Of processor time, for compiling the policies and all sample calls: a decision takes a millisecond."""
_WAIT_SECONDS: Final = 60.0
"""Until a busy machine has given the process this time."""


@dataclass(frozen=True, slots=True)
class Fixture:
    """One sample call and the default policy's verdict."""

    name: str
    question: PolicyInput
    expected: Verdict


def _call(name: str, expected: Verdict, tool: str, agent: str, arguments: dict[str, Any], *job_tools: str) -> Fixture:
    return Fixture(name, PolicyInput(tool, arguments, agent, "policy_check", "policy-check", job_tools), expected)


def _task(title: str, priority: str) -> dict[str, Any]:
    return {"title": title, "priority": priority, "description": ""}


def _message(text: str) -> dict[str, Any]:
    return {"channel": "ops", "message": text}


_ALLOW, _DENY, _APPROVAL = Verdict.ALLOW, Verdict.DENY, Verdict.REQUIRE_APPROVAL

FIXTURES: Final = (
    _call("the executor files a task", _ALLOW, "create_task", "executor", _task("Renew the certificate", "high")),
    _call("the planner files a task", _ALLOW, "create_task", "planner", _task("Renew the certificate", "low")),
    _call("the job's own code files a task", _ALLOW, "create_task", "job", _task("Renew the certificate", "medium")),
    _call("the reviewer files no task", _DENY, "create_task", "reviewer", _task("Renew the certificate", "low")),
    _call("a task without a title", _DENY, "create_task", "executor", _task("   ", "low")),
    _call("a task of an unknown priority", _DENY, "create_task", "executor", _task("Renew the certificate", "urgent")),
    _call("a sensitive task of high priority", _APPROVAL, "create_task", "executor", _task("Move the SENSITIVE records", "high")),
    _call("a sensitive task of low priority", _ALLOW, "create_task", "executor", _task("Move the sensitive records", "low")),
    _call("the executor sends a message", _ALLOW, "notify", "executor", _message("The certificate is renewed")),
    _call("the planner sends no message", _DENY, "notify", "planner", _message("The certificate is renewed")),
    _call("a message that says delete", _DENY, "notify", "executor", _message("Please DELETE the old records")),
    _call("deletion, by the executor", _DENY, "delete_task", "executor", {"id": "1"}),
    _call("deletion, listed by the job", _DENY, "delete_task", "job", {"id": "1"}, "delete_task"),
    _call("a tool that the job lists", _ALLOW, "open_ticket", "executor", {"title": "x"}, "open_ticket"),
    _call("a tool that the job lists, by the reviewer", _DENY, "open_ticket", "reviewer", {"title": "x"}, "open_ticket"),
    _call("a tool that the job does not list", _DENY, "run_shell", "executor", {"command": "ls"}),
    _call("a text with a NUL character", _DENY, "create_task", "executor", _task("Renew\0 the certificate", "low")),
    _call("an integer beyond 64 bits", _DENY, "open_ticket", "executor", {"number": 1 << 70}, "open_ticket"),
)


@dataclass(frozen=True, slots=True)
class FixtureResult:
    """One sample call: the verdict of the default policy alone, and that of the policies in force."""

    name: str
    expected: Verdict
    got: Verdict
    reasons: tuple[str, ...]
    error: str | None

    @property
    def differs(self) -> bool:
        """True where the project's files change the verdict, which is allowed and shown."""
        return self.got is not self.expected


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """The compiled files in the order of evaluation, and the result of each sample call."""

    files: tuple[str, ...]
    default: bool
    """Whether the default policy is among them."""
    fixtures: tuple[FixtureResult, ...]

    @property
    def ok(self) -> bool:
        """False if an evaluation failed, or if the default policy alone gives an unexpected verdict."""
        if any(result.error for result in self.fixtures):
            return False
        return not (self.default and len(self.files) == 1 and any(result.differs for result in self.fixtures))


def check_apart(policy: RegoPolicy, root: Path, *, seconds: int = CHECK_SECONDS) -> PolicyReport:
    """As `check_policies`, in a process of its own: a policy may run for ever, or end its process.

    Raises ConfigurationError (78) that names file and line.
    """
    request = {"files": [str(file) for file in policy.files], "default": policy.has_default}
    limits = Limits(seconds=_WAIT_SECONDS, cpu_seconds=seconds, root=root, memory_bytes=_MEMORY_BYTES)
    try:
        ((_, answer),) = list(call_isolated("taskpilot.policy.check:check_here", [request], limits))
    except OSError as error:
        raise ConfigurationError(f"no process for checking the policies can be started: {error}") from None
    if answer.trouble is not None:
        place = answer.note or "the policies"
        if answer.trouble is Trouble.TIME:
            raise ConfigurationError(f"{place} was not evaluated within {seconds:g} s", hint="make it simpler: each tool call waits for it")
        raise ConfigurationError(
            f"{place} ended the process that evaluated it ({answer.detail})", hint="make it simpler, without recursion"
        )
    found: Mapping[str, Any] = answer.value
    if "error" in found:
        raise ConfigurationError(found["error"], hint=found["hint"])
    fixtures = tuple(
        FixtureResult(one["name"], Verdict(one["expected"]), Verdict(one["got"]), tuple(one["reasons"]), one["error"])
        for one in found["fixtures"]
    )
    return PolicyReport(tuple(found["files"]), found["default"], fixtures)


def check_here(request: Mapping[str, Any]) -> dict[str, Any]:
    """In the process of the check: the report, or the error, as JSON."""
    try:
        return asdict(check_policies(RegoPolicy(files=[Path(file) for file in request["files"]], default=request["default"])))
    except ConfigurationError as error:
        return {"error": str(error), "hint": error.hint}


def check_policies(policy: RegoPolicy) -> PolicyReport:
    """Compiles the policies, then evaluates them for every sample call. Raises ConfigurationError (78) that names file and line."""
    policy.compile(note)
    results = []
    for fixture in FIXTURES:
        result = policy.decide(fixture.question)
        results.append(FixtureResult(fixture.name, fixture.expected, result.verdict, result.reasons, result.error))
    return PolicyReport(
        files=tuple(source.name for part in policy.policies for source in part.sources),
        default=policy.has_default,
        fixtures=tuple(results),
    )
