"""Checks every subject; one that fails or hangs never hides the others."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from taskpilot.config import survey
from taskpilot.config.listing import Listed, listed, process_environment
from taskpilot.diagnostics.context import ANSWER_SECONDS, BuiltIn, CheckContext
from taskpilot.diagnostics.cron import examine_cron
from taskpilot.diagnostics.findings import Finding, Level, unchecked
from taskpilot.diagnostics.model import examine_model
from taskpilot.diagnostics.notices import examine_notices
from taskpilot.diagnostics.project import examine_jobs, examine_policy, examine_prices, examine_root, examine_settings, invalid
from taskpilot.diagnostics.stack import STACK
from taskpilot.diagnostics.store import examine_store
from taskpilot.diagnostics.telemetry import examine_collector, examine_gateway
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.text import said
from taskpilot.domain.times import utc_now
from taskpilot.http import TimedCall

Examine = Callable[[CheckContext], Iterable[Finding]]

_LOCAL: Final[dict[str, Examine]] = {
    "settings": examine_settings,
    "jobs": examine_jobs,
    "policy": examine_policy,
    "store": examine_store,
    "prices": examine_prices,
    "notices": examine_notices,
    "cron": examine_cron,
}
_REMOTE: Final[dict[str, Examine]] = {"model": examine_model, "gateway": examine_gateway, "collector": examine_collector}
_ORDER: Final = ("root", "settings", "jobs", "policy", "store", "model", "prices", "gateway", "collector", "notices", "cron")
_SPARE_SECONDS: Final = 2.0
"""Beyond what one answer may take: each subject asks one server once, the collector a second time."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found."""

    settings: tuple[Listed, ...]
    """Every setting and its source; empty where they could not be read at all."""
    findings: tuple[Finding, ...]
    """By subject, in the order in which they depend on each other."""

    @property
    def exit_code(self) -> ExitCode:
        """78 where an error says that the configuration is invalid, 1 for any other error, 0 for warnings and notes alone."""
        codes = {one.code.exit_code for one in self.findings}
        return next((code for code in (ExitCode.CONFIGURATION, ExitCode.FAILED) if code in codes), ExitCode.SUCCEEDED)

    def count(self, level: Level) -> int:
        """How many findings are of that level."""
        return sum(one.level is level for one in self.findings)


def examine(
    *,
    root: Path | None = None,
    home: Path | None = None,
    jobs: Path | None = None,
    log_level: str | None = None,
    cwd: Path | None = None,
    stack: bool = False,
    now: Callable[[], datetime] = utc_now,
    built_in: BuiltIn = lambda _settings: (),
) -> Diagnosis:
    """Checks the deployment that the command line names. Writes nothing, pushes nothing, spends no token.

    `stack`: also checks the servers of the observability stack. `built_in`: the jobs that every installation has.
    """
    order = tuple(dict.fromkeys((*_ORDER, *STACK))) if stack else _ORDER
    begin = examine_root(cwd, root)
    if begin.level is not Level.OK:
        return Diagnosis((), (begin, *_nothing_checked(order, "there is no root to check")))
    try:
        surveyed = survey(root=root, home=home, jobs=jobs, log_level=log_level, cwd=cwd)
    except ConfigurationError as error:
        rest = _nothing_checked(order, "the settings cannot be read")
        return Diagnosis((), (begin, invalid(error), *(one for one in rest if one.subject != "settings")))
    context = CheckContext(surveyed.settings, surveyed.problems, process_environment(), now(), built_in)
    with _no_bytecode():
        findings = [begin, *_examine(context, _REMOTE | STACK if stack else _REMOTE)]
    findings.sort(key=lambda one: order.index(one.subject))
    return Diagnosis(listed(surveyed.settings), tuple(findings))


def _nothing_checked(order: Iterable[str], why: str) -> list[Finding]:
    return [unchecked(subject, why) for subject in order if subject != "root"]


def _examine(context: CheckContext, remote: Mapping[str, Examine]) -> Iterator[Finding]:
    # Read before any thread begins: loading jobs redirects stdout for a moment, and several subjects read both.
    _ = context.catalog, context.inspection
    asked = {subject: TimedCall(lambda look=look: list(look(context))) for subject, look in remote.items()}  # type: ignore[misc]
    for subject, look in _LOCAL.items():
        yield from _guarded(subject, lambda look=look: look(context))  # type: ignore[misc]
    for subject, background in asked.items():
        if background.wait(ANSWER_SECONDS + _SPARE_SECONDS):
            yield from _guarded(subject, lambda background=background: _value(background))  # type: ignore[misc]
        else:
            yield unchecked(subject, f"it gave no answer in {ANSWER_SECONDS + _SPARE_SECONDS:.0f} s")


def _value(background: TimedCall[list[Finding]]) -> list[Finding]:
    if background.error is not None:
        raise background.error
    return background.value or []


def _guarded(subject: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    try:
        return list(look())
    except Exception as error:
        return [unchecked(subject, f"the check itself failed: {said(error)}", "report it: this is a defect of TaskPilot")]


@contextmanager
def _no_bytecode() -> Iterator[None]:
    """What job files import from their folder would leave a __pycache__ there."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def diagnosis_json(found: Diagnosis) -> dict[str, Any]:
    """Keys of each finding: code, level, subject, sentence, fix, facts; of each setting: name, variables, value, source."""
    return {
        "exit_code": int(found.exit_code),
        "findings": [
            {
                "code": one.code.value,
                "level": one.level.value,
                "subject": one.subject,
                "sentence": one.sentence,
                "fix": one.fix or None,
                "facts": dict(one.facts),
            }
            for one in found.findings
        ],
        "settings": [
            {"name": one.name, "variables": list(one.variables), "value": one.value or None, "source": one.source} for one in found.settings
        ],
    }
