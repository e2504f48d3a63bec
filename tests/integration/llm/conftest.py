"""A local server, and models that talk to it without really waiting between tries."""

from collections.abc import Callable, Iterator

import pytest

from taskpilot.domain.chat import ChatRequest, Message, OutputSchema, Role, ToolSchema
from taskpilot.llm.openai_chat import OpenAIModel
from tests.servers.openai_server import OpenAIServer

PLAN_SCHEMA = {
    "type": "object",
    "properties": {
        "tasks": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "title": {"type": "string", "maxLength": 500},
                    "priority": {"enum": ["high", "medium", "low"]},
                    "description": {"type": "string", "default": ""},
                },
                "required": ["title", "priority"],
            },
        }
    },
    "required": ["tasks"],
}


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def model_at(clock: Time) -> Iterator[Callable[..., OpenAIModel]]:
    made: list[OpenAIModel] = []

    def make(
        url: str,
        *,
        name: str = "gpt-4o",
        api_key: str | None = "sk-secret-key",
        attempt_seconds: float = 10.0,
        proxy: str | None = None,
    ) -> OpenAIModel:
        made.append(
            OpenAIModel(
                name,
                api_key=api_key,
                base_url=url,
                attempt_seconds=attempt_seconds,
                proxy=proxy,
                sleep=clock.sleep,
                monotonic=clock.monotonic,
                jitter=lambda: 1.0,
            )
        )
        return made[-1]

    yield make
    for model in made:
        model.close()


@pytest.fixture
def model(server: OpenAIServer, model_at: Callable[..., OpenAIModel]) -> OpenAIModel:
    return model_at(server.url)


@pytest.fixture
def question() -> ChatRequest:
    return ChatRequest(agent="assistant", messages=(Message(Role.SYSTEM, "You help."), Message(Role.USER, "Hello?")))


@pytest.fixture
def planning() -> ChatRequest:
    return ChatRequest(
        agent="planner",
        messages=(Message(Role.SYSTEM, "You plan."), Message(Role.USER, "The printer is broken")),
        output=OutputSchema("Plan", PLAN_SCHEMA),
    )


@pytest.fixture
def executing() -> ChatRequest:
    return ChatRequest(
        agent="executor",
        messages=(Message(Role.SYSTEM, "You work."), Message(Role.USER, '{"task": {"title": "Fix the printer", "priority": "high"}}')),
        tools=(
            ToolSchema(
                "create_task", "Files a task.", {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
            ),
        ),
    )
