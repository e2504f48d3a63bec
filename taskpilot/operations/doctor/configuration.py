"""The settings: each valid, and each variable that looks like ours known."""

from collections.abc import Iterator
from typing import Final

from taskpilot.domain.text import one_line
from taskpilot.operations.doctor.case import Case
from taskpilot.operations.doctor.findings import Code, Finding
from taskpilot.settings.listing import listed

_ELSEWHERE: Final = {"prices_file": "prices"}
"""Fields whose problems are told by another subject."""


def examine_settings(case: Case) -> Iterator[Finding]:
    """What is invalid, one finding each."""
    for name, problem in case.problems.items():
        if name not in _ELSEWHERE:
            yield invalid(str(problem))
    for name in case.around.strangers:
        yield Finding(
            Code.SETTINGS_UNKNOWN_VARIABLE,
            f"the environment variable {one_line(name, limit=80)} sets nothing: no setting has this name",
            f"unset {one_line(name, limit=80)}, or correct its name; `taskpilot doctor` lists those that are known",
        )
    if not case.problems:
        rows = listed(case.settings)
        given = sum(row.source != "default" for row in rows)
        yield Finding(Code.SETTINGS_OK, f"{given} of {len(rows)} are given, the others have their defaults")


def invalid(words: str) -> Finding:
    """A finding from a refusal, whose advice, if any, stands behind a semicolon."""
    sentence, separator, advice = words.rpartition("; ")
    if not separator:
        return Finding(Code.SETTINGS_INVALID, words, "correct it where the sentence says it stands")
    return Finding(Code.SETTINGS_INVALID, sentence, advice)
