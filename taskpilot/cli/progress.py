"""Shows the progress of a run on stderr, if that is a terminal; uses no thread."""

import sys
from typing import Any

from taskpilot.cli import formatting
from taskpilot.domain.runs import Run
from taskpilot.domain.text import one_line
from taskpilot.domain.times import utc_now
from taskpilot.services.attempts import Display, NoDisplay


class LiveDisplay:
    """One line on stderr that each update replaces; removed at the end."""

    def __init__(self) -> None:
        self._live: Any = None

    def update(self, run: Run) -> None:
        """Draws the progress. A closed terminal ends the display, not the run."""
        from rich.text import Text

        try:
            if self._live is None:
                self._live = self._start()
            self._live.update(Text(line_of(run), no_wrap=True, overflow="ellipsis"), refresh=True)
        except OSError:
            self._live = None

    def close(self) -> None:
        """Removes the line."""
        live, self._live = self._live, None
        if live is not None:
            try:
                live.stop()
            except OSError:
                return

    def _start(self) -> Any:
        from rich.console import Console
        from rich.live import Live

        console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
        # No thread and no replaced stream: the supervisor forks.
        live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False, transient=True)
        live.start()
        return live


def display_for(*, quiet: bool) -> Display:
    """A live line if stderr is a terminal, else nothing."""
    return LiveDisplay() if not quiet and sys.stderr is not None and sys.stderr.isatty() else NoDisplay()


def line_of(run: Run) -> str:
    """The progress of a run on one line."""
    begun = run.started_at or run.created_at
    parts = [f"{run.job} {run.status.value}", formatting.duration((utc_now() - begun).total_seconds())]
    if run.attempts > 1:
        parts.append(f"attempt {run.attempts}")
    if run.progress_done is not None:
        parts.append(f"{run.progress_done}/{run.progress_total}" if run.progress_total else f"{run.progress_done} done")
    parts += [formatting.count(run.spend.llm_calls, "call"), f"{run.spend.usage.total:,} tokens", formatting.usd(run.spend.cost_nano)]
    return one_line(" · ".join(parts))
