"""`python -m taskpilot`, the same program as `taskpilot`."""

import sys

from taskpilot.cli.program import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
