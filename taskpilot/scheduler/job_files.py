"""Reads the job files beside the scheduler's loop: a file that takes ten seconds holds up no tick."""

import threading
from collections.abc import Callable
from contextlib import suppress

from taskpilot.deployment import Deployment, compile_policy
from taskpilot.domain.errors import ConfigurationError
from taskpilot.jobs.catalog import JobCatalog

Found = JobCatalog | ConfigurationError
"""The jobs, or why the folder cannot be read."""


class JobFiles:
    """The job files of a deployment. Until `start` they are read where `request` is called; after it, in a thread of its own."""

    def __init__(self, deployment: Deployment, wake: Callable[[], None] = lambda: None) -> None:
        self._deployment = deployment
        self._wake = wake
        self._asked = threading.Event()
        self._again = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.newest: Found | None = None
        """Another object where something has changed; partly loaded while files are being loaded."""
        self.settled = threading.Event()
        """Set when all files have been read once."""

    def start(self) -> None:
        """Reads in a thread from here on."""
        self._thread = threading.Thread(target=self._run, name="taskpilot-job-files", daemon=True)
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Ends the thread, and kills the processes that load files."""
        self._stopping.set()
        self._asked.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def request(self, *, again: bool = False) -> None:
        """Reads what has changed; `again`: also the files that were broken."""
        self._again = self._again or again
        if self._thread is None:
            self._read()
        else:
            self._asked.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._asked.wait()
            self._asked.clear()
            if not self._stopping.is_set():
                self._read()

    def _read(self) -> None:
        again, self._again = self._again, False
        # Here and not in the loop, which then finds it tried or refused; it tells why.
        with suppress(ConfigurationError):
            if self._thread is not None and self._deployment.settings.policy_files:
                compile_policy(self._deployment.settings)
        try:
            self._tell(self._deployment.job_folder.read(again=again, progress=self._tell, stop=self._stopping.is_set))
        except ConfigurationError as error:
            self._tell(error)
        except OSError as error:
            # A file or folder that cannot be read at this moment: the old definitions hold, and it is tried again.
            self._tell(self.newest or ConfigurationError(f"the job files cannot be read: {error}"))
        self.settled.set()

    def _tell(self, found: Found) -> None:
        if found is not self.newest and found != self.newest:
            self.newest = found
            self._wake()
