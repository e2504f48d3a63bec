"""What a person says of a run's result."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class FeedbackVerdict(StrEnum):
    """Whether the result was right."""

    CORRECT = "correct"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Feedback:
    """The word on one run that holds; a later one takes its place."""

    run_id: str
    verdict: FeedbackVerdict
    given_by: str
    given_at: datetime
    note: str = ""
