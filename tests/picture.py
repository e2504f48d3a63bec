"""Makes the README's picture of a terminal from a real run: `python -m tests.picture`."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from io import StringIO
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

REPOSITORY: Final = Path(__file__).parents[1]
PICTURE: Final = REPOSITORY / "taskpilot/docs/terminal.svg"
COLUMNS: Final = 100
REQUESTS: Final = "The printer on floor 2 is out of paper\nRefund 2,000 EUR to customer 4711\nDrop table orders_old in production\n"
# rich's own frame loads a font from the network, and its id changes with every run.
FRAME: Final = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="a run in a terminal">
<style>.{unique_id}-matrix {{ font-family: monospace; font-size: {char_height}px; line-height: {line_height}px }}
.{unique_id}-title {{ font-family: sans-serif; font-size: 18px }}
{styles}</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}" /></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""


def shown_by(folder: Path, *arguments: str) -> str:
    """What `taskpilot` prints on a terminal of our width; the progress on stderr, which is gone at the end of a run, is left out."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(REPOSITORY), "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [sys.executable, "-m", "taskpilot", *arguments],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.DEVNULL, env={**environment, "OTEL_ENABLED": "false"},
    )  # fmt: skip
    os.close(theirs)
    parts = []
    # Linux answers EIO where the other side is closed.
    while part := _read(ours):
        parts.append(part)
    os.close(ours)
    process.wait()
    return b"".join(parts).decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""


def picture() -> str:
    """The job of the README run in a folder of its own, as SVG."""
    (job,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    screen = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "taskpilot.toml").touch()
        (folder / "jobs").mkdir()
        (folder / "jobs/night_shift.py").write_text(job, encoding="utf-8")
        (folder / "inbox.txt").write_text(REQUESTS, encoding="utf-8")
        for command in ("run night_shift --model offline", "jobs next night_shift -n 2"):
            text = shown_by(folder, *command.split())
            screen.print(Text(f"$ taskpilot {command}", style="bold"), Text.from_ansi(text.rstrip()), Text(), sep="\n")
    return screen.export_svg(title="night-shift", theme=MONOKAI, code_format=FRAME, unique_id="terminal")


if __name__ == "__main__":
    PICTURE.write_text("\n".join(line.rstrip() for line in picture().splitlines()) + "\n", encoding="utf-8")
