"""What README and docs tell to type is typed: blocks of commands that need no server run in a root, and shown output is what comes out."""

import re
import shlex
from pathlib import Path

import pytest

from taskpilot.cli.program import main
from tests.command import Said, TaskPilot
from tests.typed_commands import typed_in
from tests.unit.docs.pages import blocks

JOBS = '''
from taskpilot import Budget, RunContext, cron, job


@job(schedule=cron("0 7 * * mon-fri", timezone="Europe/Berlin"))
def report(ctx: RunContext) -> str:
    """Write the report."""
    return "written"


@job
def tickets(ctx: RunContext) -> str:
    """Turn a request into tasks."""
    ctx.workflow("Refund 2,000 EUR to customer 4711")
    return "1 request handled"


@job(budget=Budget(llm_calls=1), model="offline")
def spends(ctx: RunContext) -> str:
    """Ask once more than it may."""
    return ctx.ask("writer", "one") + ctx.ask("writer", "two")


@job
def fails(ctx: RunContext) -> str:
    """Raise."""
    raise RuntimeError("no route to tracker")


@job
def tells(ctx: RunContext) -> str:
    """Send a message that the default rules deny."""
    return str(ctx.call("notify", channel="ops", message="delete it"))
'''
pytestmark = pytest.mark.timeout(900)
NAMES = {"JOB": "fails", "RUN": "tickets:last", "triage": "report", "tidy_up": "report", "night_shift": "report", "hello": "report"}
SERVERS = {"serve", "metrics push", "traces replay", "doctor --stack", "export"}
ANSWERS = {"approve", "reject", "resume", "cancel", "feedback", "upgrade", "restore", "init"}
"""They change what the others read; the test of the README and others type them."""
CHANGING = re.compile(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\b[0-9a-f]{8}\b|\d{4}-\d\d-\d\d[T ]\d\d:\d\d[\d:.Z]*|\d{8}T\d+Z?|\d+\.\d+s|\d+")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> TaskPilot:
    """A root in which each of the jobs ran once."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "root" / "jobs").mkdir(parents=True)
    (folder / "home").mkdir()
    made = TaskPilot(folder / "root", folder / "home")
    made.settings("")
    made.job(JOBS, name="fails")
    for job, code in (("report", 0), ("tickets", 13), ("spends", 12), ("fails", 1), ("tells", 14)):
        assert made("run", job, "--model", "offline").code == code
    return made


def runnable(words: list[str]) -> bool:
    line = shlex.join(words)
    ids = re.search(r"\b(TASK|DECISION|GRANT|ID)\b", line)
    return not any(line.startswith(one) for one in SERVERS) and not ANSWERS & set(words) and not ids


TYPED = sorted(
    {
        tuple(NAMES.get(word, word.replace("JOB:", "fails:")) for word in words)
        for block in blocks("sh")
        for words in typed_in(block.text)
        if runnable(words)
    }
)


def test_what_the_blocks_tell_to_type_can_be_typed(
    shell: TaskPilot, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shell.root)
    for name, value in shell.environment.items():
        monkeypatch.setenv(name, value)
    assert len(TYPED) > 20
    for words in TYPED:
        # A run needs processes of its own; the others are read in this one, which takes a tenth of the time.
        code = shell(*words).code if words[0] == "run" else main(words)
        said = capfd.readouterr()
        # 1: something needs a person. A run of a model that nobody can reach here is refused.
        assert code in ({0, 1} if words[0] != "run" else {0, 78}), (words, said)
        assert "Traceback" not in said.err, words
        if words[:2] == ("jobs", "pause"):
            assert main(["jobs", "resume", words[2]]) == 0


SHOWN = [block for block in blocks("console") if "taskpilot why" not in block.text]


@pytest.mark.parametrize("block", SHOWN, ids=str)
def test_what_is_shown_as_output_is_the_output(shell: TaskPilot, block: object, tmp_path: Path) -> None:
    command, *expected = str(getattr(block, "text", "")).removeprefix("$ taskpilot ").splitlines()
    # The places of the page are others than ours.
    backup = tmp_path / "night.db"
    said = typed(shell, command.replace("/var/backups/night.db", str(backup)), backup)
    printed = {same(line) for line in (said.out + said.err).splitlines()}
    missing = [line for line in expected if same(line) not in printed]
    assert missing == [], said


def typed(shell: TaskPilot, line: str, backup: Path) -> Said:
    """The command, in the state that its output speaks of."""
    words = ["tells:last" if word == "last" else word for word in shlex.split(line)]
    if words[:2] == ["db", "restore"]:
        assert shell("db", "backup", str(backup)).code == 0
    if words == ["metrics", "push"]:
        return shell(*words, environment={"TASKPILOT_PUSHGATEWAY_URL": "http://127.0.0.1:9"})
    if words == ["runs"]:
        database = shell.state_dir / "taskpilot.db"
        kept = database.read_bytes()
        database.write_bytes(b"no database" * 1_000)
        try:
            return shell(*words)
        finally:
            database.write_bytes(kept)
    return shell(*words)


def same(line: str) -> str:
    """Without what differs each time: ids, times, numbers, folders."""
    return CHANGING.sub("#", re.sub(r"(?:https?:/)?(?:/[\w.-]+)+", "/", line)).strip()
