"""The codes of the doctor: stable in their form, and what each means for the exit status."""

import re

import pytest

from taskpilot.diagnostics import Code, Diagnosis, Finding, Level
from taskpilot.diagnostics.examination import _LOCAL, _ORDER, _REMOTE
from taskpilot.diagnostics.findings import unchecked
from taskpilot.diagnostics.stack import STACK
from taskpilot.domain.exits import ExitCode


def test_every_code_is_a_subject_and_a_word() -> None:
    for code in Code:
        assert re.fullmatch(r"[a-z]+\.[a-z]+(-[a-z]+)*", code)
        assert code.partition(".")[0] in {*_ORDER, *STACK}


def test_every_subject_is_looked_at_and_may_say_that_it_was_not_checked() -> None:
    assert {"root", *_LOCAL, *_REMOTE} == set(_ORDER)
    for subject in (*_LOCAL, *_REMOTE, *STACK):
        finding = unchecked(subject, "no reason")
        assert (finding.subject, finding.level, finding.sentence) == (subject, Level.WARNING, "not checked: no reason")


def test_only_errors_change_the_exit_status() -> None:
    for code in Code:
        assert (code.exit_code is not ExitCode.SUCCEEDED) == (code.level is Level.ERROR)


@pytest.mark.parametrize(
    ("codes", "exit_code"),
    [
        ([], 0),
        ([Code.STORE_OK, Code.STORE_NONE, Code.STORE_FILE_MODE, Code.MODEL_UNCHECKED], 0),
        ([Code.STORE_CORRUPT, Code.STORE_FILE_MODE], 1),
        ([Code.STORE_CORRUPT, Code.JOBS_BROKEN], 78),
        ([Code.JOBS_BROKEN, Code.STORE_CORRUPT], 78),
    ],
)
def test_the_gravest_error_decides(codes: list[Code], exit_code: int) -> None:
    assert Diagnosis((), tuple(Finding(code, "x") for code in codes)).exit_code == exit_code
