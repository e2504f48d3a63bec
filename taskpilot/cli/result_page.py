"""What a run came to, as `run` and `runs resume` print it."""

import json

from taskpilot.cli import output, run_page, words
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.text import one_line
from taskpilot.operations.house import House
from taskpilot.operations.running import Finished
from taskpilot.operations.runs import show_run
from taskpilot.operations.shapes import summary_json

SKIPS = frozenset({ExitCode.SKIPPED, ExitCode.SKIPPED_OVERLAP})


def tell(house: House, finished: Finished, *, as_json: bool, quiet: bool, skip_ok: bool = False) -> int:
    """Prints the result, as JSON or for people, and gives the exit code."""
    code = finished.exit_code
    if as_json:
        output.print_json_line(summary_json(finished.summary))
    elif quiet:
        if code is not ExitCode.SUCCEEDED and code not in SKIPS:
            output.whisper(cause(finished))
    else:
        _page(house, finished)
    return int(ExitCode.SUCCEEDED) if skip_ok and code in SKIPS else int(code)


def cause(finished: Finished) -> str:
    """One line that names the job and why it did not succeed, and where to look."""
    summary = finished.summary
    why = one_line(summary.reason, limit=400) or finished.exit_code.meaning
    where = f"; look: taskpilot runs show {summary.run_id}" if summary.run_id else ""
    return f"taskpilot: {summary.job}: {summary.status}: {why}{where}"


def _page(house: House, finished: Finished) -> None:
    summary = finished.summary
    if summary.run_id is None or finished.exit_code in SKIPS:
        output.say(f"{summary.job}: {summary.status}")
    else:
        if summary.result is not None:
            output.say(summary.result if isinstance(summary.result, str) else json.dumps(summary.result, ensure_ascii=False, indent=2))
            output.say()
        detail = show_run(house, summary.run_id)
        if detail.tasks:
            run_page.tasks_table(detail.tasks, summary.run_id)
            output.say()
        why = f": {one_line(detail.run.detail, limit=500)}" if detail.run.detail else ""
        output.tell(f"{summary.job} {summary.status} in {words.duration(summary.duration_seconds)}{why}")
        output.say(f"cost: {run_page.cost(detail.run.spend, detail.run.model)}")
    for line in "\n".join(finished.notes).splitlines():
        # A command to copy stays on its line.
        (output.say if line.startswith("taskpilot ") else output.tell)(line)
