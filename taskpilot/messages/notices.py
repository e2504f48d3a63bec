"""Notices in words: the facts that a webhook gets, and the same as text and as HTML."""

import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any, Final

from taskpilot.domain.attention import Attention, AttentionKind
from taskpilot.domain.channels import Message
from taskpilot.domain.ids import short_id
from taskpilot.domain.notices import Incident, NoticeEvent
from taskpilot.domain.reasons import ReasonCode
from taskpilot.domain.text import one_line
from taskpilot.domain.times import utc_iso
from taskpilot.domain.version import version
from taskpilot.messages.attention import attention_command, attention_sentence

_KINDS: Final = {
    NoticeEvent.RUN_FAILED: AttentionKind.FAILED,
    NoticeEvent.RUN_LOST: AttentionKind.LOST,
    NoticeEvent.RUN_TIMED_OUT: AttentionKind.TIMED_OUT,
    NoticeEvent.RUN_DENIED: AttentionKind.DENIED,
    NoticeEvent.RUN_OVER_BUDGET: AttentionKind.BUDGET_EXCEEDED,
    NoticeEvent.OUTCOME_FAILED: AttentionKind.OUTCOME_FAILED,
    NoticeEvent.FIRE_MISSED: AttentionKind.MISSED,
    NoticeEvent.FIRE_BLOCKED: AttentionKind.BLOCKED,
    NoticeEvent.APPROVAL_ASKED: AttentionKind.WAITING,
    NoticeEvent.APPROVAL_EXPIRING: AttentionKind.WAITING,
    NoticeEvent.APPROVAL_EXPIRED: AttentionKind.DENIED,
    NoticeEvent.JOB_PAUSED: AttentionKind.PAUSED,
    NoticeEvent.SUCCESS_OVERDUE: AttentionKind.SUCCESS_TOO_OLD,
}
_TITLES: Final = {
    NoticeEvent.RUN_FAILED: "failed",
    NoticeEvent.RUN_LOST: "was lost",
    NoticeEvent.RUN_TIMED_OUT: "ran out of time",
    NoticeEvent.RUN_DENIED: "was denied",
    NoticeEvent.RUN_OVER_BUDGET: "was stopped by its budget",
    NoticeEvent.OUTCOME_FAILED: "failed the check of its outcome",
    NoticeEvent.FIRE_MISSED: "did not run",
    NoticeEvent.FIRE_BLOCKED: "cannot start",
    NoticeEvent.APPROVAL_ASKED: "asks you",
    NoticeEvent.APPROVAL_EXPIRING: "still waits for your answer",
    NoticeEvent.APPROVAL_EXPIRED: "was not answered",
    NoticeEvent.JOB_PAUSED: "is paused",
    NoticeEvent.SUCCESS_OVERDUE: "has not succeeded for too long",
}
_OVER: Final = {NoticeEvent.APPROVAL_ASKED.value: "needs no answer any more", NoticeEvent.JOB_PAUSED.value: "is resumed"}
"""The titles of "recovered", where "works again" would be wrong."""
_REASON_MAX: Final = 1_000
_LISTED: Final = 50
"""Lines of a digest or report; more are counted."""
_REPORT_BYTES: Final = 32 * 1024


def notice_facts(
    event: NoticeEvent,
    incident: Incident,
    *,
    deployment: str,
    root: str,
    at: datetime,
    next_fire: datetime | None = None,
    run_id: str | None = None,
) -> dict[str, Any]:
    """What the webhook sends about an incident. `run_id`: the run that closed it, or None for the one that it is about."""
    recovered = event is NoticeEvent.RECOVERED
    return {
        "event": event.value,
        "incident": incident.id,
        "cause": incident.cause.value,
        "job": incident.job or None,
        "run_id": run_id or incident.run_id,
        "fire": None if incident.fire is None else utc_iso(incident.fire),
        "reason": one_line(_ending(incident) if recovered else _reason(incident), limit=_REASON_MAX),
        "reason_code": incident.reason.code.value,
        "reason_facts": dict(incident.reason.facts),
        "count": incident.events,
        "since": utc_iso(incident.opened_at, timespec="seconds"),
        "reminder": 0 if recovered else incident.notices,
        "wait": "" if recovered else _wait(incident, next_fire),
        "command": commanded(_command(incident, run_id), root),
        "link": None,
        **_place(deployment, at),
    }


def drill_facts(incident: Incident, *, deployment: str, root: str, at: datetime) -> dict[str, Any]:
    """What the webhook sends in a drill."""
    words = ("incidents", "ack", short_id(incident.id))
    reason = "this is a drill: nothing is wrong; acknowledge it to show that it reached you"
    about = {"incident": incident.id, "cause": NoticeEvent.DRILL.value, "since": utc_iso(incident.opened_at, timespec="seconds")}
    return _aside(NoticeEvent.DRILL, reason, words, deployment=deployment, root=root, at=at) | about


