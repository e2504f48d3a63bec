"""What a later attempt takes from the journal, and what a person may answer where it cannot tell."""

import itertools
import json
import random
import time
from collections import Counter
from signal import SIGKILL, SIGTERM

import pytest

from tests.acceptance.kills.books import Event, ask_steps, check_decided, check_run, check_totals, content_of, everything, unexplained
from tests.acceptance.kills.gated import DIVERGING, FOUR_EQUAL, ONE_CHARGE, Gated, ended, result_of
from tests.acceptance.kills.processes import children, eventually, send
from tests.acceptance.kills.storm import JOB, TASKS, brain
from tests.command import TaskPilot
from tests.servers.openai_answers import Answer, Body, text
from tests.servers.openai_server import OpenAIServer


def test_four_equal_prompts_are_not_asked_again_where_they_are_recorded(asking: TaskPilot, model_server: OpenAIServer) -> None:
    asking.environment["OPENAI_API_KEY"] = "a-test"
    job = Gated(asking, FOUR_EQUAL)
    numbers = itertools.count(1)

    def two_of_four(body: Body) -> Answer:
        number = next(numbers)
        return Answer(delay_seconds=60) if number in (1, 3) else text(f"answer {number}")

    model_server.handler = two_of_four
    with job.started() as command:
        query = "SELECT count(*) AS n FROM steps WHERE kind = 'ask' AND status = 'succeeded'"
        assert eventually(lambda: len(model_server.requests) == 4 and asking.rows(query)[0]["n"] == 2)
        model_server.handler = lambda body: text("late answer")
        for pid in children(command.pid):
            send(pid, SIGKILL)
        assert ended(command)[0] == 0
    result = json.loads(job.run()["result"])
    assert sorted(result) == ["answer 2", "answer 4", "late answer", "late answer"]
    assert len(model_server.requests) == 6
    offset = time.time_ns() // 1000 - int(time.monotonic() * 1_000_000)
    seen = [Event(content_of(one.body["messages"]), int(one.at * 1_000_000) + offset) for one in model_server.requests]
    assert unexplained(seen, ask_steps(asking)) == []
    assert Counter(step["status"] for step in job.steps("ask")) == {"succeeded": 4, "unknown": 2}
    assert job.attempts() == [("lost", "signal"), ("succeeded", "")]
    check_run(asking, job.run()["id"])
    check_totals(asking)


def test_an_executor_that_was_killed_after_its_filing_goes_on_with_its_other_calls(asking: TaskPilot, model_server: OpenAIServer) -> None:
    asking.environment["OPENAI_API_KEY"] = "a-test"
    asking.job(JOB, name="storm")
    rng = random.Random(1)
    killed: list[int] = []

    def kill_at_the_second_turn(body: Body) -> Answer:
        turns = sum(message["role"] == "tool" for message in body["messages"])
        if turns == 1 and not killed:
            killed.extend(children(command.pid))
            for pid in killed:
                send(pid, SIGKILL)
        return brain(body, rng)

    model_server.handler = kill_at_the_second_turn
    with asking.start("run", "storm", "--json") as command:
        out, _ = command.communicate(timeout=120)
    assert command.returncode == 0
    assert json.loads(out)["tasks"] == {"executed": TASKS}
    calls = asking.rows("SELECT name FROM steps WHERE kind = 'call' AND scope LIKE '/workflow%' AND status = 'succeeded'")
    assert Counter(row["name"] for row in calls) == {"create_task": TASKS, "charge": TASKS, "stamp": TASKS}
    assert asking.run()["attempts"] == 2
    check_run(asking, asking.run()["id"])


