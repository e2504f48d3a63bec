"""What is configured or typed wrongly: the exit code of the table, one sentence that helps, and nothing started."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.command import Said, TaskPilot

GOOD = """
from taskpilot import InputFile, RunContext, every, job


@job(schedule=every("15m"))
def good(ctx: RunContext, number: int = 1) -> int:
    return number + 1


@job
def reads(ctx: RunContext, inbox: InputFile) -> str:
    return open(inbox).read()


@job
def asks(ctx: RunContext) -> str:
    ctx.workflow("Order paper for the printer")
    return "asked"


@job(model="gpt-4o-mini")
def asks_gpt(ctx: RunContext) -> str:
    ctx.workflow("Order paper for the printer")
    return "asked"
"""

UNCLOSED = "from taskpilot import job\n\n@job\ndef broken(ctx) -> str:\n    return (\n"
LOGIN_NOBODY = 65534


@pytest.fixture
def good(taskpilot: TaskPilot) -> TaskPilot:
    taskpilot.job(GOOD, name="good")
    return taskpilot


def refused(taskpilot: TaskPilot, said: Said, code: int, *words: str) -> str:
    """A sentence on stderr and its hint, which have the words, nothing on stdout, nothing in the record; gives the sentence."""
    assert (said.code, said.out) == (code, ""), said.err
    sentence, *more = said.err.splitlines()
    assert sentence.startswith("taskpilot: ")
    # A hint is indented; where the command line itself is wrong, its usage follows; a second problem is a second sentence.
    assert [line for line in more if not line.startswith(("  ", "Usage: ", "Try `", "taskpilot: "))] == []
    for word in words:
        assert word in said.err
    if (taskpilot.state_dir / "taskpilot.db").exists():
        assert taskpilot.rows("SELECT id FROM runs") == []
    assert not list(taskpilot.state_dir.glob("runs/*"))
    return sentence


class TestABrokenFileBesideGoodOnes:
    def test_the_good_jobs_run_and_the_broken_one_is_named_with_line_and_cause(self, good: TaskPilot) -> None:
        good.job(UNCLOSED, name="broken")
        refused(good, good("run", "broken"), 78, "broken.py:5: SyntaxError: '(' was never closed")
        said = good("run", "good", "--json")
        assert (said.code, said.err, said.json["result"]) == (0, "", 2)
        listed = good("jobs", "list", "--json")
        assert listed.code == 0
        assert "broken.py:5" in listed.out + listed.err
        assert good("jobs", "validate").code == 78

    @pytest.mark.parametrize(
        ("text", "cause"),
        [
            ("raise SystemExit(0)\n", "the file calls exit when it is loaded"),
            ("import nowhere_to_be_found\n", "ModuleNotFoundError"),
            ("1 / 0\n", "ZeroDivisionError"),
            ("from taskpilot import job\n@job\nasync def broken(ctx): ...\n", "broken"),
            ('from taskpilot import cron, job\n@job(schedule=cron("0 0 31 2 *"))\ndef broken(ctx): ...\n', "never fire"),
            ('from taskpilot import cron, job\n@job(schedule=cron("61 * * * *"))\ndef broken(ctx): ...\n', "not a minute"),
            ("\0", "null bytes"),
        ],
    )
    def test_however_it_is_broken(self, good: TaskPilot, text: str, cause: str) -> None:
        good.job(text, name="broken")
        refused(good, good("run", "broken"), 78, "broken.py", cause)
        assert good("run", "good", "--quiet").code == 0

    def test_two_files_with_one_name_are_both_refused_and_the_rest_runs(self, good: TaskPilot) -> None:
        twin = "from taskpilot import RunContext, job\n@job\ndef twin(ctx: RunContext) -> str:\n    return 'one'\n"
        for name in ("one", "two"):
            good.job(twin, name=name)
        refused(good, good("run", "twin"), 78, "one.py", "two.py", "rename one")
        assert good("run", "good", "--quiet").code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["unknown"], ["unknown job 'unknown'", "good"]),
        (["goood"], ["did you mean good?"]),
        (["good", "-p", "nope=1"], ["no parameter 'nope'", "number: int = 1"]),
        (["good", "-p", "number=one"], ["'number' must be int, not 'one'"]),
        (["good", "-p", "number"], ["'number' is not NAME=VALUE"]),
        (["good", "--params-file", "gone.json"], ["'gone.json' does not exist"]),
        (["good", "--params-file", "list.json"], ["must hold one JSON object"]),
        (["good", "--params-file", "half.json"], ["half.json:1: not JSON"]),
        (["reads"], ["needs the parameter 'inbox'", "-p inbox="]),
        (["reads", "-p", "inbox=gone.txt"], ["there is no file", "gone.txt", "`-p inbox=FILE`"]),
        (["reads", "-p", "inbox=jobs"], ["there is no file", "/jobs"]),
        (["good", "--scheduled-for", "tomorrow"], ["2026-12-24T08:00+01:00, or auto"]),
        (["good", "--scheduled-for", "2026-12-24"], ["has no time zone"]),
        (["reads", "-p", "inbox=list.json", "--scheduled-for", "auto"], ["has no schedule"]),
        (["good", "--nope"], ["No such option '--nope'"]),
        ([], ["Missing argument 'JOB'"]),
    ],
)
def test_what_is_typed_wrongly_is_2(good: TaskPilot, arguments: list[str], words: list[str]) -> None:
    (good.root / "list.json").write_text("[1]")
    (good.root / "half.json").write_text("{")
    refused(good, good("run", *arguments), 2, *words)
    quiet = good("run", *arguments, "--quiet", "--skip-ok")
    assert (quiet.code, quiet.out, quiet.err.count("\n")) == (2, "", 1)


class TestWithoutAWayToTheModel:
    WAYS = ("OPENAI_API_KEY=", "OPENAI_BASE_URL=", "--model offline")

    @pytest.mark.parametrize("arguments", [["asks_gpt"], ["asks", "--model", "gpt-4o"]])
    def test_all_three_ways_are_shown(self, good: TaskPilot, arguments: list[str]) -> None:
        refused(good, good("run", *arguments), 78, *self.WAYS, "No token was spent.")

    def test_a_job_for_which_no_model_is_named_is_told_how(self, good: TaskPilot) -> None:
        # Found when it asks for the first time: a job without `model=` may ask none.
        said = good("run", "asks", "--json")
        assert said.code == 78
        assert said.json["status"] == "failed"
        for word in ("--model NAME", "TASKPILOT_MODEL", "OPENAI_API_KEY", "--model offline"):
            assert word in said.json["reason"]

    def test_the_third_way_works(self, good: TaskPilot) -> None:
        assert good("run", "asks_gpt", "--model", "offline", "--quiet").code == 0

    def test_an_empty_key_is_none(self, good: TaskPilot) -> None:
        refused(good, good("run", "asks_gpt", environment={"OPENAI_API_KEY": " "}), 78, *self.WAYS)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ('overlap="queue"', "overlap='queue' is not known; use one of"),
        ('catch_up="first"', "catch_up='first' is not known; use one of"),
        ('start_deadline="soon"', "start_deadline: 'soon' is not a duration"),
        ('start_deadline="10s", jitter="30s"', "must be longer than jitter"),
        ("pause_on_failure=0", "pause_on_failure=0 must be a whole number"),
        ("speed=11", "no option 'speed'"),
        ('budget=Budget(usd="1", per="day")', "'per'"),
        ('retry=Retry(attempts=3, backoff="5s")', "'backoff'"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused_by_name(good: TaskPilot, option: str, words: str) -> None:
    good.job(f"from taskpilot import Budget, Retry, RunContext, job\n@job({option})\ndef odd(ctx: RunContext) -> None: ...\n", name="odd")
    refused(good, good("run", "odd"), 78, "odd.py:2", words)


def test_default_values_may_be_written_out(good: TaskPilot) -> None:
    options = 'overlap="skip", catch_up="last", start_deadline=None, jitter=None, pause_on_failure=False'
    good.job(f"from taskpilot import RunContext, job\n@job({options})\ndef plain(ctx: RunContext) -> None: ...\n", name="plain")
    assert good("run", "plain", "--quiet").code == 0


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"TASKPILOT_DATABASE_URL": "postgresql://x/y"}, "PostgreSQL is not implemented in this version"),
        ({"TASKPILOT_LEASE_SECONDS": "soon"}, "TASKPILOT_LEASE_SECONDS: 'soon' is not a duration"),
        ({"TASKPILOT_PUSHGATEWAY_URL": "nope"}, "TASKPILOT_PUSHGATEWAY_URL: must be a URL like"),
        ({"TASKPILOT_LOG_LEVEL": "loud"}, "TASKPILOT_LOG_LEVEL: must be one of"),
        ({"TASKPILOT_JOBS": "nowhere"}, "there is no folder"),
    ],
)
def test_a_variable_that_cannot_be_meant_is_78(good: TaskPilot, environment: Mapping[str, str], words: str) -> None:
    refused(good, good("run", "good", environment=environment), 78, words)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("a = [", "taskpilot.toml is not valid TOML"),
        ("modle = 'x'", "the key modle is not known\n  did you mean model?"),
        ("[budget]\nusd_per_day = 1", "budgets of a day or a deployment are not implemented"),
        ("api_token = 'x'", "set TASKPILOT_API_TOKEN in the environment or in .env"),
        ("[policy]\nfiles = ['gone.rego']", "gone.rego, which is not a file"),
        ("[policy]\nfiles = ['bad.rego']", "bad.rego"),
        ("[policy]\ndefault = false", "leaves no policy"),
        ("[notify.channels.ops]\nurl = 'nowhere'", "ops: must be a URL"),
    ],
)
def test_settings_that_cannot_be_meant_are_78(good: TaskPilot, settings: str, words: str) -> None:
    (good.root / "bad.rego").write_text("package taskpilot\n\nallow if {\n")
    good.settings(settings)
    refused(good, good("run", "good"), 78, words)


def test_a_broken_price_list_is_78(good: TaskPilot) -> None:
    (good.root / "prices.toml").write_text("[[models]]\nname = 3\n")
    refused(good, good("run", "good"), 78, "prices.toml")


class TestWithoutARoot:
    @pytest.mark.parametrize("arguments", [["run", "good"], ["run", "good", "--quiet"], ["jobs"], ["runs", "--json"]])
    def test_cron_in_an_empty_environment_is_told_to_name_it(self, good: TaskPilot, arguments: list[str]) -> None:
        done = subprocess.run(
            ["/usr/bin/env", "-i", sys.executable, "-m", "taskpilot", *arguments], cwd="/", capture_output=True, text=True, timeout=60
        )
        sentence = refused(good, Said(done.returncode, done.stdout, done.stderr, 0.0), 78, "no TaskPilot root in /", "--root", "init")
        assert ("good" in sentence) == ("run" in arguments)

    def test_the_same_with_the_root_named_runs(self, good: TaskPilot) -> None:
        line = ["/usr/bin/env", "-i", sys.executable, "-m", "taskpilot", "--root", str(good.root), "run", "good", "--quiet"]
        done = subprocess.run(line, cwd="/", capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert [run["status"] for run in good.rows("SELECT status FROM runs")] == ["succeeded"]
        assert not Path("/.taskpilot").exists()

    def test_a_root_that_is_no_folder_is_78(self, good: TaskPilot) -> None:
        refused(good, good("--root", "/nowhere", "run", "good"), 78, "--root /nowhere is not a folder")

    def test_a_folder_that_is_gone_is_78(self, good: TaskPilot, tmp_path: Path) -> None:
        gone = tmp_path / "gone"
        gone.mkdir()
        line = ["/bin/sh", "-c", 'rmdir "$0" && exec "$@"', str(gone), *good.line("run", "good")]
        done = subprocess.run(line, cwd=gone, capture_output=True, text=True, timeout=60, env=good.environment)
        refused(good, Said(done.returncode, done.stdout, done.stderr, 0.0), 78, "the current folder does not exist any more")


class TestWhatOthersCouldChange:
    @pytest.mark.parametrize("place", [".", "jobs", "taskpilot.toml", "jobs/good.py"])
    def test_a_place_that_everybody_can_write_to_is_78(self, good: TaskPilot, place: str) -> None:
        path = good.root / place
        path.chmod(path.stat().st_mode | 0o002)
        refused(good, good("run", "good"), 78, "can be changed by every user of this machine", "chmod o-w")

    @pytest.mark.parametrize("place", [".", "jobs", "taskpilot.toml", "jobs/good.py"])
    def test_a_place_of_another_user_is_78(self, good: TaskPilot, place: str) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can give a file away")
        os.chown(good.root / place, LOGIN_NOBODY, LOGIN_NOBODY)
        refused(good, good("run", "good"), 78, f"belongs to uid {LOGIN_NOBODY}", "chown")


def test_a_fire_that_was_refused_for_its_configuration_is_not_claimed(good: TaskPilot) -> None:
    when = ["--scheduled-for", "2026-11-02T08:00+00:00"]
    refused(good, good("run", "good", *when, "--model", "gpt-4o"), 78)
    good.job(GOOD.replace("number + 1", "number +"), name="good")
    refused(good, good("run", "good", *when), 78)
    good.job(GOOD, name="good")
    assert good("run", "good", *when, "--quiet").code == 0
    assert good("run", "good", *when, "--quiet").code == 11


def test_another_deployments_name_is_78(good: TaskPilot) -> None:
    assert good("run", "good", "--quiet", environment={"TASKPILOT_DEPLOYMENT": "nightly"}).code == 0
    said = good("run", "good", environment={"TASKPILOT_DEPLOYMENT": "daily"})
    assert (said.code, said.out) == (78, "")
    assert "belongs to deployment 'nightly', not 'daily'\n  unset TASKPILOT_DEPLOYMENT" in said.err
    assert len(good.rows("SELECT id FROM runs")) == 1


def test_skip_ok_turns_only_skips_into_success(good: TaskPilot) -> None:
    for arguments, code in ((["unknown"], 2), (["asks_gpt"], 78)):
        assert good("run", *arguments, "--skip-ok").code == code
    shutil.rmtree(good.root / "jobs")
    assert good("run", "good", "--skip-ok").code == 78
