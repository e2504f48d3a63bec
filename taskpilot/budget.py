"""The worst-case cost of a model call before it is made, and its real cost afterwards."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from taskpilot.domain.chat import ChatRequest
from taskpilot.domain.usage import Reservation, Usage

_PER_MESSAGE: Final = 16
"""An upper limit of the tokens that a chat template adds to one message."""
_SHAPE_PROMPT: Final = 256
"""An upper limit of the bytes that ask for the reply's shape, for a server that takes the shape only in the prompt."""

Price = Callable[[str, Usage, datetime], int | None]
"""(model, usage, when) -> nano-USD, or None where the model has no known price."""


class Spending:
    """Prices calls of one model."""

    def __init__(self, model: str, price: Price) -> None:
        self._model = model
        self._price = price

    def worst_case(self, request: ChatRequest, at: datetime) -> Reservation:
        """The most that the call can cost: one token for each byte of the prompt (no tokenizer makes more), and the whole output limit."""
        prompt = sum(len(message.content.encode()) + _PER_MESSAGE for message in request.messages)
        prompt += sum(
            len(call.arguments.encode()) + len(call.name.encode()) + len(call.id.encode())
            for message in request.messages
            for call in message.tool_calls
        )
        prompt += sum(len(json.dumps([tool.name, tool.description, tool.parameters])) for tool in request.tools)
        if request.output is not None:
            prompt += len(json.dumps(request.output.schema)) + _SHAPE_PROMPT
        worst = Usage(input=prompt, output=request.max_output_tokens)
        cost = self._price(self._model, worst, at)
        if cost is not None:
            # Some models' price for cached tokens is the higher one.
            cost = max(cost, self._price(self._model, replace(worst, cached_input=prompt), at) or 0)
        return Reservation(cost_nano=cost, tokens=worst.total, llm_calls=1)

    def cost(self, usage: Usage | None, at: datetime) -> int | None:
        """Nano-USD of a call that was answered; None where the server gave no usage or the model has no price."""
        return None if usage is None else self._price(self._model, usage, at)
