"""LLM calls: reserve the budget, journal the begin, call, journal the result; and validate structured replies."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from taskpilot.context import scope
from taskpilot.context.session import Session
from taskpilot.context.tool_steps import ToolSteps
from taskpilot.domain.chat import ChatReply, ChatRequest, ChatRetry, Message, OutputSchema, Role, ToolCall, ToolSchema
from taskpilot.domain.errors import BudgetExceeded, LeaseLost, ModelError, ReplyInvalid
from taskpilot.domain.steps import StepKind, StepPlace, StepStatus
from taskpilot.domain.text import one_line, storable, unfenced
from taskpilot.domain.usage import Usage
from taskpilot.journal.started_step import AgentEnd, StartedStep
from taskpilot.tools.arguments import no_repeats

Shape = TypeVar("Shape", bound=BaseModel)

_QUOTED: Final = 4_000
"""Characters of an unusable reply that are sent back in the repair turn."""


@dataclass
class Invocation:
    """One piece of work of an agent."""

    agent: str
    scope: str
    started_at: datetime
    completes: Callable[[ChatReply], bool]
    """Whether a reply is its last one: the agent's success is then recorded in the same transaction."""
    live: bool = False
    """True once it made a call in this attempt instead of reading the journal."""
    recorded: bool = False
    """True once its end was recorded."""

    def end(self, status: StepStatus) -> AgentEnd:
        """Its end, to be recorded."""
        return AgentEnd(self.agent, self.scope, status, self.started_at)


class LLMSteps:
    """Makes LLM calls for one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tool_steps = ToolSteps(session)

    @contextmanager
    def invocation(self, agent: str, completes: Callable[[ChatReply], bool]) -> Iterator[Invocation]:
        """The scope of one agent's work, which is recorded at its end if a call was made."""
        with scope.inside(agent) as here:
            invocation = Invocation(agent, here.path, self._session.now(), completes)
            succeeded = False
            try:
                yield invocation
                succeeded = True
            except Exception:
                self._record(invocation, succeeded=False)
                raise
            if succeeded:
                self._record(invocation, succeeded=True)

    def text(self, agent: str, prompt: str, *, system: str = "", allow_partial: bool = False) -> str:
        """A model's reply as text; a cut-off or empty one only with `allow_partial`. Raises ModelError."""

        def whole(reply: ChatReply) -> bool:
            return _fault_of(reply, allow_partial) is None

        with self.invocation(agent, whole) as invocation:
            reply = self.chat(invocation, _messages(system, prompt), usable=whole)
            fault = _fault_of(reply, allow_partial)
            if fault is not None:
                hint = None if reply.refusal is not None else "set [openai] max_output_tokens, or take it with ask(..., allow_partial=True)"
                raise ReplyInvalid(f"{agent}: {fault}", hint=hint)
            return reply.content

    def structured(self, agent: str, prompt: str, output: type[Shape], *, system: str = "") -> Shape:
        """A model's reply as the given pydantic model, with one repair turn. Raises ReplyInvalid or another ModelError."""
        schema = OutputSchema(name=output.__name__, schema=output.model_json_schema())
        messages = _messages(system, prompt)

        def fits(reply: ChatReply) -> bool:
            return _fits(reply, output)

        with self.invocation(agent, fits) as invocation:
            reply = self.chat(invocation, messages, output=schema)
            try:
                return _validated(reply, output)
            except ReplyInvalid as error:
                self._session.emit("reply-repair", f"{agent}: {error}; asked once more", level="warning", agent=agent)
                repair = Message(Role.USER, f"Your reply cannot be used: {error}. Reply again, with nothing but JSON of the asked shape.")
                quoted = Message(Role.ASSISTANT, reply.content[:_QUOTED] or "(nothing)")
                asked = (*messages, quoted, repair)
                return _validated(self.chat(invocation, asked, output=schema, usable=fits), output)

    def chat(
        self,
        invocation: Invocation,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSchema] = (),
        output: OutputSchema | None = None,
        usable: Callable[[ChatReply], bool] = lambda _reply: True,
    ) -> ChatReply:
        """One LLM call, or its recorded reply if that is `usable`. Raises ModelError, BudgetExceeded, DeadlineExceeded or LeaseLost."""
        session = self._session
        agent = invocation.agent
        request = ChatRequest(
            agent=agent,
            messages=tuple(messages),
            tools=tuple(tools),
            output=output,
            max_output_tokens=session.max_output_tokens,
        )
        asked = [agent, [asdict(message) for message in messages], None if output is None else output.schema, [tool.name for tool in tools]]
        place = scope.current().place(StepKind.ASK, agent, asked)
        recorded = session.journal.recorded(place)
        reply = None
        if recorded is not None and recorded.status is StepStatus.SUCCEEDED:
            reply = _reply_of(recorded.result, recorded.usage)
        if reply is None or not usable(reply):
            invocation.live = True
            diverged = recorded is None and session.journal.conflicting(place) is not None
            reply = self._ask_model(invocation, request, place, asked[1], diverged=diverged)
        if not tools:
            for call in reply.tool_calls:
                self._tool_steps.unknown(call.name, call.arguments, agent=agent, offered=())
        return reply

    def _ask_model(self, invocation: Invocation, request: ChatRequest, place: StepPlace, shown: Any, *, diverged: bool) -> ChatReply:
        session = self._session
        begun, left = self._begin(request, place, shown, diverged=diverged)
        try:
            if diverged:
                session.emit("step-diverged", f"{request.agent} is asked something different from an earlier attempt", level="warning")
            session.check_lease(begun, f"{request.agent} was asked")
            return self._settled(invocation, request, begun, left)
        finally:
            session.calls.end()

    def _begin(self, request: ChatRequest, place: StepPlace, shown: Any, *, diverged: bool) -> tuple[StartedStep, float]:
        """Records the begin with its reservation, as soon as that fits beside the calls in flight; also the seconds left for the call."""
        session = self._session
        model = session.model
        while True:
            left = session.seconds_left()
            ended = session.calls.begin()
            try:
                begun = session.journal.begin(
                    place,
                    value=shown,
                    agent=request.agent,
                    model=model.name,
                    reservation=session.spending.worst_case(request, session.now()),
                    diverged=diverged,
                )
            except BudgetExceeded as stop:
                others = session.calls.end(refused=True)
                if not (stop.in_flight and others):
                    raise session.stopped(stop) from None
                session.calls.wait(ended)
            except BaseException as stop:
                session.calls.end()
                if isinstance(stop, LeaseLost):
                    raise session.stopped(stop) from None
                raise
            else:
                session.calls.admit_next()
                return begun, left

    def _settled(self, invocation: Invocation, request: ChatRequest, begun: StartedStep, left: float) -> ChatReply:
        """Makes a begun call and records its result."""
        session = self._session
        billed = 0

        def reserve_retry() -> None:
            nonlocal begun, billed
            billed += 1
            begun = session.journal.reserve_retry(begun)

        try:
            reply = session.model.chat(request, seconds_left=left, before_retry=reserve_retry)
        except BudgetExceeded as stop:
            session.journal.end_ask(begun, reply=None, result=None, cost_nano=None, retries=(), lost=billed, error=stop)
            raise session.stopped(stop) from None
        except LeaseLost as stop:
            raise session.stopped(stop) from None
        except ModelError as error:
            session.journal.end_ask(
                begun,
                reply=None,
                result=None,
                cost_nano=None,
                retries=_retry_reasons(error.retries),
                lost=error.tries_maybe_billed,
                error=error,
            )
            session.emit("llm-call-failed", f"{request.agent}: {one_line(str(error))}", level="error", agent=request.agent)
            raise
        cost = session.spending.cost(reply.usage, session.now())
        lost = sum(retry.maybe_billed for retry in reply.retries)
        # The caller gets the recorded form, as in every later attempt.
        recordable = session.hide(_recordable(reply))
        completed = invocation.end(StepStatus.SUCCEEDED) if invocation.completes(reply) else None
        session.journal.end_ask(
            begun,
            reply=reply,
            result=recordable,
            cost_nano=cost,
            retries=_retry_reasons(reply.retries),
            lost=lost,
            completed=completed,
        )
        invocation.recorded = completed is not None
        session.emit("llm-call-ended", f"{request.agent} got a reply", agent=request.agent, step_id=begun.step.id)
        return _reply_of(recordable, reply.usage)

    def _record(self, invocation: Invocation, *, succeeded: bool) -> None:
        if invocation.live and not invocation.recorded:
            status = StepStatus.SUCCEEDED if succeeded else StepStatus.FAILED
            self._session.journal.record_agent(invocation.end(status))


