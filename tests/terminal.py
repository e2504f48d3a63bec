"""The program on a terminal of its own: what a person gets to see, escape sequences included."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import NamedTuple

from tests import warm

HERE = Path(__file__).parents[1]
_OF_COLOUR = ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLORTERM", "COLUMNS", "LINES")


class Shown(NamedTuple):
    """How it ended, and all that the terminal was sent."""

    code: int
    text: str


def on_terminal(folder: Path, *arguments: str, columns: int = 80, rows: int = 24, **environment: str) -> Shown:
    """Runs `taskpilot` in a folder on a terminal of this size, with these variables; TERM is xterm unless named."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in _OF_COLOUR}
    variables = {**inherited, "TERM": "xterm", **environment}
    started: warm.Started | subprocess.Popen[bytes]
    if warm.starts_cold(environment, folder):
        line = [sys.executable, "-m", "taskpilot", *arguments]
        variables["PYTHONPATH"] = str(HERE)
        started = subprocess.Popen(line, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=variables)
    else:
        started = warm.start(arguments, files=(theirs, theirs, theirs), environment=variables, cwd=folder)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux's way to say that the other side is closed.
            break
        if not part:
            break
        shown += part
    os.close(ours)
    return Shown(started.wait(60), shown.decode().replace("\r\n", "\n"))
