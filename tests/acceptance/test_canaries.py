"""Secrets that everything of a job says back, and every place where people and machines read what was said."""

import json
from base64 import b64encode
from collections.abc import Iterator
from itertools import cycle
from typing import Any, Final

import pytest

from tests.command import TaskPilot
from tests.servers.bad_gateway import answering
from tests.servers.openai_answers import error
from tests.servers.openai_server import OpenAIServer

CANARIES: Final = {
    "OPENAI_API_KEY": "canary-key-5f2d9b7a",
    "TASKPILOT_API_TOKEN": "canary-token-0c3e8d6f",
    "base URL": "canary-base-91ab44e2",
    "gateway": "canary-gateway-7d10c5f3",
    "collector": "canary-collector-2ee8b6a9",
    "collector query": "canary-query-66b0d1e4",
    "webhook path": "canary-path-c4f7131d",
    "webhook header": "canary-header-ae90d257",
    "gateway header": b64encode(b"user:canary-gateway-7d10c5f3").decode(),
    "looks like a key": "sk-proj-Zx81QmLv7TnR4cWb2Kd9",
    "of GitHub": "ghp_7Tq0ZxV4mR2bKc9YwLs1NfGh5JdPe8UaXo3D",
    "of AWS": "AKIAQ7ZX4MLV2TNR9CWB",
    "JWT": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlLWNhbmFyeQ",
    "bearer": "canaryBearer8Hs7Kq2Lm5",
}
SAID: Final = " ".join(value for name, value in CANARIES.items() if name != "bearer") + f" Authorization: Bearer {CANARIES['bearer']}"
"""What a careless program would print of all that it knows."""
JOBS: Final = f'''
import logging
import subprocess
import sys

from taskpilot import RunContext, job, tool

SAID = {SAID!r}


@tool(idempotent=True)
def leaks() -> str:
    """Fails loudly."""
    raise RuntimeError("the tool says " + SAID)


def fails() -> str:
    raise RuntimeError("the step says " + SAID)


@job(tools=[leaks], model="gpt-4o-mini")
def careless(ctx: RunContext, end: str = "raise") -> str:
    """Says everything everywhere."""
    print("printed " + SAID)
    subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write('a child says ' + sys.argv[1] + chr(10))", SAID])
    ctx.log.warning("logged " + SAID, header=SAID, password="hunter2!")
    logging.getLogger("a.library").error("a library says %s", SAID)
    for attempt in (lambda: ctx.step("named " + SAID, str), lambda: ctx.ask("agent " + SAID, "hello"),
                    lambda: ctx.step("fails", fails), lambda: ctx.call(leaks), lambda: ctx.ask("planner", "hello"),
                    lambda: ctx.call("notify", channel="team", message="hello")):
        try:
            attempt()
        except Exception as error:
            print(error)
    if end == "raise":
        raise RuntimeError("the job says " + SAID)
    return "the result is " + SAID.partition(" sk-")[0]
'''


@pytest.fixture
def careless(taskpilot: TaskPilot) -> Iterator[TaskPilot]:
    statuses = cycle([401, 400])
    with (
        OpenAIServer(lambda _body: error(next(statuses), f"Incorrect API key provided: {SAID}")) as server,
        answering(401, f"not you: {SAID}".encode()) as gateway,
    ):
        host = server.url.partition("://")[2]
        taskpilot.environment |= {
            "OPENAI_API_KEY": CANARIES["OPENAI_API_KEY"],
            "TASKPILOT_API_TOKEN": CANARIES["TASKPILOT_API_TOKEN"],
            "OPENAI_BASE_URL": f"http://user:{CANARIES['base URL']}@{host}",
            "TASKPILOT_PUSHGATEWAY_URL": f"http://user:{CANARIES['gateway']}@127.0.0.1:{gateway.port}",
            "OTEL_ENABLED": "true",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:9/v1/traces?token={CANARIES['collector query']}",
            "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={CANARIES['collector']}",
        }
        taskpilot.settings(f"""[notify.channels.team]
url = "http://127.0.0.1:9/{CANARIES["webhook path"]}"
headers = {{ Authorization = "Bearer {CANARIES["webhook header"]}" }}
""")
        taskpilot.job(JOBS)
        yield taskpilot


def leaked(text: str) -> list[str]:
    return [name for name, value in CANARIES.items() if value in text]


