"""The root: found, and in nobody else's hands."""

from pathlib import Path

from taskpilot.domain.errors import ConfigurationError
from taskpilot.operations.doctor.findings import Code, Finding
from taskpilot.settings import SETTINGS_FILE, check_trusted, find_root


def examine_root(cwd: Path | None, explicit: Path | None) -> Finding:
    """Whether there is a root for work that starts in `cwd`, and whether it can be trusted."""
    try:
        start = Path.cwd() if cwd is None else cwd
    except OSError:
        return Finding(Code.ROOT_INVALID, "the current folder is gone", "change into one that exists")
    try:
        root = find_root(start, explicit)
    except ConfigurationError as error:
        sentence, _separator, mend = str(error).rpartition("; ")
        return Finding(Code.ROOT_INVALID, sentence or mend, mend if sentence else "correct it, or name another root by --root")
    if root is None:
        return Finding(
            Code.ROOT_NONE,
            f"no TaskPilot root in {start} or above: no {SETTINGS_FILE}, and no pyproject.toml with [tool.taskpilot]",
            "taskpilot --root /path/to/project doctor; `taskpilot init DIR` makes a new one",
        )
    try:
        check_trusted(root)
    except ConfigurationError as error:
        sentence, _separator, mend = str(error).partition("; ")
        return Finding(Code.ROOT_UNTRUSTED, sentence, mend)
    how = "named by --root" if explicit is not None else "the current folder" if root == start.resolve() else f"above {start}"
    return Finding(Code.ROOT_OK, f"{root}, {how}")
