"""Shows the progress of a run on stderr, if that is a terminal; uses no thread."""

import sys
from typing import Any

from taskpilot.cli import formatting, output, run_pages
from taskpilot.deployment import Deployment
from taskpilot.domain.runs import Run
from taskpilot.domain.text import one_line
from taskpilot.domain.times import utc_now
from taskpilot.services.attempts import Display, NoDisplay
from taskpilot.telemetry.logs import RUN_FILE
from taskpilot.views.runs import OUTPUT_LOG, GrowingFile, log_line, output_line


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

    def close(self, run: Run) -> None:
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


class FollowedLog:
    """Prints each line of the run's log and of what its process prints to stderr."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._log: GrowingFile | None = None
        self._output: GrowingFile | None = None

    def update(self, run: Run) -> None:
        """Prints what is new."""
        self._print(run, whole=True)

    def close(self, run: Run) -> None:
        """Prints the rest."""
        self._print(run, whole=False)

    def _print(self, run: Run, *, whole: bool) -> None:
        if self._log is None or self._output is None:
            folder = self._deployment.run_dir(run.id)
            self._log, self._output = GrowingFile(folder / RUN_FILE), GrowingFile(folder / OUTPUT_LOG)
        for raw in self._log.lines(whole=whole):
            output.echo_err_line(run_pages.log_entry(log_line(raw)))
        for raw in self._output.lines(whole=whole):
            output.echo_err_line(output_line(self._deployment, raw))


def display_for(*, quiet: bool, followed: Deployment | None = None) -> Display:
    """A live line if stderr is a terminal, or the log of the run of a deployment that is `followed`, else nothing."""
    if followed is not None:
        return FollowedLog(followed)
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
