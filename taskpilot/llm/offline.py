"""The embedded model: a deterministic, rule-based planner, reviewer and executor with no network."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from taskpilot.domain.chat import OFFLINE, ChatReply, ChatRequest, Role, ToolCall
from taskpilot.domain.errors import ModelRefused
from taskpilot.domain.tasks import DESCRIPTION_MAX, TITLE_MAX, Priority, ReviewVerdict
from taskpilot.domain.text import one_line
from taskpilot.domain.usage import Usage

_TASKS_MAX: Final = 5
_TITLE_LENGTH: Final = 90

_VERB: Final = (
    "(?:add|allow|answer|approve|arrange|ask|assign|backup|block|book|build|buy|call|cancel|change|check|clean|close|collect|"
    "compare|configure|contact|copy|create|deactivate|delete|deploy|disable|document|draft|drop|enable|escalate|export|"
    "extend|file|find|fix|forward|give|grant|implement|import|improve|increase|inform|install|investigate|invite|invoice|"
    "issue|kill|let|look|make|migrate|monitor|move|notify|open|order|organise|organize|patch|pay|plan|post|prepare|prevent|"
    "print|publish|purge|put|read|rebuild|reduce|refund|register|reinstall|reject|release|remind|remove|rename|renew|reopen|"
    "repair|replace|reply|report|request|rerun|reschedule|reset|resolve|restart|restore|review|revoke|roll|rotate|run|"
    "schedule|send|set|share|ship|stop|store|summarise|summarize|support|switch|sync|tell|test|track|train|transfer|"
    "translate|turn|uninstall|unlock|update|upgrade|upload|verify|wipe|work|write)"
)
"""Verbs that begin a request for work."""
_OPENING: Final = (
    r"(?:(?:hi|hello|hey|dear)\b[^,.!?]{0,30},)?\W*"
    r"(?:(?:please|kindly|also|then|and|next|finally|first|second|third|urgent|asap|could you|can you|would you|will you|"
    r"we need to|i need you to|we have to|we should|we must|need to|you should)[\s,:]+)*"
)
_OPENS_A_TASK: Final = re.compile(rf"{_OPENING}{_VERB}\b", re.IGNORECASE)
_LISTED: Final = re.compile(r"^\s*(?:\d{1,2}[.)]|[-*•])\s+", re.MULTILINE)
_SENTENCE_END: Final = re.compile(r"(?<=[.!?;])\s+|\n+")
_AND: Final = re.compile(rf",?\s+(?:and(?:\s+(?:also|then|please))?|then|plus)\s+(?={_VERB}\b)", re.IGNORECASE)
_LEAD_IN: Final = re.compile(_OPENING, re.IGNORECASE)

_HIGH: Final = re.compile(
    r"\b(urgent(?:ly)?|asap|immediately|right now|outage|is down|are down|was down|went down|critical|emergency|security|breach|"
    r"leak(?:ed|s)?|vulnerab\w+|data loss|production|cannot pay|can't pay|today|p1|sev ?1|on fire|blocked)\b",
    re.IGNORECASE,
)
_LOW: Final = re.compile(
    r"\b(not urgent|no rush|no hurry|when you have time|whenever|some ?day|nice to have|minor|cosmetic|typos?|low priority|eventually|"
    r"newsletter|next quarter)\b",
    re.IGNORECASE,
)

_REJECTED: Final = {
    "it destroys data": (
        r"\b(delete|drop|wipe|erase|purge|destroy|truncate|remove)\s+(?:\w+\s+){0,2}?"
        r"(all|every|everything|entire|databases?|tables?|backups?)\b"
        r"|\brm\s+-\w*[rf]\w*\b|\bformat\s+(the\s+)?(disk|drive|server)s?\b|\bmkfs\b"
    ),
    "it removes a protection": (
        r"\b(disable|turn off|switch off|bypass|skip)\s+(?:\w+\s+){0,2}?"
        r"(audit|logging|security|firewall|backups?|two-factor|2fa|mfa|policy|review)\b"
    ),
    "it tries to steer the reviewer": r"\b(ignore|forget|disregard)\s+(?:\w+\s+){0,3}?(instructions?|rules?|polic(y|ies))\b",
    "it gives secrets away": (
        r"\b(share|post|publish|send|e-?mail|tell|give)\s+(?:\w+\s+){0,4}?(passwords?|credentials|private keys?|api keys?|secrets?)\b"
    ),
    "it reads like spam": (
        r"\b(lottery|you (have )?won|winner|viagra|casino|free money|crypto giveaway|click here|limited offer|seo services)\b|!!!"
    ),
}
"""Searched in the whole task."""
_REVIEW: Final = {
    "a person must check payments": r"\b(refunds?|invoices?|payments?|pay|salary|salaries|discounts?|buy|purchase|contracts?|budget)\b",
    "a person must check legal and personal matters": r"\b(gdpr|personal data|lawyers?|legal|subpoena|dismiss|terminate|complaints?)\b",
    "it cannot be undone easily": r"\b(delete|drop|wipe|erase|purge|deactivate|revoke|shut ?down|roll back)\b",
    "it is too vague to act on": r"\b(something|somehow|stuff|things?|whatever|etc|maybe|probably|some people)\b",
}
"""Searched in the title only: it names the work, and the rest mostly gives the reason."""
_WORD: Final = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Proposal:
    """One task that the rules propose."""

    title: str
    priority: Priority
    description: str


def plan(request: str) -> tuple[Proposal, ...]:
    """One to five tasks of a request: its list items, or its sentences and clauses that begin with a verb of work."""
    parts = _parts(request.strip()) or ["Empty request"]
    return tuple(_proposal(part, request) for part in parts)


def _parts(request: str) -> list[str]:
    if len(_LISTED.findall(request)) > 1:
        head, *items = _LISTED.split(request)
        listed = [flat for item in items if (flat := " ".join(item.split()))]
        lead = " ".join(head.split())
        # Items beyond the limit go into the last task, so that none is dropped.
        kept = [*listed[: _TASKS_MAX - 1], "; ".join(listed[_TASKS_MAX - 1 :])] if len(listed) > _TASKS_MAX else listed
        return [lead, *kept][:_TASKS_MAX] if _OPENS_A_TASK.match(lead) and not lead.endswith(":") and len(kept) < _TASKS_MAX else kept
    parts: list[str] = []
    waiting = ""
    for part in _SENTENCE_END.split(request):
        for clause in _AND.split(part):
            flat = " ".join(clause.split())
            if not flat:
                continue
            if _OPENS_A_TASK.match(flat) and len(parts) < _TASKS_MAX:
                parts.append(f"{flat} ({waiting.strip()})" if waiting else flat)
                waiting = ""
            elif parts:
                parts[-1] = f"{parts[-1]} {flat}"
            else:
                waiting = f"{waiting} {flat}"
    return parts or ([waiting.strip()] if waiting else [])


def _proposal(part: str, request: str) -> Proposal:
    first = _SENTENCE_END.split(part)[0].partition(" (")[0]
    bare = _LEAD_IN.sub("", first, count=1).strip(" .!?;:,") or first.strip() or part
    title = bare if len(bare) <= _TITLE_LENGTH else bare[: _TITLE_LENGTH - 1].rsplit(" ", 1)[0] + "…"
    # Urgent words elsewhere in the request count only for a task without words of its own.
    priority = _priority(part)
    return Proposal(
        title=title[:1].upper() + title[1:],
        priority=priority if priority is not Priority.MEDIUM or _HIGH.search(request) is None else _priority(request),
        description=f"{part}\n\nProposed by the offline model."[:DESCRIPTION_MAX],
    )


def _priority(text: str) -> Priority:
    if _LOW.search(text):
        return Priority.LOW
    return Priority.HIGH if _HIGH.search(text) else Priority.MEDIUM


def review(title: str, description: str) -> tuple[ReviewVerdict, str]:
    """The verdict on one task, and the rule that gave it."""
    text = f"{title}\n{description}"
    for reason, pattern in _REJECTED.items():
        if re.search(pattern, text, re.IGNORECASE):
            return ReviewVerdict.REJECTED, f"offline rule: {reason}"
    if len(_WORD.findall(title)) < 3:
        return ReviewVerdict.REVIEW, "offline rule: it is too vague to act on"
    for reason, pattern in _REVIEW.items():
        if re.search(pattern, title, re.IGNORECASE):
            return ReviewVerdict.REVIEW, f"offline rule: {reason}"
    return ReviewVerdict.APPROVE, "offline rule: nothing speaks against it"


_NOT_DONE: Final = re.compile(r"\b(denied|denies|deny|refused|rejected|error|failed|invalid|not allowed|needs approval)\b", re.IGNORECASE)


class OfflineModel:
    """Follows fixed rules: the same request gets the same answer, at no cost."""

    @property
    def name(self) -> str:
        """Always `offline`."""
        return OFFLINE

    def chat(self, request: ChatRequest, *, seconds_left: float, before_retry: Callable[[], None] = lambda: None) -> ChatReply:
        """The answer of the rules. Raises ModelRefused for a structured reply that no rule can fill."""
        if request.output is not None:
            return _reply(json.dumps(_structured(request), ensure_ascii=False))
        if request.agent == "executor":
            return _execute(request)
        return _reply(
            "offline: the embedded model follows fixed rules for planner, reviewer and executor; "
            f"it cannot answer the agent {one_line(request.agent, limit=60)}. Name a real model by --model for that."
        )

    def close(self) -> None:
        """Nothing to close."""


def _reply(content: str, *calls: ToolCall) -> ChatReply:
    return ChatReply(content=content, tool_calls=calls, finish_reason="tool_calls" if calls else "stop", usage=Usage())


def _user_message(request: ChatRequest) -> str:
    """The text of the last user message."""
    return next((message.content for message in reversed(request.messages) if message.role is Role.USER), "")


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _structured(request: ChatRequest) -> dict[str, Any]:
    schema = request.output.schema if request.output is not None else {}
    properties = schema.get("properties", {})
    text = _user_message(request)
    if request.agent == "planner" and "tasks" in properties:
        return {"tasks": [{"title": task.title, "priority": task.priority, "description": task.description} for task in plan(text)]}
    if request.agent == "reviewer" and "verdict" in properties:
        task = _object(text).get("task")
        verdict, reason = review(_field(task, "title") or text, _field(task, "description"))
        return {"verdict": str(verdict), "reason": reason}
    example = _example(schema, schema, depth=0)
    if not isinstance(example, dict):
        raise ModelRefused("offline: the embedded model can only return a JSON object", hint="name a real model by --model")
    if request.agent == "summarizer" and "summary" in properties:
        return example | {"summary": "offline: the embedded rules summarize nothing; name a real model by --model for that."}
    return example


def _field(task: Any, key: str) -> str:
    value = task.get(key) if isinstance(task, dict) else None
    return value if isinstance(value, str) else ""


def _execute(request: ChatRequest) -> ChatReply:
    results = [message.content for message in request.messages if message.role is Role.TOOL]
    if results:
        answer = one_line(results[-1], limit=300)
        if _NOT_DONE.search(results[-1]):
            return _reply(f"offline: the task was not filed. create_task answered: {answer}")
        return _reply(f"offline: the task was filed. create_task answered: {answer}")
    task = _object(_user_message(request)).get("task")
    title = _field(task, "title")
    if not title or not any(tool.name == "create_task" for tool in request.tools):
        return _reply("offline: nothing was done, since the task has no title or there is no tool create_task.")
    arguments = {"title": title[:TITLE_MAX], "priority": _field(task, "priority") or "medium"}
    if _field(task, "description"):
        arguments["description"] = _field(task, "description")[:DESCRIPTION_MAX]
    return _reply("", ToolCall(id="offline-1", name="create_task", arguments=json.dumps(arguments, ensure_ascii=False)))


def _example(schema: Any, root: dict[str, Any], *, depth: int) -> Any:
    """The smallest value that fits a schema, with `offline` as each text. Raises ModelRefused where no rule fits."""
    if not isinstance(schema, dict) or depth > 20:
        raise ModelRefused("offline: the embedded model has no rule for the requested output", hint="name a real model by --model")
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return _example(root.get("$defs", {}).get(reference.removeprefix("#/$defs/")), root, depth=depth + 1)
    for key in ("default", "const"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if choices:
        return _example(choices[-1] if {"type": "null"} in choices else choices[0], root, depth=depth + 1)
    kind = schema.get("type")
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: _example(properties.get(name), root, depth=depth + 1) for name in schema.get("required", ())}
    if kind == "array":
        return [_example(schema.get("items"), root, depth=depth + 1) for _ in range(min(100, schema.get("minItems", 0)))]
    if kind == "string" and "pattern" not in schema and "format" not in schema:
        return OFFLINE.ljust(min(10_000, schema.get("minLength", 0)), ".")[: schema.get("maxLength", 10_000)]
    if kind in {"integer", "number"}:
        return schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
    if kind in {"boolean", "null"}:
        return False if kind == "boolean" else None
    return _example(None, root, depth=depth)
