"""Notes on the disk what a policy is deciding, so that a run that dies in the policy leaves a recorded denial."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from taskpilot.domain.decisions import PolicyInput, PolicyResult, Verdict
from taskpilot.domain.protocols import PolicyEngine
from taskpilot.files import write_new
from taskpilot.policy.rego import ENGINE, PATH

_NAME: Final = "deciding-"


class WatchedPolicy:
    """A policy whose question is in a file of the run while it is being decided."""

    def __init__(self, policy: PolicyEngine, run_dir: Path, *, hide: Callable[[Any], Any] = lambda value: value) -> None:
        self._policy = policy
        self._run_dir = run_dir
        self._hide = hide
        """Removes known secrets."""

    def decide(self, question: PolicyInput) -> PolicyResult:
        """As the policy decides."""
        path = self._run_dir / f"{_NAME}{threading.get_ident()}.json"
        # A question that cannot be written as JSON is refused before the engine sees it.
        with suppress(OSError, TypeError, ValueError):
            write_new(path, json.dumps(self._hide(asdict(question))))
        try:
            return self._policy.decide(question)
        finally:
            path.unlink(missing_ok=True)


def undecided(run_dir: Path) -> Iterator[tuple[PolicyInput, PolicyResult]]:
    """The questions that an ended process left, each with its denial; their files are removed."""
    for path in sorted(run_dir.glob(f"{_NAME}*.json")):
        with suppress(OSError, TypeError, ValueError):
            question = PolicyInput(**json.loads(path.read_bytes()))
            yield question, PolicyResult(Verdict.DENY, ("policy_error: the process ended while the policy decided",), ENGINE, PATH)
        path.unlink(missing_ok=True)
