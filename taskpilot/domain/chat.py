"""One exchange with a model: what is asked, and what came back."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from taskpilot.domain.usage import Usage

OFFLINE: Final = "offline"
"""The name of the embedded model: no network, no key, no cost."""
OPENAI_URL: Final = "https://api.openai.com/v1"
"""The server, unless another one is named."""
DEFAULT_OUTPUT_TOKENS: Final = 4096
"""The limit of one reply, unless the settings have another one."""


class Role(StrEnum):
    """The author of a message, as the chat completions API names it."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's request to call a tool. `arguments` is its raw text: untrusted, parsed by the code that executes it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class ToolSchema:
    """A tool as a model sees it; `parameters` is a JSON schema of an object."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class OutputSchema:
    """The shape that a structured reply must have; `schema` is a JSON schema of an object."""

    name: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What one call asks. Either `output` (a structured reply) or `tools`, never both."""

    agent: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSchema, ...] = ()
    output: OutputSchema | None = None
    max_output_tokens: int = DEFAULT_OUTPUT_TOKENS


@dataclass(frozen=True, slots=True)
class ChatRetry:
    """One attempt at a call that was given up before a usable answer came, and why."""

    reason: str
    """A closed set: rate_limit, conflict, timeout, server_error, connection, unsupported."""
    waited_seconds: float
    maybe_billed: bool = False
    """True where the server may have done the work although its answer did not arrive."""


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What a model answered; every text in it is untrusted."""

    content: str
    """The text, or the JSON text of a structured reply."""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"
    refusal: str | None = None
    usage: Usage | None = None
    """None where the server reported none."""
    retries: tuple[ChatRetry, ...] = field(default=())
