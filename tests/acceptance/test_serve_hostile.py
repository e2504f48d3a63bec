"""Under one server: jobs that hang, fork, crash and shout. Each has the right word in the record, and nobody else is harmed."""

from collections.abc import Iterator

import pytest

from tests.acceptance.hostile import JOBS
from tests.acceptance.serving.server import Server, attempts_of, ended, fires_of, new_root, runs_of, serving, soon, wait
from tests.command import TaskPilot

EXPECTED = {
    "hangs_in_c": ("timed_out", "deadline", "deadline_seconds"),
    "ignores_sigterm": ("timed_out", "deadline", "deadline_seconds"),
    "leaves_a_tree": ("succeeded", "", ""),
    "forks": ("succeeded", "", ""),
    "ends_at_once": ("failed", "exited", "exit_status"),
    "says_goodbye": ("failed", "exception", "SystemExit"),
    "segfaults": ("lost", "signal", "SIGSEGV"),
    "kills_itself": ("lost", "signal", "SIGKILL"),
    "stops_its_supervisor": ("lost", "sigterm", "SIGTERM"),
    "prints_binary": ("succeeded", "", ""),
    "prints_much": ("succeeded", "", ""),
    "leaks_threads": ("succeeded", "", ""),
    "closes_its_streams": ("succeeded", "", ""),
    "breaks_its_streams": ("failed", "exception", "closed file"),
}
PUNCTUAL = """
from taskpilot import RunContext, every, job


@job(schedule=every("2s"), overlap="allow_all")
def beats(ctx: RunContext) -> None: ...
"""
UNSTARTABLE = """
from taskpilot import RunContext, at, job


@job(schedule=SCHEDULE)
def wants_a_word(ctx: RunContext, word: str) -> str:
    return word
"""


def hostile(when: str) -> str:
    """The jobs of the table, all due at one moment."""
    imports, *blocks = JOBS.split("\n\n\n")
    kept = [block for block in blocks if "@job" not in block or any(f"def {name}(" in block for name in EXPECTED)]
    text = "\n\n\n".join([imports.replace("import InputFile", "import at, InputFile"), *kept])
    text = text.replace("@job(", f"@job(schedule={when}, ").replace("@job\n", f"@job(schedule={when})\n")
    return text.replace("status: int)", "status: int = 3)").replace("code: str)", 'code: str = "3")')


class Stormed:
    """The server after all of them, and its two processes before."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.taskpilot: TaskPilot = server.taskpilot
        self.before = (server.pid, server.fork_server)
        self.taskpilot.job(PUNCTUAL, name="beats")
        server.reload()
        wait(lambda: len(runs_of(self.taskpilot, "beats")) >= 2, server.said)
        when = soon(6)
        self.taskpilot.job(hostile(when), name="hostile")
        self.taskpilot.job(UNSTARTABLE.replace("SCHEDULE", when), name="unstartable")
        server.reload()
        wait(lambda: all(ended(self.taskpilot, name) for name in EXPECTED), self.standing, seconds=90)
        # The store may be busy for more than a command waits, with fourteen jobs at once on a busy machine.
        wait(lambda: self.taskpilot("jobs", "pause", "beats").code == 0, server.said)
        going_on = "SELECT 1 FROM runs WHERE status = 'running' UNION SELECT 1 FROM fires WHERE outcome = 'buffered'"
        wait(lambda: not self.taskpilot.rows(going_on), server.said)

    def standing(self) -> object:
        return [
            (run["job"], run["status"], run["reason_facts"]) for run in self.taskpilot.rows("SELECT job, status, reason_facts FROM runs")
        ]


@pytest.fixture(scope="module")
def stormed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stormed]:
    with serving(new_root(tmp_path_factory.mktemp("hostile")), TASKPILOT_MAX_CONCURRENT_RUNS="20") as server:
        yield Stormed(server)


@pytest.mark.parametrize("name", EXPECTED)
def test_each_ends_as_the_table_says(stormed: Stormed, name: str) -> None:
    status, reason, detail = EXPECTED[name]
    [run] = runs_of(stormed.taskpilot, name)
    assert (run["status"], run["reason_code"]) == (status, reason)
    assert detail in run["reason_facts"]
    assert attempts_of(stormed.taskpilot, name) == [(status, reason)]
    assert [fire["outcome"] for fire in fires_of(stormed.taskpilot, name)] == ["started"]


def test_none_leaves_a_process(stormed: Stormed) -> None:
    server = stormed.server
    grown = sum(len(file.read_text().split()) for file in stormed.taskpilot.root.glob("notes-*"))
    assert grown == 9
    wait(lambda: set(server.marked()) == {server.pid, server.fork_server, *server.loaders}, server.marked, seconds=10)


def test_the_server_is_unharmed_and_prints_nothing_but_their_ends(stormed: Stormed) -> None:
    server = stormed.server
    assert (server.pid, server.fork_server) == stormed.before
    row = server.row()
    assert (row["state"], row["error"]) == ("running", None)
    # The first line says that it runs, one how to log in, the others how runs started and ended.
    said = [line for line in server.said().splitlines()[1:] if "/login?code=" not in line]
    assert {line.split()[1] for line in said} <= {*EXPECTED, "beats", "wants_a_word", "and"}, said


def test_other_runs_start_on_time_all_the_while(stormed: Stormed) -> None:
    beats = fires_of(stormed.taskpilot, "beats")
    assert {fire["outcome"] for fire in beats} <= {"started", "paused"}
    runs = runs_of(stormed.taskpilot, "beats")
    late = sorted((run["started_at"] - run["scheduled_for"]) / 1_000_000 for run in runs)
    assert len(runs) >= 5
    assert {run["status"] for run in runs} == {"succeeded"}
    # Fourteen jobs at once have two cores among them, and one of them spins.
    assert late[len(late) // 2] < 3, late
    assert late[-1] < 20, late


def test_a_job_that_cannot_start_without_a_parameter_blocks_its_fire(stormed: Stormed) -> None:
    [fire] = fires_of(stormed.taskpilot, "wants_a_word")
    assert fire["outcome"] == "blocked_config"
    assert "word" in fire["reason_facts"]
    assert runs_of(stormed.taskpilot, "wants_a_word") == []
