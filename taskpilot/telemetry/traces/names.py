"""Every span and attribute name: the GenAI conventions still change, so they are only on this page."""

from hashlib import sha256
from typing import Final

from taskpilot.domain.chat import OFFLINE

SERVICE_NAME: Final = "service.name"
DEPLOYMENT: Final = "taskpilot.deployment"
STORE_ID: Final = "taskpilot.store.id"

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
CACHED_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
AGENT: Final = "gen_ai.agent.name"
TOOL: Final = "gen_ai.tool.name"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_TYPE: Final = "gen_ai.tool.type"
FUNCTION: Final = "function"
"""The type of a tool that the caller executes."""
CONVERSATION: Final = "gen_ai.conversation.id"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_RESULT: Final = "gen_ai.tool.call.result"
WORKFLOW: Final = "gen_ai.workflow.name"
"""Semantic conventions 1.41 have this name for a workflow, the GenAI conventions 0.1 have the agent's; a root span has both."""
ERROR_TYPE: Final = "error.type"

INVOKE_WORKFLOW: Final = "invoke_workflow"
INVOKE_AGENT: Final = "invoke_agent"
CHAT: Final = "chat"
EXECUTE_TOOL: Final = "execute_tool"
WAIT_FOR_PERSON: Final = "wait_for_person"

RUN_ID: Final = "taskpilot.run.id"
RUN_JOB: Final = "taskpilot.run.job"
RUN_STATUS: Final = "taskpilot.run.status"
RUN_REASON: Final = "taskpilot.run.reason"
RUN_TRIGGER: Final = "taskpilot.run.trigger"
RUN_ATTEMPT: Final = "taskpilot.run.attempt"
RUN_ATTEMPTS: Final = "taskpilot.run.attempts"
RUN_COST: Final = "taskpilot.run.cost_usd"
RUN_LLM_CALLS: Final = "taskpilot.run.llm_calls"
RUN_TOOL_CALLS: Final = "taskpilot.run.tool_calls"
SPANS_LEFT_OUT: Final = "taskpilot.run.rows_left_out"

STEP_ID: Final = "taskpilot.step.id"
STEP_SCOPE: Final = "taskpilot.step.scope"
STEP_STATUS: Final = "taskpilot.step.status"
STEP_RETRIES: Final = "taskpilot.step.retries"
STEP_RETRY_REASONS: Final = "taskpilot.step.retry_reasons"
STEP_COST: Final = "taskpilot.step.cost_usd"
STEP_DIVERGED: Final = "taskpilot.step.diverged"

DECISION_ID: Final = "taskpilot.decision.id"
DECISION_TOOL: Final = "taskpilot.decision.tool"
"""Not gen_ai.tool.name: a backend would count a denied call as a call."""
DECISION_VERDICT: Final = "taskpilot.decision.verdict"
DECISION_STATUS: Final = "taskpilot.decision.status"
DECISION_ENGINE: Final = "taskpilot.decision.engine"


def provider(model: str | None) -> str:
    """The provider that answers: `offline` is built in; every other model is asked through OpenAI's API."""
    return "taskpilot" if model == OFFLINE else "openai"


def span_id_of(record_id: str) -> str:
    """16 hex digits for a row of the store: an attempt, a step, a decision, an agent's invocation."""
    digest = sha256(record_id.encode("utf-8", "backslashreplace")).hexdigest()[:16]
    # All zeros is no valid span id.
    return digest if int(digest, 16) else f"{1:016x}"
