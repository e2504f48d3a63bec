"""Makes the pictures of README and docs from real runs: `python -m tests.picture [terminal] [page] [dashboards]`; without a name, all.

The page and the dashboards need chromium. No Grafana can be started here: the dashboards are drawn from their own JSON and from what their
queries find in a real Prometheus after real runs (`tests/integration/grafana`).
"""

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

from tests.servers.debian import require

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


NIGHT: Final = '''\
from taskpilot import Budget, RunContext, cron, every, job


@job(schedule=cron("0 7 * * mon-fri", timezone="Europe/Berlin"), model="offline")
def inbox(ctx: RunContext) -> str:
    """Sort the inbox."""
    ctx.workflow("The printer on floor 2 is out of paper")
    return "1 request handled"


@job(schedule=cron("30 6 * * *", timezone="Europe/Berlin"), model="offline")
def refunds(ctx: RunContext) -> str:
    """Prepare refunds."""
    ctx.workflow("Refund 2,000 EUR to customer 4711")
    return "1 refund prepared"


@job(schedule=cron("0 2 * * *", timezone="Europe/Berlin"))
def export(ctx: RunContext) -> str:
    """Export the tickets."""
    raise RuntimeError("no route to the tracker")


@job(schedule=every("6h"), budget=Budget(llm_calls=1), model="offline")
def digest(ctx: RunContext) -> str:
    """Write the digest."""
    return ctx.ask("writer", "one") + ctx.ask("writer", "two")
'''


def page(target: Path) -> None:
    """The page of a server after some runs."""
    from tests.acceptance.serving.server import Server
    from tests.command import TaskPilot

    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "my-jobs")
        (root / "jobs").mkdir(parents=True)
        command = TaskPilot(root, Path(name), TASKPILOT_DEPLOYMENT="office", LANG="C.UTF-8")
        command.settings("")
        command.job(NIGHT, name="night")
        with Server(command) as server:
            for job in ("inbox", "inbox", "refunds", "export", "digest", "inbox"):
                command("run", job)
            (address,) = set(re.findall(r"http://127\.0\.0\.1:\d+", server.said()))
            shot(address, target, width=1_200, height=760)


def dashboards(folder: Path) -> None:
    """The first screens of two dashboards."""
    from tests.integration.grafana.pictures import draw
    from tests.integration.grafana.story import told

    with tempfile.TemporaryDirectory() as name, told(Path(name)) as story:
        draw(story.prometheus.url, Path(name, "drawn"), start=story.began, end=story.ended)
        for file in ("run_history", "tokens_and_cost"):
            shot(Path(name, "drawn", f"{file}.html").as_uri(), folder / f"{file}.png", width=1_680, height=1_000, scale=0.6)


def shot(address: str, target: Path, *, width: int, height: int, scale: float = 1.0) -> None:
    """What Chromium shows, as PNG."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--force-device-scale-factor={scale}"]
    line = [require("chromium", "chromium"), *options, f"--window-size={width},{height}", f"--screenshot={target}", address]
    subprocess.run(line, check=True, capture_output=True, timeout=300)


def main() -> None:
    """The command."""
    wanted = sys.argv[1:] or ["terminal", "page", "dashboards"]
    if "terminal" in wanted:
        PICTURE.write_text("\n".join(line.rstrip() for line in picture().splitlines()) + "\n", encoding="utf-8")
    if "page" in wanted:
        page(PICTURE.with_name("page.png"))
    if "dashboards" in wanted:
        dashboards(PICTURE.parent)


if __name__ == "__main__":
    main()
