"""The policies: whether they compile, and say what they should to known calls."""

from collections.abc import Iterator

from taskpilot.domain.errors import ConfigurationError
from taskpilot.operations.doctor.case import Case
from taskpilot.operations.doctor.findings import Code, Finding, unchecked
from taskpilot.operations.policy import check_policy


def examine_policy(case: Case) -> Iterator[Finding]:
    """What is wrong with the policies in force."""
    if why := case.unsound("policy_files", "policy_default"):
        yield unchecked("policy", why)
        return
    try:
        report = check_policy(case.settings)
    except ConfigurationError as error:
        yield Finding(Code.POLICY_BROKEN, f"{error}; every tool call would be denied", "correct that line, then `taskpilot policy check`")
        return
    errors = [one for one in report.fixtures if one.error]
    for one in errors:
        yield Finding(Code.POLICY_BROKEN, f"the known call {one.name!r}: {one.error}", "`taskpilot policy check` shows every known call")
    differing = [one.name for one in report.fixtures if one.differs and not one.error]
    if differing and not report.ok and not errors:
        yield Finding(
            Code.POLICY_BROKEN, f"the shipped policy decides otherwise than it should: {', '.join(differing)}", "install TaskPilot anew"
        )
    elif differing:
        sentence = f"the project's files decide {len(differing)} known calls otherwise than the shipped policy"
        yield Finding(Code.POLICY_DIFFERS, sentence, "nothing, where that is meant; `taskpilot policy check` lists them")
    if report.ok:
        yield Finding(Code.POLICY_OK, f"compiled: {', '.join(report.files)}")
