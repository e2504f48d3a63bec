"""Models, requests and tools that write terminal escapes, markup, line ends and bidi: harmless wherever anybody reads it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.command import Said, TaskPilot
from tests.servers.openai_answers import Answer, Body, last_user, structured, text, tool_calls, wanted
from tests.servers.openai_server import OpenAIServer
from tests.servers.pushgateway import Pushgateway, pushgateway

NASTY = (
    "\x1b]0;owned\x07\x1b[31mred\x1b[2J [link=https://evil.example]click[/link] [/foo] [bold red]loud "
    "\u202egnp.exe\u2066 \x9b2J \u200bzero\u2028line\r\nsucceeded  executed\n\x00end\x7f {braces} <b>%s</b> \\x"
)
ARGUED = NASTY.replace("\x00", "")
"""What a tool is called with: a NUL in there is denied by policy, whatever else it says."""
LOUD = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
DRAWN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What rich itself sends where it draws over a line: moves and erasures, numbers only."""

JOB = f'''
from taskpilot import RunContext, job, tool

NASTY = {NASTY!r}


@tool(idempotent=True)
def echo(text: str) -> str:
    """Echo."""
    if "fail" in text:
        raise RuntimeError(text)
    return text + "\\0"


@job(model="gpt-4o-mini", tools=[echo])
def nasty(ctx: RunContext) -> str:
    """Everything that is said here is hostile."""
    ctx.log.info(NASTY, detail=NASTY)
    print(NASTY)
    results = ctx.map(ctx.workflow, [f"{{word}} {{NASTY}}" for word in ("file", "call", "reject", "sensitive", "look")], concurrency=4)
    return f"{{len(results)}} {{NASTY}}"


@job(model="gpt-4o-mini")
def asks(ctx: RunContext) -> dict[str, str]:
    """An agent with a name that nobody should have."""
    return {{NASTY: ctx.ask(NASTY, "Say something.")}}


@job(model="gpt-4o-mini")
def fails(ctx: RunContext) -> None:
    """An error that says too much."""
    raise RuntimeError(NASTY)
'''


POLICY = """package taskpilot.tools

require_approval contains sprintf("sensitive: %s", [input.arguments.title]) if startswith(input.arguments.title, "sensitive")
"""


def hostile(body: Body) -> Answer:
    name = wanted(body)
    asked = last_user(body)
    if name == "Plan":
        word = asked.split()[0]
        priority = "high" if word == "sensitive" else "low"
        return structured(body, {"tasks": [{"title": f"{word} {ARGUED}", "priority": priority, "description": NASTY}]})
    if name == "Review":
        title = json.loads(asked)["task"]["title"]
        verdict = "REJECTED" if title.startswith("reject") else "REVIEW" if title.startswith("look") else "APPROVE"
        return structured(body, {"verdict": verdict, "reason": NASTY})
    if not body.get("tools") or body["messages"][-1]["role"] == "tool":
        return text(NASTY)
    title = json.loads(asked)["task"]["title"]
    if title.startswith("call"):
        return tool_calls(
            ("echo", {"text": ARGUED}),
            ("echo", {"text": f"fail {ARGUED}"}),
            ("echo", {"text": NASTY}),
            (NASTY, {}),
            ("notify", {"channel": ARGUED, "message": ARGUED}),
        )
    return tool_calls(("create_task", {"title": title, "priority": "high", "description": ARGUED}))


@dataclass(frozen=True)
class Told:
    """The command after three hostile runs, and what the first of them printed."""

    command: TaskPilot
    gateway: Pushgateway
    first: Said
    run_id: str

    def pages(self) -> list[list[str]]:
        """Every command that shows what was said."""
        tasks = [row["id"] for row in self.command.rows("SELECT id FROM tasks")]
        decisions = [row["id"] for row in self.command.rows("SELECT id FROM decisions")]
        return [
            ["runs", "list"],
            ["runs", "show", self.run_id],
            ["runs", "logs", self.run_id],
            ["runs", "logs", self.run_id, "--output"],
            ["tasks", "list"],
            ["tasks", "show", tasks[0]],
            ["decisions", "list"],
            ["decisions", "show", decisions[0]],
            ["traces", "show", self.run_id],
        ]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("untrusted")
    root, home = folder / "root", folder / "home"
    (root / "jobs").mkdir(parents=True)
    home.mkdir()
    (root / "taskpilot.toml").write_text('[policy]\nfiles = ["ours.rego"]\n')
    (root / "ours.rego").write_text(POLICY)
    with OpenAIServer(hostile) as server, pushgateway(folder) as gateway:
        command = TaskPilot(root, home, OPENAI_BASE_URL=server.url, TASKPILOT_PUSHGATEWAY_URL=gateway.url)
        command.job(JOB)
        first = command("run", "nasty")
        yield Told(command, gateway, first, command.run()["id"])


