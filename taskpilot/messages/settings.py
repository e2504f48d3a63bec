"""The settings in words."""

from collections.abc import Sequence


def dotenv_refused(names: Sequence[str]) -> str:
    """What `.env` may not set."""
    return f".env sets {', '.join(names)}, which only the environment may set; ignored"