def _messages(system: str, prompt: str) -> tuple[Message, ...]:
    user = Message(Role.USER, storable(prompt))
    return (Message(Role.SYSTEM, storable(system)), user) if system else (user,)


def _retry_reasons(retries: tuple[ChatRetry, ...]) -> tuple[str, ...]:
    return tuple(retry.reason for retry in retries)


_CUT_OFF: Final = {"length": "the reply was cut off at the output limit", "content_filter": "the reply was cut off by the server's filter"}


def _fault_of(reply: ChatReply, allow_partial: bool = False) -> str | None:
    """Why a reply is not a whole answer; None if it is, or if a part of one is enough."""
    if reply.refusal is not None:
        return f"the model refused: {one_line(reply.refusal)}"
    if allow_partial:
        return None
    return _CUT_OFF.get(reply.finish_reason) or (None if reply.content.strip() else "the reply is empty")


def _fits(reply: ChatReply, output: type[BaseModel]) -> bool:
    try:
        _validated(reply, output)
    except ReplyInvalid:
        return False
    return True


def _validated(reply: ChatReply, output: type[Shape]) -> Shape:
    fault = _fault_of(reply)
    if fault is not None:
        raise ReplyInvalid(fault)
    try:
        # Some models always put their JSON into a fenced block.
        text = unfenced(reply.content)
        _check_keys(text)
        return output.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'reply'}: {one['msg']}" for one in error.errors(include_url=False)[:5])
        raise ReplyInvalid(f"the reply does not fit {output.__name__}: {one_line(problems, limit=500)}") from None
    except RecursionError:
        raise ReplyInvalid(f"the reply does not fit {output.__name__}: it is nested too deeply") from None


def _check_keys(text: str) -> None:
    """Raises ReplyInvalid where a key is repeated in one object: of two verdicts, none counts."""
    try:
        json.loads(text, object_pairs_hook=no_repeats)
    except json.JSONDecodeError:
        return  # The shape's own error says more.
    except ValueError as error:
        raise ReplyInvalid(f"the reply is not JSON: {one_line(str(error), limit=120)}") from None


def _recordable(reply: ChatReply) -> dict[str, Any]:
    return {
        "content": storable(reply.content),
        "tool_calls": [{name: storable(text) for name, text in asdict(call).items()} for call in reply.tool_calls],
        "finish_reason": reply.finish_reason,
        "refusal": None if reply.refusal is None else storable(reply.refusal),
    }


def _reply_of(value: dict[str, Any], usage: Usage | None) -> ChatReply:
    calls = tuple(ToolCall(**call) for call in value["tool_calls"])
    return ChatReply(
        content=value["content"], tool_calls=calls, finish_reason=value["finish_reason"], refusal=value["refusal"], usage=usage
    )