def trial_facts(*, deployment: str, root: str, at: datetime) -> dict[str, Any]:
    """What the webhook sends as a test."""
    return _aside(NoticeEvent.TEST, "this is a test: the channel works", ("notices",), deployment=deployment, root=root, at=at)


def report_facts(report: Mapping[str, Any], *, deployment: str, root: str, at: datetime) -> dict[str, Any]:
    """What the webhook sends as the report: the JSON of `taskpilot status --json` too."""
    attention = report["attention"]
    ran = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in report["counts"].items()) or "none"
    sentence = f"runs: {ran}; {'nothing needs you' if report['ok'] else f'to look at: {len(attention)}'}"
    facts = _aside(NoticeEvent.REPORT, sentence, ("status",), deployment=deployment, root=root, at=at)
    # No longer than a webhook takes.
    while len(json.dumps(attention, ensure_ascii=False).encode("utf-8", "replace")) > _REPORT_BYTES:
        attention = attention[: len(attention) // 2]
    return {**facts, "report": {**report, "attention": attention}}


def _aside(event: NoticeEvent, reason: str, words: Sequence[str], *, deployment: str, root: str, at: datetime) -> dict[str, Any]:
    empty = dict.fromkeys(("incident", "cause", "job", "run_id", "fire", "since", "link"))
    plain = {"reason_code": "", "reason_facts": {}, "count": 1, "reminder": 0, "wait": ""}
    return {"event": event.value, **empty, "reason": reason, **plain, "command": commanded(words, root), **_place(deployment, at)}


def _place(deployment: str, at: datetime) -> dict[str, Any]:
    return {"deployment": deployment, "at": utc_iso(at, timespec="seconds"), "version": version()}


def commanded(words: Sequence[str], root: str) -> str:
    """The line of a command for somebody in any folder of the machine."""
    return shlex.join(("taskpilot", "--root", root, *words))


def acknowledged(incident: Incident) -> str:
    """What an acknowledgement did."""
    what = "the drill" if incident.cause is NoticeEvent.DRILL else f"{incident.job} {_TITLES[incident.cause]}"
    after = "it is over" if incident.closed_at is not None else "no more reminders are sent; its end is told"
    return f"incident {short_id(incident.id)} ({what}) is acknowledged by {incident.acknowledged_by}: {after}"


def title_of(facts: Mapping[str, Any]) -> str:
    """Like `triage failed`."""
    event = NoticeEvent(facts["event"])
    match event:
        case NoticeEvent.DRILL:
            return "Drill"
        case NoticeEvent.TEST:
            return "Test"
        case NoticeEvent.REPORT:
            return f"Report of {facts['deployment']}"
        case NoticeEvent.RECOVERED:
            return f"{facts['job']} {_OVER.get(facts['cause'], 'works again')}"
    reminder = "Reminder: " if facts["reminder"] else ""
    return f"{reminder}{facts['job']} {_TITLES[event]}"


def message_of(facts: Mapping[str, Any], key: str = "") -> Message:
    """A notice for a channel of any kind."""
    return Message(text_of(facts), title=title_of(facts), html=html_of(facts), data=facts, key=key)


def digest_of(many: Sequence[Mapping[str, Any]], key: str) -> Message:
    """The notices of the quiet hours as one message, the oldest first."""
    text = digest_text(many)
    html = "<p>" + "<br>\n".join(escape(line) for line in text.split("\n")) + "</p>"
    return Message(text, title=_digest_title(many), html=html, key=key)


def text_of(facts: Mapping[str, Any]) -> str:
    """The whole notice as lines of text."""
    return "\n".join(_lines(facts))


def html_of(facts: Mapping[str, Any]) -> str:
    """The same for mail; every text in it is escaped."""
    command = str(facts["command"])
    lines = "<br>\n".join(
        f"<code>{escape(command)}</code>" if line == command else escape(line) for line in (title_of(facts), *_lines(facts)[1:])
    )
    return f"<p>{lines}</p>"


def _digest_title(many: Sequence[Mapping[str, Any]]) -> str:
    return f"{len(many)} notices since {_time(many[0]['at'])}"


def digest_text(many: Sequence[Mapping[str, Any]]) -> str:
    """The same as text."""
    lines = [_digest_title(many)]
    for facts in many[:_LISTED]:
        lines += [f"{_time(facts['at'])}  {title_of(facts)}: {facts['reason']}", f"  {facts['command']}"]
        lines += [f"  {facts['link']}"] if facts["link"] else []
    if len(many) > _LISTED:
        lines.append(f"and {len(many) - _LISTED} more: {commanded(('notices',), _root(many[0]))}")
    return "\n".join([*lines, str(many[0]["deployment"])])


def _lines(facts: Mapping[str, Any]) -> list[str]:
    lines = [f"{title_of(facts)}: {facts['reason']}"]
    about = [f"run {short_id(facts['run_id'])}" if facts["run_id"] else "", f"due at {_time(facts['fire'])}" if facts["fire"] else ""]
    if facts["count"] > 1:
        about.append(f"{facts['count']:,} times since {_time(facts['since'])}")
    lines.append(one_line(", ".join(filter(None, about)), limit=300))
    lines.append(facts["wait"])
    if "report" in facts:
        lines += _report_lines(facts["report"])
    lines.append(facts["command"])
    if facts["link"]:
        lines.append(f"or answer here, without a login: {facts['link']}")
    if facts["incident"] and facts["event"] not in (NoticeEvent.RECOVERED, NoticeEvent.DRILL):
        lines.append(f"no more reminders: {commanded(('incidents', 'ack', short_id(facts['incident'])), _root(facts))}")
    lines.append(f"{facts['deployment']}, {_time(facts['at'])}")
    return [line for line in lines if line]


def _report_lines(report: Mapping[str, Any]) -> list[str]:
    lines = [f"since {_time(report['since'])}"]
    for one in report["attention"][:_LISTED]:
        name = " ".join(filter(None, (one["kind"].replace("_", " "), one["job"])))
        lines += [one_line(f"{name}: {one['reason']}", limit=300), f"  {one['command']}"]
    if (left := len(report["attention"]) - _LISTED) > 0:
        lines.append(f"and {left} more")
    cost = report["cost_usd"]
    lines.append("cost: " + ("not all calls have a price" if cost is None else f"{cost:.4f} USD"))
    lines += [f"next: {one['job']} {_time(one['at'])}" for one in report["next"]]
    return lines


def _root(facts: Mapping[str, Any]) -> str:
    return shlex.split(facts["command"])[2]


def _time(text: str) -> str:
    """The instant by the clock of this machine."""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M %Z")


def _attention(incident: Incident, run_id: str | None = None) -> Attention:
    kind = _KINDS.get(incident.cause, AttentionKind.FAILED)
    code = incident.reason.code
    if incident.cause is NoticeEvent.APPROVAL_ASKED and code in (ReasonCode.UNCERTAIN_STEP, ReasonCode.DIVERGED_STEP):
        kind = AttentionKind.UNCERTAIN
    elif incident.cause is NoticeEvent.FIRE_BLOCKED and code is ReasonCode.JOB_BROKEN:
        kind = AttentionKind.BROKEN
    return Attention(kind, incident.job, incident.last_at, incident.reason, run_id or incident.run_id, incident.fire)


def _reason(incident: Incident) -> str:
    return attention_sentence(_attention(incident))


def _command(incident: Incident, run_id: str | None) -> tuple[str, ...]:
    if run_id is not None:
        return ("runs", "show", short_id(run_id))
    return attention_command(_attention(incident))


_ENDINGS: Final = {
    NoticeEvent.APPROVAL_ASKED: "the question is answered, or the run has ended",
    NoticeEvent.JOB_PAUSED: "the pause was ended",
}


def _ending(incident: Incident) -> str:
    ended = _ENDINGS.get(incident.cause, "a run has succeeded")
    return f"{ended}; before: {_TITLES[incident.cause]}, {_reason(incident)}"


def _wait(incident: Incident, next_fire: datetime | None) -> str:
    """What it costs to wait."""
    cause, until = incident.cause, incident.reason.facts.get("expires_at")
    due = None if next_fire is None else next_fire.astimezone().strftime("%Y-%m-%d %H:%M %Z")
    match cause:
        case NoticeEvent.APPROVAL_ASKED | NoticeEvent.APPROVAL_EXPIRING if until:
            return f"Without an answer it is denied at {_time(str(until))}" + (f"; the job is due again at {due}." if due else ".")
        case NoticeEvent.APPROVAL_ASKED:
            return "The run waits for your answer" + (f"; the job's next time, {due}, may be skipped until then." if due else ".")
        case NoticeEvent.JOB_PAUSED:
            return "Until the job is resumed, none of its scheduled times runs."
        case NoticeEvent.FIRE_BLOCKED:
            return f"The next time, {due}, will be blocked too unless this is fixed." if due else "It cannot start until this is fixed."
        case _:
            return f"It is due again at {due}." if due else "It is not scheduled: it does not run again by itself."