def record(taskpilot: TaskPilot) -> str:
    """What the store says of ends: of runs, attempts and steps."""
    found: list[Any] = taskpilot.rows("SELECT reason_facts, result FROM runs")
    found += taskpilot.rows("SELECT reason_facts FROM attempts")
    found += taskpilot.rows("SELECT error, error_type, name, scope FROM steps")
    found += taskpilot.rows("SELECT push_error FROM job_state")
    return json.dumps(found)


def files(taskpilot: TaskPilot) -> dict[str, str]:
    """Every file of the state dir but the store and what the processes themselves wrote into their output."""
    left_out = ("taskpilot.db", "output.log")
    found = {path for path in taskpilot.state_dir.rglob("*") if path.is_file() and not path.name.startswith(left_out)}
    return {str(path.relative_to(taskpilot.state_dir)): path.read_text(errors="replace") for path in found}


@pytest.mark.parametrize("end", ["raise", "return"])
def test_no_secret_is_in_a_log_a_span_a_metric_a_decision_a_result_or_an_error(careless: TaskPilot, end: str) -> None:
    said = careless("run", "careless", "-p", f"end={end}", "--json")
    assert said.code == (1 if end == "raise" else 0), said.err
    run_id = said.json["run_id"]
    pages = [
        said,
        careless("runs", "show", run_id),
        careless("runs", "show", run_id, "--json"),
        careless("runs", "logs", run_id),
        careless("runs", "logs", run_id, "--output"),
        careless("runs", "list", "--json"),
        careless("decisions", "list", "--json"),
        careless("metrics", "show"),
    ]
    assert [(leaked(page.out), leaked(page.err), page.code) for page in pages[1:]] == [([], [], 0)] * 7
    if end == "raise":
        others = [careless("metrics", "push"), careless("health"), careless("doctor"), careless("traces", "replay")]
        assert [(leaked(page.out), leaked(page.err)) for page in others] == [([], [])] * 4
    assert leaked(said.out + said.err) == []
    written = files(careless)
    assert {"logs/taskpilot.log", "traces.jsonl", "decision_logs.jsonl", "metrics.json", f"runs/{run_id}/run.log"} <= set(written)
    assert {name: leaked(text) for name, text in written.items() if leaked(text)} == {}
    assert leaked(record(careless)) == []
    assert "hunter2!" not in written["logs/taskpilot.log"]


def test_what_was_said_is_there_but_for_its_secrets(careless: TaskPilot) -> None:
    """Or else the test above could pass over an empty log."""
    run_id = careless("run", "careless", "--json").json["run_id"]
    lines = [json.loads(line) for line in files(careless)["logs/taskpilot.log"].splitlines()]
    messages = [line["message"] for line in lines]
    for beginning in (
        "printed ***",
        "a child says ***",
        "logged ***",
        "a library says ***",
        "leaks: the tool leaks failed: RuntimeError: the tool",
    ):
        assert any(message.startswith(beginning) for message in messages), beginning
    assert {line["taskpilot.run.id"] for line in lines} == {run_id}
    assert {line["trace.id"] for line in lines} == {careless.run()["trace_id"]}
    ends = careless.rows("SELECT error FROM steps WHERE error IS NOT NULL")
    assert [row["error"][:18] for row in ends if "says" in row["error"]] == ["the step says *** ", "the tool leaks fai"]
    output = (careless.state_dir / "runs" / run_id / "output.log").read_text()
    assert set(leaked(output)) == set(CANARIES)


@pytest.mark.parametrize("arguments", [["run", "careless", "--quiet"], ["--log-level", "debug", "run", "careless", "--quiet"]])
def test_the_line_that_cron_mails_has_no_secret(careless: TaskPilot, arguments: list[str]) -> None:
    said = careless(*arguments)
    assert (said.code, said.out) == (1, "")
    assert "careless" in said.err
    assert "the job says ***" in said.err
    assert leaked(said.err) == []


def test_a_job_file_that_breaks_with_a_secret_in_its_words_says_none(careless: TaskPilot) -> None:
    careless.job(f"raise RuntimeError({SAID!r})")
    said = [careless("run", "careless", "--quiet"), careless("jobs", "list"), careless("jobs", "validate")]
    assert [page.code for page in said] == [2, 0, 78]
    assert [leaked(page.out + page.err) for page in said] == [[], [], []]