def assert_harmless(text: str) -> None:
    found = LOUD.search(text)
    assert found is None, f"{found.group()!r} in {text[max(0, found.start() - 200) : found.end() + 50]!r}"


def test_the_hostile_run_parks_and_shows_nothing_raw(told: Told) -> None:
    assert told.first.code == 13
    states = {row["status"]: row["n"] for row in told.command.rows("SELECT status, count(*) AS n FROM tasks GROUP BY status")}
    assert states == {"executed": 2, "rejected": 1, "review": 1, "approved": 1}
    assert_harmless(told.first.out)
    assert_harmless(told.first.err)
    # A title with a line end in it makes no row of its own.
    assert not any(line.startswith("succeeded ") for line in told.first.out.splitlines())


def test_every_page_in_a_pipe_is_harmless(told: Told) -> None:
    for page in told.pages():
        said = told.command(*page)
        assert (said.code, said.err) == (0, ""), page
        assert "owned" in said.out or page[0] == "traces" or page == ["runs", "list"], page
        assert_harmless(said.out)


def test_every_json_is_whole_and_in_ascii(told: Told) -> None:
    for page in told.pages():
        said = told.command(*page, "--json")
        assert said.code == 0, page
        json.loads(said.out)
        assert said.out.isascii()
        assert_harmless(said.out)


def test_every_page_on_a_terminal_gets_no_sequence_but_colours(told: Told) -> None:
    for page in told.pages():
        said = told.command.on_terminal(*page, columns=100)
        assert said.code == 0, said.out
        assert_harmless(COLOUR.sub("", said.out))
        if page[:2] in (["tasks", "list"], ["runs", "show"]):
            # Markup is text: nothing of it was taken for a style, nothing was lost.
            assert "[link=" in "".join(COLOUR.sub("", said.out).split())


@pytest.mark.parametrize(("job", "code"), [("nasty", 13), ("fails", 1), ("asks", 0)])
def test_a_live_run_on_a_terminal_draws_only_its_own_lines(job: str, code: int, told: Told) -> None:
    said = told.command.on_terminal("run", job, columns=100)
    assert said.code == code, said.out
    assert "\x1b[31mred" not in said.out
    assert "\x1b]0" not in said.out
    assert_harmless(DRAWN.sub("", said.out).replace("\r", ""))


@pytest.mark.parametrize(("job", "code"), [("fails", 1), ("asks", 0)])
def test_results_and_errors_in_a_pipe_are_harmless(job: str, code: int, told: Told) -> None:
    said = told.command("run", job)
    assert said.code == code
    assert "owned" in said.out
    assert_harmless(said.out + said.err)
    quiet = told.command("run", job, "--quiet")
    assert quiet.err.count("\n") == (1 if code else 0)
    assert_harmless(quiet.err)
    summary = told.command("run", job, "--json")
    assert summary.out.isascii()
    assert summary.out.count("\n") == 1
    if job == "asks":
        assert summary.json["result"] == {NASTY: NASTY}


def test_answers_of_a_person_show_it_harmless_and_the_run_goes_on(told: Told) -> None:
    command = told.command
    run_id = command("run", "nasty", "--json").json["run_id"]
    (task,) = command.rows("SELECT id FROM tasks WHERE run_id = ? AND status = 'review'", run_id)
    (decision,) = command.rows("SELECT id FROM decisions WHERE run_id = ? AND status = 'pending'", run_id)
    for said in (
        command("tasks", "approve", task["id"], "--note", ARGUED),
        command("decisions", "reject", decision["id"], "--note", ARGUED),
        command("runs", "resume", run_id),
        command("tasks", "show", task["id"]),
        command("decisions", "show", decision["id"]),
    ):
        assert said.code == 0, said
        assert_harmless(said.out + said.err)


def test_every_line_of_every_file_is_one_whole_json(told: Told) -> None:
    state: Path = told.command.state_dir
    for path in (state / "decision_logs.jsonl", state / "traces.jsonl", *state.glob("logs/*.log"), *state.glob("runs/*/run.log")):
        lines = path.read_bytes().split(b"\n")
        assert lines.pop() == b""
        assert lines, path
        for line in lines:
            json.loads(line)
            assert_harmless(line.decode())
    json.loads((state / "metrics.json").read_text())
    exported = told.command("tasks", "export")
    assert exported.code == 0, exported.err
    assert_harmless(exported.out)
    json.loads((state / ".tasks.json").read_text())


def test_names_that_nobody_should_have_are_labels_that_the_gateway_takes(told: Told) -> None:
    assert told.command("run", "asks", "--quiet").code == 0
    pushed = told.command("metrics", "push")
    assert pushed.code == 0, pushed.err
    assert_harmless(pushed.out)
    shown = told.command("metrics", "show")
    assert_harmless(shown.out)
    assert told.gateway.value("taskpilot_runs_total", job_name="asks", status="succeeded")
