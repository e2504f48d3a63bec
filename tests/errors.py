"""What an error says together with what it tells to do: `pytest.raises(StoreError, check=saying("damaged.*db backup"))`."""

import re
from collections.abc import Callable

from taskpilot.domain.errors import TaskPilotError


def saying(pattern: str) -> Callable[[TaskPilotError], bool]:
    """Whether the pattern is found in an error's sentence and hint, on one line."""
    return lambda error: re.search(pattern, error.one_line) is not None
