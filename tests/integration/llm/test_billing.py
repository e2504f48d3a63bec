"""A server that breaks its answers or lies about them bills at most the budget and the calls in flight, and all of it is recorded."""

import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taskpilot import Budget, RunContext, job
from taskpilot.domain.usage import Usage
from taskpilot.llm.openai_chat import OpenAIModel
from taskpilot.llm.prices import Prices
from tests.servers.openai_answers import Answer, Body, Tokens, disconnect, error, hang, raw, text
from tests.servers.openai_server import OpenAIServer
from tests.spine import NOON, Spine

MODEL = "gpt-4o-mini"
CALLS = int(os.environ.get("TASKPILOT_TEST_CALLS", "12"))
AT_ONCE = CALLS // 2


def usage_of(**usage: Any) -> Callable[[Body], Answer]:
    """An answer whose usage is exactly this."""

    def answer(body: Body) -> Answer:
        whole = json.loads(text("fine").body)
        return replace(text("fine"), body=json.dumps({**whole, "usage": usage}).encode())

    return answer


WAYS: dict[str, Callable[[Body], Answer]] = {
    "closes before the answer": lambda _body: disconnect("before"),
    "resets the connection": lambda _body: disconnect("reset"),
    "cuts the answer": lambda body: replace(text("half of it"), disconnect="amid"),
    "answers no JSON": lambda _body: raw(b"{not json"),
    "answers a page": lambda _body: raw(b"<html>busy</html>"),
    "answers nothing": lambda _body: raw(b""),
    "fails behind a gateway": lambda _body: error(502),
    "is too slow for its gateway": lambda _body: error(504),
    "never answers": lambda _body: hang(),
    "reports no usage": lambda _body: text("fine", tokens=None),
    "reports zeros": lambda _body: text("fine", tokens=Tokens(0, 0, 0)),
    "reports ones": lambda _body: text("fine", tokens=Tokens(1, 0, 1)),
    "reports less than nothing": usage_of(prompt_tokens=-5, completion_tokens=-7, total_tokens=-12),
    "reports words": usage_of(prompt_tokens="many", completion_tokens=None, total_tokens="few"),
    "hides reasoning": usage_of(prompt_tokens=900, completion_tokens=1, total_tokens=900 + 4096),
    "answers an error with 200": lambda _body: raw(b'{"error": {"message": "overloaded", "code": null}}'),
}


class Biller:
    """Bills the whole prompt and the whole output limit for each request, whatever becomes of its answer."""

    def __init__(self, way: Callable[[Body], Answer]) -> None:
        self._way = way
        self._lock = threading.Lock()
        self.tokens = Usage()

    def __call__(self, body: Body) -> Answer:
        prompt = sum(len(str(message["content"])) // 4 for message in body["messages"])
        limit = body.get("max_tokens") or body["max_completion_tokens"]
        with self._lock:
            self.tokens = Usage(input=self.tokens.input + prompt, output=self.tokens.output + limit)
        return self._way(body)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_billed_stays_below_the_budget_and_the_calls_in_flight_and_is_recorded(way: str, tmp_path: Path) -> None:
    @job(model=MODEL, budget=Budget(usd="0.02"))
    def asks(ctx: RunContext) -> int:
        """Asks many long questions."""
        return len(
            ctx.map(
                lambda number: ctx.ask("helper", f"{number} " + "a long question " * 200),
                range(CALLS),
                concurrency=AT_ONCE,
                on_error="collect",
            )
        )

    spine = Spine(tmp_path)
    biller = Biller(WAYS[way])
    with OpenAIServer(biller) as server:
        model = OpenAIModel(MODEL, api_key="none", base_url=server.url, attempt_seconds=0.3, sleep=lambda _seconds: None)
        run = spine.run(asks, model).run  # type: ignore[arg-type]
    prices = Prices(spine.deployment.settings.prices_file)
    billed = prices.cost_nano(MODEL, biller.tokens, at=NOON, base_url=server.url)
    worst = prices.cost_nano(MODEL, Usage(input=4_000, output=4096), at=NOON, base_url=server.url)
    row = spine.row(run.id)
    assert billed is not None
    assert worst is not None
    assert biller.tokens.output > 0
    assert billed <= row.ceiling_nano + AT_ONCE * worst
    assert row.spent_nano + row.reserved_nano >= billed
    assert row.reserved_nano == 0
