"""The codes of the doctor: stable in their form, and what each means for the exit status."""

import ast
import re
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from string import Formatter

import pytest

from taskpilot import diagnostics
from taskpilot.config import load
from taskpilot.config.listing import process_environment
from taskpilot.diagnostics import Code, Diagnosis, Finding, Level
from taskpilot.diagnostics.context import CheckContext
from taskpilot.diagnostics.examination import _LOCAL, _ORDER, _REMOTE
from taskpilot.diagnostics.findings import found, unchecked
from taskpilot.diagnostics.project import examine_jobs
from taskpilot.diagnostics.stack import STACK
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.fires import SchedulerState
from taskpilot.domain.times import boot_time, utc_iso, utc_now
from taskpilot.store import schedulers
from taskpilot.store.database import Store
from tests.planted import Night


def test_every_code_is_a_subject_and_a_word() -> None:
    for code in Code:
        assert re.fullmatch(r"[a-z]+\.[a-z]+(-[a-z]+)*", code)
        assert code.partition(".")[0] in {*_ORDER, *STACK}


def test_every_subject_is_checked_or_reported_as_unchecked() -> None:
    assert {"root", *_LOCAL, *_REMOTE} == set(_ORDER)
    for subject in (*_LOCAL, *_REMOTE, *STACK):
        finding = unchecked(subject, "no reason")
        assert (finding.subject, finding.level, finding.sentence) == (subject, Level.WARNING, "not checked: no reason")


def test_a_finding_fills_its_sentence_and_keeps_its_facts() -> None:
    finding = found(Code.STORE_DIR_OWNER, path=Path("/a b"), owner=7, uid=8)
    assert finding.sentence == "the state dir /a b belongs to uid 7, not to this user"
    assert finding.fix.startswith("chown -R 8 '/a b', or run as that user")
    assert finding.facts == {"path": "/a b", "owner": 7, "uid": 8}


def test_text_of_another_module_is_shown_as_it_is_and_is_no_fact() -> None:
    finding = found(Code.ROOT_INVALID, error="bad {brace}", fix="good {brace}")
    assert (finding.sentence, finding.fix, finding.facts) == ("bad {brace}", "good {brace}", {})


def test_every_finding_is_made_with_the_facts_that_its_sentence_names() -> None:
    made = 0
    for file in Path(diagnostics.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name("found"), args=[ast.Attribute(value=ast.Name("Code"), attr=name)]):
                    code = Code[name]
                    needed = {field for text in (code.sentence, code.fix) for _, field, *_ in Formatter().parse(text) if field}
                    assert needed <= {keyword.arg for keyword in node.keywords}, f"{file.name}:{node.lineno}"
                    made += 1
    assert made > 50


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


def test_what_the_server_found_in_its_own_environment_is_found_here_too_until_it_is_stopped(root: Path) -> None:
    now = utc_now()
    with closing(Store.open(root / ".taskpilot")) as store:
        night = Night(store, now)
        for state in ("succeeded", "blocked", "broken"):
            night.plant(state)

        def blocked() -> list[Finding]:
            context = CheckContext(load(root=root, environ={}), {}, process_environment(), now, lambda _settings: ())
            return [one for one in examine_jobs(context) if one.code is Code.JOBS_BLOCKED]

        assert blocked() == []
        night.server()
        (one,) = blocked()
        at = utc_iso(now, timespec="seconds")
        assert one.sentence == f"`taskpilot serve` cannot start blocked, as it found at {at}: no model is configured. No token was spent"
        assert (one.fix, one.facts["job"]) == ("set OPENAI_API_KEY", "blocked")
        with store.write() as connection:
            stopped = {"state": SchedulerState.STOPPED, "lag": timedelta(0), "jobs": 3, "broken": (), "error": None}
            schedulers.tick(connection, "one", boot=boot_time(), now=now, **stopped)
        assert blocked() == []
