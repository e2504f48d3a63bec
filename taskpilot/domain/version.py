"""The version of TaskPilot that runs."""

from functools import cache


@cache
def installed_version() -> str:
    """As its package says; "unknown" where it runs from a folder that was never installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("taskpilot")
    except PackageNotFoundError:
        return "unknown"
