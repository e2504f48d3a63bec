"""What a person should know of, in words, each with the one command that goes on from there."""

import shlex
from collections.abc import Sequence

from taskpilot.domain.attention import Attention, AttentionKind
from taskpilot.domain.ids import short_id
from taskpilot.domain.reasons import ReasonCode
from taskpilot.domain.times import utc_iso
from taskpilot.messages.reasons import reason_sentence

_NOW = frozenset({AttentionKind.WAITING, AttentionKind.UNCERTAIN, AttentionKind.PAUSED, AttentionKind.BROKEN})
"""Kinds whose reason still holds."""


def attention_sentence(one: Attention) -> str:
    """Why, as a clause; with how many there were."""
    reason = reason_sentence(one.reason, now=one.kind in _NOW or (one.kind is AttentionKind.BLOCKED and one.at is None))
    parts = [reason or one.kind.value.replace("_", " ")]
    if one.count > 1:
        parts.append(f"{one.count:,} in all")
    if one.skipped:
        parts.append(f"{one.skipped:,} scheduled {'time' if one.skipped == 1 else 'times'} skipped meanwhile")
    if one.settled:
        parts.append(_SETTLED[one.kind])
    return "; ".join(filter(None, parts))


_RUN_AFTER = "a later run succeeded"
_SETTLED = {
    **dict.fromkeys(AttentionKind, _RUN_AFTER),
    AttentionKind.MISSED: "a later one was started",
    AttentionKind.BLOCKED: "a later one was started",
    AttentionKind.PAUSED: "",
    AttentionKind.NOTICE_FAILED: "",
    AttentionKind.CLOCK: "",
}


def attention_words(one: Attention) -> str:
    """What happened and why, to follow a job's name."""
    kind = one.kind.value.replace("_", " ")
    when = utc_iso(one.fire, timespec="seconds") if one.fire and one.kind in (AttentionKind.MISSED, AttentionKind.BLOCKED) else ""
    return f"{' '.join(filter(None, (kind, when)))}: {attention_sentence(one)}"


def commanded(words: Sequence[str]) -> str:
    """The line of a command, for a person whose folder is not known."""
    return shlex.join(("taskpilot", *words))


def attention_command(one: Attention) -> tuple[str, ...]:
    """The words after `taskpilot`."""
    job = one.job or ""
    match one.kind:
        case AttentionKind.LOST if one.run_id and not one.settled:
            return ("runs", "resume", short_id(one.run_id))
        case AttentionKind.BROKEN:
            return ("jobs", "validate")
        case AttentionKind.PAUSED:
            return ("jobs", "resume", job)
        case AttentionKind.NOTICE_FAILED:
            return ("notices", "--result", "failed,unknown")
        case AttentionKind.CLOCK:
            return ("health",)
        case AttentionKind.BLOCKED if one.reason.code is ReasonCode.CONFIGURATION and not one.settled:
            return ("doctor",)
        case AttentionKind.MISSED if not one.settled:
            return ("run", job)
        case _ if one.run_id:
            return ("runs", "show", short_id(one.run_id))
        case _ if one.fire:
            return ("why", job, "--at", utc_iso(one.fire))
        case _:
            return ("why", job)