@pytest.mark.parametrize(
    ("answer", "code", "status", "effects"),
    [(("--done", '"receipt by hand"'), 0, "succeeded", 1), (("--again",), 0, "succeeded", 2), (("--fail",), 1, "failed", 1)],
)
def test_an_uncertain_call_waits_until_a_person_says_what_became_of_it(
    taskpilot: TaskPilot, answer: tuple[str, ...], code: int, status: str, effects: int
) -> None:
    job = Gated(taskpilot, ONE_CHARGE)
    job.open("before")
    with job.started() as command:
        job.wait_for("charged")
        for pid in children(command.pid):
            send(pid, SIGKILL)
        assert ended(command)[0] == 13
    assert job.standing() == ("waiting", "uncertain_step")
    assert job.attempts() == [("lost", "signal"), ("waiting", "uncertain_step")]
    job.open("after")
    assert job.resume().code == 13
    assert len(job.effects("charged")) == 1
    (step,) = job.steps()
    assert step["status"] == "unknown"
    shown = taskpilot("runs", "show", job.run()["id"])
    assert f"--step {step['id']}" in shown.out
    said = job.resume("--step", step["id"], *answer, "--json")
    assert (said.code, job.standing()[0]) == (code, status)
    assert len(job.effects("charged")) == effects
    expected = {"--done": "receipt by hand", "--again": "receipt 7", "--fail": None}[answer[0]]
    assert result_of(said) == expected
    check_run(taskpilot, job.run()["id"])
    check_totals(taskpilot, answered={step["id"]: "unknown"})
    check_decided(taskpilot)


@pytest.mark.parametrize(
    ("answer", "code", "status", "charged"),
    [
        (("--done", '"receipt by hand"'), 0, "succeeded", ["7"]),
        (("--again",), 0, "succeeded", ["7", "8"]),
        (("--fail",), 1, "failed", ["7"]),
    ],
)
def test_a_call_that_stands_where_another_is_recorded_is_not_made_until_a_person_says_so(
    taskpilot: TaskPilot, answer: tuple[str, ...], code: int, status: str, charged: list[str]
) -> None:
    job = Gated(taskpilot, DIVERGING)
    job.open("before", "after")
    with job.started() as command:
        job.wait_for("stamped")
        job.tell("order", "8")
        for pid in children(command.pid):
            send(pid, SIGKILL)
        assert ended(command)[0] == 13
    job.open("stamp")
    assert job.standing() == ("waiting", "diverged_step")
    assert [line["key"] for line in job.effects("charged")] == ["7"]
    (step,) = [step for step in job.steps() if step["status"] == "diverged"]
    assert job.resume().code == 13
    said = job.resume("--step", step["id"], *answer, "--json")
    assert (said.code, job.standing()[0]) == (code, status)
    assert [line["key"] for line in job.effects("charged")] == charged
    assert result_of(said) == {"--done": "receipt by hand", "--again": "receipt 8", "--fail": None}[answer[0]]
    check_run(taskpilot, job.run()["id"])
    check_totals(taskpilot, answered={step["id"]: "diverged"})
    check_decided(taskpilot, never_made=[step["id"]])


def test_a_step_of_a_run_that_succeeded_takes_no_answer(asking: TaskPilot, model_server: OpenAIServer) -> None:
    asking.environment["OPENAI_API_KEY"] = "a-test"
    job = Gated(asking, FOUR_EQUAL)
    model_server.handler = lambda body: Answer(delay_seconds=60)
    with job.started() as command:
        assert eventually(lambda: len(model_server.requests) == 4)
        send(command.pid, SIGKILL)
        command.wait(30)
    model_server.handler = lambda body: text("an answer")
    assert job.resume().code == 0
    unknown = next(step for step in job.steps("ask") if step["status"] == "unknown")
    before = everything(asking)
    assert job.resume("--step", unknown["id"], "--done", '"nonsense"').code == 2
    assert everything(asking) == before


def test_an_unknown_llm_call_of_a_run_that_may_go_on_takes_no_answer_either(asking: TaskPilot, model_server: OpenAIServer) -> None:
    asking.environment["OPENAI_API_KEY"] = "a-test"
    job = Gated(asking, FOUR_EQUAL)
    model_server.handler = lambda body: Answer(delay_seconds=60)
    with job.started() as command:
        assert eventually(lambda: len(model_server.requests) == 4)
        send(command.pid, SIGTERM)
        assert ended(command)[0] == 143
    unknown = job.steps("ask")[0]
    assert unknown["status"] == "unknown"
    said = job.resume("--step", unknown["id"], "--done", '"nonsense"')
    assert (said.code, len(job.attempts())) == (2, 1)
    assert "not a tool call" in said.err
