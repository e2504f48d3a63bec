"""What the policies say to known calls: the answer of `taskpilot policy check`."""

from dataclasses import dataclass

from taskpilot.domain.decisions import Verdict
from taskpilot.policy.fixtures import FIXTURES
from taskpilot.policy.rego import RegoPolicy


@dataclass(frozen=True, slots=True)
class FixtureResult:
    """One known call: what the default policy alone says to it, and what the policies in force say."""

    name: str
    expected: Verdict
    got: Verdict
    reasons: tuple[str, ...]
    error: str | None

    @property
    def differs(self) -> bool:
        """True where the project's files changed the verdict: theirs to do, and worth seeing."""
        return self.got is not self.expected


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """The files that were compiled, in the order in which they are asked, and what came of each fixture."""

    files: tuple[str, ...]
    default: bool
    """Whether the default policy is among them."""
    fixtures: tuple[FixtureResult, ...]

    @property
    def ok(self) -> bool:
        """False where an evaluation failed, or where the default policy alone does not say what it should."""
        if any(result.error for result in self.fixtures):
            return False
        return not (self.default and len(self.files) == 1 and any(result.differs for result in self.fixtures))


def check_policies(policy: RegoPolicy) -> PolicyReport:
    """Compiles the policies, then asks them about every fixture. Raises ConfigurationError (78) that names file and line."""
    policy.compile()
    results = []
    for fixture in FIXTURES:
        result = policy.decide(fixture.question)
        results.append(FixtureResult(fixture.name, fixture.expected, result.verdict, result.reasons, result.error))
    return PolicyReport(
        files=tuple(source.name for part in policy.policies for source in part.sources),
        default=policy.has_default,
        fixtures=tuple(results),
    )
