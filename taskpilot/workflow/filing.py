"""`create_task` outside of an execution: a pending row, for people; this workflow never executes it."""

from collections.abc import Callable
from datetime import datetime

from taskpilot.context import scope
from taskpilot.domain.identity import new_id
from taskpilot.domain.runs import Run
from taskpilot.domain.tasks import Priority, Task, TaskStatus
from taskpilot.journal.journal import Journal


class PendingTasks:
    """Files what a job's own code asks for."""

    def __init__(self, journal: Journal, run: Run, now: Callable[[], datetime]) -> None:
        self._journal = journal
        self._run = run
        self._now = now

    def file(self, title: str, priority: str, description: str) -> str:
        """Records a pending task once for its place in the run; gives what the caller is told."""
        path = scope.current().child_path("filed")
        if self._journal.task_at(path) is None:
            now = self._now()
            self._journal.propose(
                Task(
                    id=new_id(),
                    run_id=self._run.id,
                    job=self._run.job,
                    scope=path,
                    title=title,
                    priority=Priority(priority),
                    description=description,
                    status=TaskStatus.PENDING,
                    reason="filed by the job",
                    created_at=now,
                    updated_at=now,
                )
            )
        return f"filed: {title} ({priority})"
