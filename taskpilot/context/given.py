"""What a map or a workflow is given, compared with what it was given in an earlier attempt.

Each item keeps the scope in which it was worked on, wherever it stands now. A changed item is new work, in a scope of its own. Where the
item that stood in its place is gone and its work had effects, nobody can tell whether the two are the same: a person is asked.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from taskpilot.context.scope import Scope, current, digest_of
from taskpilot.context.serialization import digestible
from taskpilot.context.session import Session
from taskpilot.domain.errors import ToolFailed, Waiting
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.steps import StepKind, StepStatus
from taskpilot.domain.text import one_line

_DIGEST: Final = 16
"""Characters of a digest: enough to tell the items of a run apart."""
_SHOWN: Final = 500
"""Characters of a changed item in the question about it."""

Place = str | ToolFailed | Waiting
"""The scope of an item; or why it is not worked on."""


def workflow_place(session: Session, request: str) -> str:
    """The scope of the next workflow of the current scope. Raises Waiting or ToolFailed."""
    around = current()
    digest = _digest(request)
    recorded = session.journal.given

    def at(number: int) -> str:
        return f"{around.path}/workflow.{number}"

    def pick(ordinal: int, taken: set[int]) -> int:
        if recorded.get(at(ordinal)) == digest and ordinal not in taken:
            return ordinal
        if not recorded and ordinal not in taken:
            return ordinal
        known: dict[int, Any] = {}
        while at(len(known)) in recorded:
            known[len(known)] = recorded[at(len(known))]
        same = next((number for number, one in known.items() if one == digest and number not in taken), None)
        if same is not None:
            return same
        if ordinal not in known and ordinal not in taken:
            return ordinal
        if ordinal not in taken and (refused := _changed(session, at(ordinal), digest, request, "workflow")) is not None:
            raise refused
        return next(number for number in range(len(known) + len(taken) + 1) if number not in known and number not in taken)

    found = around.pick("workflow", pick)
    _record(session, found, digest)
    return found


def item_places(session: Session, path: str, items: Sequence[Any]) -> list[Place]:
    """The scope of each item of the map at this path."""
    digests = [_digest(digestible(item)) for item in items]
    known = list(session.journal.given.get(path) or ())
    numbers: list[int | None] = [index if index < len(known) and known[index] == one else None for index, one in enumerate(digests)]
    gone = _by_digest(known, taken={number for number in numbers if number is not None})
    for index, one in enumerate(digests):
        if numbers[index] is None and gone.get(one):
            numbers[index] = gone[one].pop(0)
    vanished = {number for left in gone.values() for number in left}
    places: list[Place] = []
    table = list(known)
    for index, (number, one) in enumerate(zip(numbers, digests, strict=True)):
        refused = None
        if number is None and index in vanished:
            refused = _changed(session, f"{path}[{index}]", one, digestible(items[index]), "map")
        if number is None and refused is None:
            table.append(one)
        places.append(refused or f"{path}[{len(table) - 1 if number is None else number}]")
    if table != known or path not in session.journal.given:
        _record(session, path, table)
    return places


def _by_digest(known: Sequence[str], *, taken: set[int]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number, digest in enumerate(known):
        if number not in taken:
            found.setdefault(digest, []).append(number)
    return found


def _changed(session: Session, path: str, digest: str, item: Any, noun: str) -> ToolFailed | Waiting | None:
    """Why the changed item at this place is not worked on; None where it is new work."""
    place = Scope(path).place(StepKind.GIVEN, "changed", digest)
    step = session.journal.recorded(place)
    if step is not None and step.status is StepStatus.RETRY_REQUESTED:
        return None
    if step is not None and step.status is StepStatus.FAILED:
        return ToolFailed("a person said that this changed item is not to be worked on")
    if step is None:
        if not session.journal.effects_below(path):
            return None
        shown = one_line(item if isinstance(item, str) else json.dumps(item, ensure_ascii=False), limit=_SHOWN)
        step = session.journal.note(place, StepStatus.DIVERGED, value={noun: shown})
    return session.waiting(Reason(ReasonCode.DIVERGED_STEP, {"run_id": step.run_id, "step_id": step.id, "item": noun}), "item-changed")


def _record(session: Session, path: str, digests: Any) -> None:
    place = Scope(path).place(StepKind.GIVEN, "given", digests)
    if session.journal.recorded(place) is None:
        session.journal.note(place, StepStatus.SUCCEEDED, result=digests)


def _digest(value: Any) -> str:
    return digest_of(value)[:_DIGEST]
