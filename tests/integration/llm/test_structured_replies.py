"""Structured replies from servers that know some ways of asking and refuse the others."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from taskpilot.domain.chat import ChatRequest, Message, OutputSchema, Role
from taskpilot.domain.errors import ModelRefused, ModelUnavailable
from taskpilot.domain.usage import Usage
from taskpilot.llm.openai_chat import OpenAIModel
from tests.servers import openai_answers as wire
from tests.servers.openai_server import OpenAIServer


def modes(server: OpenAIServer) -> list[str | None]:
    return [wire.mode_of(body) for body in server.bodies]


def test_a_server_that_knows_json_schema_is_asked_once(server: OpenAIServer, model: OpenAIModel, planning: ChatRequest) -> None:
    reply = model.chat(planning, seconds_left=30)
    assert json.loads(reply.content)["tasks"][0]["title"] == "Task 1: The printer is broken"
    assert (reply.usage, reply.retries, reply.tool_calls) == (Usage(1200, 1024, 30), (), ())
    (body,) = server.bodies
    shape = body["response_format"]["json_schema"]
    assert (shape["name"], shape["strict"]) == ("Plan", True)
    item = shape["schema"]["properties"]["tasks"]["items"]
    assert (item["additionalProperties"], item["required"]) == (False, ["title", "priority", "description"])


@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_server_that_refuses_json_schema_is_asked_by_a_forced_tool_and_remembered(
    status: int, server: OpenAIServer, model: OpenAIModel, planning: ChatRequest, clock: object
) -> None:
    server.supports, server.refuse_status = frozenset({"forced_tool", "prompt"}), status
    first = model.chat(planning, seconds_left=30)
    second = model.chat(planning, seconds_left=30)
    assert json.loads(first.content) == json.loads(second.content)
    assert first.finish_reason == "stop"
    assert ([retry.reason for retry in first.retries], second.retries) == (["unsupported"], ())
    assert modes(server) == ["json_schema", "forced_tool", "forced_tool"]


@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_server_that_knows_no_format_gets_the_schema_in_the_prompt(
    status: int, server: OpenAIServer, model: OpenAIModel, planning: ChatRequest
) -> None:
    server.supports, server.refuse_status = frozenset({"prompt"}), status
    first = model.chat(planning, seconds_left=30)
    model.chat(planning, seconds_left=30)
    assert "tasks" in json.loads(first.content)
    assert [retry.reason for retry in first.retries] == ["unsupported", "unsupported"]
    assert modes(server) == ["json_schema", "forced_tool", "prompt", "prompt"]
    messages = server.bodies[2]["messages"]
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[0]["content"].startswith("You plan.")


def test_eight_threads_find_out_only_once(server: OpenAIServer, model: OpenAIModel, planning: ChatRequest) -> None:
    server.supports, server.refuse_status = frozenset({"prompt"}), 500
    start = threading.Barrier(8)

    def ask(_: int) -> str:
        start.wait()
        return model.chat(planning, seconds_left=30).content

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    asked = modes(server)
    assert (asked.count("json_schema"), asked.count("forced_tool"), asked.count("prompt")) == (1, 1, 8)


def test_once_settled_the_threads_no_longer_wait_for_one_another(server: OpenAIServer, model: OpenAIModel, planning: ChatRequest) -> None:
    model.chat(planning, seconds_left=30)
    together = threading.Barrier(4)

    def meet(body: wire.Body) -> wire.Answer:
        together.wait(timeout=25)
        return wire.triage_brain(body)

    server.handler = meet
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(lambda _: model.chat(planning, seconds_left=30), range(4)))) == 4


def test_threads_that_waited_for_the_finder_then_go_on_together(server: OpenAIServer, model: OpenAIModel, planning: ChatRequest) -> None:
    entered = threading.Event()
    together = threading.Barrier(3)

    def meet(body: wire.Body) -> wire.Answer:
        if entered.is_set():
            together.wait(timeout=25)
            return wire.triage_brain(body)
        entered.set()
        return replace(wire.triage_brain(body), delay_seconds=0.5)

    server.handler = meet
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(model.chat, planning, seconds_left=30)
        assert entered.wait(timeout=60)
        others = [pool.submit(model.chat, planning, seconds_left=30) for _ in range(3)]
        assert [done.result().retries for done in (first, *others)] == [()] * 4


def test_a_fault_of_the_whole_server_settles_nothing(server: OpenAIServer, model: OpenAIModel, planning: ChatRequest) -> None:
    faults = iter([500, 500, 500])

    def recovering(body: wire.Body) -> wire.Answer:
        status = next(faults, None)
        return wire.error(status) if status else wire.triage_brain(body)

    server.handler = recovering
    reply = model.chat(planning, seconds_left=30)
    assert "tasks" in json.loads(reply.content)
    assert modes(server) == ["json_schema", "forced_tool", "prompt", "json_schema"]
    assert {retry.reason for retry in reply.retries} == {"server_error"}


def test_a_fault_after_an_answer_is_an_ordinary_fault(server: OpenAIServer, model: OpenAIModel, planning: ChatRequest) -> None:
    model.chat(planning, seconds_left=30)
    faults = iter([500])
    server.handler = lambda body: wire.error(500) if next(faults, None) else wire.triage_brain(body)
    assert [retry.reason for retry in model.chat(planning, seconds_left=30).retries] == ["server_error"]
    assert modes(server) == ["json_schema"] * 3


def test_a_schema_that_the_server_cannot_take_is_asked_otherwise_without_forgetting_what_works(
    server: OpenAIServer, model: OpenAIModel, planning: ChatRequest
) -> None:
    model.chat(planning, seconds_left=30)
    server.handler = lambda body: (
        wire.error(400, "schema too deep")
        if wire.wanted(body) == "Odd" and wire.mode_of(body) == "json_schema"
        else wire.triage_brain(body)
    )
    odd = replace(planning, output=OutputSchema("Odd", {"type": "object", "additionalProperties": {"type": "string"}}))
    assert model.chat(odd, seconds_left=30).content == "{}"
    model.chat(planning, seconds_left=30)
    assert modes(server) == ["json_schema", "json_schema", "forced_tool", "json_schema"]


def test_a_request_that_every_way_refuses_is_refused_with_the_servers_words(
    server: OpenAIServer, model: OpenAIModel, planning: ChatRequest
) -> None:
    server.handler = lambda _: wire.error(400, "the model is on holiday")
    with pytest.raises(ModelRefused, match="the model is on holiday"):
        model.chat(planning, seconds_left=30)
    assert len(server.requests) == 3


def test_a_server_that_ignores_the_format_is_asked_in_the_next_way_by_the_repair_turn(
    server: OpenAIServer, model: OpenAIModel, planning: ChatRequest
) -> None:
    server.handler = lambda body: (
        wire.text("Sure, I would fix the printer.") if wire.mode_of(body) == "json_schema" else wire.triage_brain(body)
    )
    assert model.chat(planning, seconds_left=30).content == "Sure, I would fix the printer."
    assert "tasks" in json.loads(model.chat(planning, seconds_left=30).content)
    assert modes(server) == ["json_schema", "forced_tool"]


def test_a_cut_reply_does_not_count_against_the_format(server: OpenAIServer, model: OpenAIModel, planning: ChatRequest) -> None:
    server.handler = lambda _: wire.text('{"tasks": [', finish_reason="length")
    for _ in range(2):
        reply = model.chat(planning, seconds_left=30)
        assert (reply.content, reply.finish_reason) == ('{"tasks": [', "length")
    assert modes(server) == ["json_schema", "json_schema"]


def test_a_reply_that_is_one_fenced_block_is_taken_out_of_it(server: OpenAIServer, model: OpenAIModel, planning: ChatRequest) -> None:
    server.handler = lambda _: wire.text('```json\n{"tasks": []}\n```\n')
    assert model.chat(planning, seconds_left=30).content == '{"tasks": []}'


def test_a_refusal_while_finding_out_sets_the_waiting_threads_free(server: OpenAIServer, model: OpenAIModel, planning: ChatRequest) -> None:
    server.handler = lambda _: wire.error(401)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(model.chat, planning, seconds_left=30) for _ in range(8)]
    assert all(isinstance(done.exception(), ModelRefused) for done in asked)
    server.handler = wire.triage_brain
    assert "tasks" in json.loads(model.chat(planning, seconds_left=30).content)


def test_a_slow_finder_is_not_waited_for_past_the_deadline(server: OpenAIServer, model: OpenAIModel, planning: ChatRequest) -> None:
    entered, released = threading.Event(), threading.Event()

    def slow(body: wire.Body) -> wire.Answer:
        if not entered.is_set():
            entered.set()
            released.wait(25)
        return wire.triage_brain(body)

    server.handler = slow
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(model.chat, planning, seconds_left=30)
        assert entered.wait(timeout=60)
        assert "tasks" in json.loads(model.chat(planning, seconds_left=3).content)
        assert not first.done()
        released.set()
        assert "tasks" in json.loads(first.result().content)


def test_without_a_system_message_the_schema_becomes_one(server: OpenAIServer, model: OpenAIModel, planning: ChatRequest) -> None:
    server.supports = frozenset({"prompt"})
    model.chat(replace(planning, messages=(Message(Role.USER, "plan this"),)), seconds_left=30)
    assert [message["role"] for message in server.bodies[-1]["messages"]] == ["system", "user"]


def test_the_deadline_holds_while_the_ways_are_tried(server: OpenAIServer, model: OpenAIModel, planning: ChatRequest) -> None:
    server.handler = lambda _: wire.error(503, headers=[("Retry-After", "40")])
    with pytest.raises(ModelUnavailable, match="deadline"):
        model.chat(planning, seconds_left=30)
    assert modes(server) == ["json_schema"]
