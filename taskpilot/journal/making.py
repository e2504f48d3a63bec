"""A step on its way into the journal, before it has an id in the store's eyes."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from taskpilot.domain.identity import new_id
from taskpilot.domain.steps import Step, StepPlace, StepStatus
from taskpilot.domain.text import storable
from taskpilot.store.records import dumps

INPUT_KEPT: Final = 64_000
"""Characters of a step's input that are kept for people to read; the digest, not this text, identifies a step."""
ERROR_KEPT: Final = 2_000
"""Characters of an error's text that are recorded."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A step that may now have its effect, until the lease that it was begun under ends."""

    step: Step
    lease_until: datetime


def new_step(place: StepPlace, status: StepStatus, value: Any, *, run_id: str, attempt: int, before: Step | None, now: datetime) -> Step:
    """A step that stands at this place; `before` is its making in an earlier attempt."""
    text = "" if value is None else dumps(value)
    return Step(
        id=new_id(),
        run_id=run_id,
        attempt=attempt,
        scope=place.scope,
        kind=place.kind,
        name=place.name,
        ordinal=place.ordinal,
        key=place.key,
        make=0 if before is None else before.make + 1,
        status=status,
        input=value if len(text) <= INPUT_KEPT else {"too_long": text[:1000]},
        result=None,
        error=None,
        error_type=None,
        started_at=now,
        ended_at=None,
    )


def error_text(error: BaseException | None, *, mask: Callable[[str], str] = str, limit: int | None = ERROR_KEPT) -> str | None:
    """What is kept of an error, without the secrets that its words may say back."""
    return None if error is None else storable(mask(str(error))[:limit])
