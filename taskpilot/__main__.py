"""`python -m taskpilot`, the same program as `taskpilot`."""

import gc
import sys
from typing import Final

from taskpilot.cli import program

__all__ = ["main"]

_COLLECT_EVERY: Final = 50_000
"""New objects between two collections. Imports make half a million that stay: at Python's own 700, walking them again and again
was a tenth of a run's CPU. A process that works for hours is still collected, only in larger portions."""


def main() -> int:
    """Runs the command line that was typed, and gives its exit code."""
    gc.set_threshold(_COLLECT_EVERY, 10, 10)
    code = program.main()
    # The process ends: what is left is the system's to take back, and three last collections of it would cost 80 ms.
    gc.freeze()
    return code


if __name__ == "__main__":
    sys.exit(main())
