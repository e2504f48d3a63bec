"""The version of TaskPilot."""

from functools import cache


@cache
def version() -> str:
    """The version that is installed; "unknown" where the package runs without being installed."""
    # Late: a command that shows no version does not pay for it.
    from importlib import metadata

    try:
        return metadata.version("taskpilot")
    except metadata.PackageNotFoundError:
        return "unknown"
