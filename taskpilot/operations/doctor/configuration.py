"""The settings: each valid, and each variable that looks like ours known."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Final

from taskpilot.domain.text import one_line
from taskpilot.operations.doctor.case import Case
from taskpilot.operations.doctor.findings import Code, Finding
from taskpilot.settings.listing import listed

_ADVICE: Final = ("close ", "correct ", "did you mean", "make ", "move ", "name ", "remove ", "save ", "set ", "take ", "unset ", "write ")
"""How the advice at the end of a refusal begins; anything else behind a semicolon is more of the complaint."""
_ELSEWHERE: Final = {"prices_file": "prices"}
"""Fields whose problems are told by another subject."""


def examine_settings(case: Case) -> Iterator[Finding]:
    """What is invalid, one finding each."""
    for name, problem in case.problems.items():
        if name not in _ELSEWHERE:
            yield invalid(str(problem))
    for name in case.around.strangers:
        yield _stranger(case, name)
    if not case.problems:
        rows = listed(case.settings)
        given = sum(row.source != "default" for row in rows)
        yield Finding(Code.SETTINGS_OK, f"{given} of {len(rows)} are given, the others have their defaults")


def _stranger(case: Case, name: str) -> Finding:
    shown = one_line(name, limit=80)
    near = get_close_matches(name, [variable for row in listed(case.settings) for variable in row.variables], n=1)
    sentence = f"the environment variable {shown} sets nothing: no setting has this name"
    mend = f"correct it: did you mean {near[0]}?" if near else f"unset {shown}"
    return Finding(Code.SETTINGS_UNKNOWN_VARIABLE, sentence, mend)


def invalid(words: str) -> Finding:
    """A finding from a refusal in words: its advice, if it ends in one, is the mend; else what to correct."""
    sentence, separator, advice = words.rpartition("; ")
    if separator and advice.startswith(_ADVICE):
        return Finding(Code.SETTINGS_INVALID, sentence, advice)
    where, _separator, rest = words.partition(": ")
    key, _separator, complaint = rest.partition(": ")
    if not where.startswith(("env ", "--")) and complaint:
        where = f"{key} in {where}"
    return Finding(Code.SETTINGS_INVALID, words, f"correct {where.removeprefix('env ')}")
