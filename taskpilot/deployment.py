"""One project folder with its settings, store, jobs, policy and clock, each opened at its first use."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Final

from taskpilot.config import Settings, reread
from taskpilot.config.secrets import secrets_of
from taskpilot.domain.errors import ConfigurationError, TaskPilotError
from taskpilot.domain.runs import Owner
from taskpilot.domain.specs import JobSpec
from taskpilot.domain.times import BootTime, boot_time, utc_now
from taskpilot.domain.version import version
from taskpilot.files import atomic_write
from taskpilot.jobs.catalog import JobCatalog
from taskpilot.jobs.folder import JobFolder
from taskpilot.ledger.fires import Fires
from taskpilot.ledger.ledger import Ledger
from taskpilot.ledger.queue import Queue
from taskpilot.policy import PolicyReport, RegoPolicy, check_apart
from taskpilot.process.owner import current_owner, is_gone
from taskpilot.store.creation import is_missing
from taskpilot.store.database import Store
from taskpilot.store.totals import Change
from taskpilot.telemetry.gateway import Gateway
from taskpilot.telemetry.redaction import Redactor

_TRIED_FILE: Final = "policy_tried"
"""In the state dir: the digest of the policies that were compiled and tried last."""
_REFUSED_SECONDS: Final = 60.0
_refused: Final[dict[str, tuple[float, ConfigurationError]]] = {}
"""The policies that were refused, and when: a server must not try one that never ends at each of its checks."""

_current: "Deployment | None" = None


def current_deployment() -> "Deployment | None":
    """The deployment whose job this process runs, where it runs one."""
    return _current


class Deployment:
    """One project folder with its settings, store, jobs and clock."""

    def __init__(
        self,
        settings: Settings,
        *,
        now: Callable[[], datetime] = utc_now,
        boot: Callable[[], BootTime] = boot_time,
        built_in: Callable[[Settings], Sequence[JobSpec]] = lambda _settings: (),
    ) -> None:
        self.settings = settings
        self.now = now
        self.boot = boot
        self._built_in = built_in
        self._kept_secrets: tuple[str, ...] = ()
        self.on_change: Callable[[frozenset[Change]], None] = lambda _changes: None
        """Called after each commit that changed a job's ledger, by the thread that wrote."""

    def follow_settings(self, settings: Settings | None = None) -> None:
        """From here on, the settings as they are now, or the given ones. Raises ConfigurationError, and the former ones stay."""
        self.settings = settings or reread(self.settings)
        self.__dict__.pop("redactor", None)

    @cached_property
    def store(self) -> Store:
        """The store; made at its first use. Raises StoreError, StoreBusy or ConfigurationError."""
        busy_seconds = min(5.0, self.settings.lease_seconds / 6)
        store = Store.open(self.settings.state_dir, deployment=self.settings.deployment, busy_seconds=busy_seconds)
        # Not bound now: `on_change` may be set later.
        store.on_change = lambda changes: self.on_change(changes)  # noqa: PLW0108
        if "job_folder" in vars(self):
            # What was loaded before there was a state dir.
            self.job_folder.save()
        # Set already: the ledger uses it.
        vars(self)["store"] = store
        # Without a server too, a question ends in time: the next process, whichever it is, records that. A store that cannot be written is
        # told where it matters.
        with suppress(TaskPilotError):
            self.ledger.expire()
        return store

    @property
    def store_is_open(self) -> bool:
        """Whether `store` was used."""
        return "store" in vars(self)

    @property
    def store_is_missing(self) -> bool:
        """No store exists yet; a read-only command does not create one. False for an open store whose file was deleted."""
        return not self.store_is_open and is_missing(self.settings.state_dir)

    @cached_property
    def job_folder(self) -> JobFolder:
        """The job files, which only processes of their own import."""
        settings = self.settings
        return JobFolder(
            settings.jobs_dir,
            root=settings.root,
            state_dir=settings.state_dir,
            # Not bound now: the settings may change.
            mask=lambda text: self.redactor.masked(text),  # noqa: PLW0108
            drop_environment=settings.withheld,
        )

    @cached_property
    def catalog(self) -> JobCatalog:
        """The jobs of the root, the built-in ones, and the files that are broken; changed files are loaded."""
        return self.with_built_in(self.job_folder.read())

    @property
    def known_catalog(self) -> JobCatalog:
        """The same as far as it is known without loading a job file."""
        return self.catalog if "catalog" in vars(self) else self.with_built_in(self.job_folder.known())

    def job(self, name: str) -> JobSpec:
        """A job by its name; of the changed files, only those that seem to define it are loaded.

        Raises UsageError if there is none, or ConfigurationError if its file is broken.
        """
        found = self.with_built_in(self.job_folder.find(name))
        return (found if found.knows(name) else self.reread_jobs()).get(name)

    def reread_jobs(self) -> JobCatalog:
        """The catalog of the folder as it is now, from here on. Raises ConfigurationError, and the old one stays."""
        return self.use_catalog(self.job_folder.read())

    def use_catalog(self, found: JobCatalog) -> JobCatalog:
        """From here on, the catalog is this one with the built-in jobs."""
        # In one step: other threads read it.
        self.__dict__["catalog"] = found = self.with_built_in(found)
        return found

    def with_built_in(self, found: JobCatalog) -> JobCatalog:
        """A catalog of the folder with the built-in jobs."""
        return found.with_built_in(self._built_in(self.settings))

    @cached_property
    def owner(self) -> Owner:
        """This process, as the owner of leases."""
        return current_owner()

    @property
    def ledger(self) -> Ledger:
        """Claims, leases and ends of runs."""
        return Ledger(
            self.store, owner=self.owner, is_gone=is_gone, lease_seconds=self.settings.lease_seconds, now=self.now, boot=self.boot
        )

    @property
    def fires(self) -> Fires:
        """Claims of what is due."""
        return Fires(self.store, is_gone=is_gone, now=self.now, boot=self.boot)

    @property
    def queue(self) -> Queue:
        """The queue of what is to start."""
        return Queue(self.store, is_gone=is_gone, now=self.now, boot=self.boot, places=self.settings.max_concurrent_runs)

    @property
    def gateway(self) -> Gateway | None:
        """The Pushgateway of the settings; None where none is set."""
        url = self.settings.pushgateway_url
        return None if url is None else Gateway(self.store, url, self.settings.state_dir, self.now, self.redactor.masked)

    @cached_property
    def redactor(self) -> Redactor:
        """Removes the secrets of the settings from texts and values."""
        return Redactor(self.secrets)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets of the settings, and those of this process."""
        return (*secrets_of(self.settings), *self._kept_secrets)

    def keep_secret(self, *secrets: str) -> None:
        """From here on, these are masked too: the server's own token and the code of its login link."""
        self._kept_secrets = tuple(dict.fromkeys((*self._kept_secrets, *secrets)))
        self.__dict__.pop("redactor", None)

    def run_dir(self, run_id: str) -> Path:
        """The folder of a run: its log, output, inputs and artifacts. The id must be a checked one."""
        return self.settings.state_dir / "runs" / run_id

    def make_run_dir(self, run_id: str) -> Path:
        """That folder, made (0700) where it is missing."""
        folder = self.run_dir(run_id)
        for each in (folder.parent, folder):
            each.mkdir(mode=0o700, exist_ok=True)
        return folder

    def make_current(self) -> None:
        """From here on, `current_deployment` in this process gives this one: a job's process belongs to one."""
        global _current  # noqa: PLW0603  one process runs one job
        _current = self

    def close(self) -> None:
        """Closes the store, and is no longer the current deployment."""
        global _current  # noqa: PLW0603  as above
        if _current is self:
            _current = None
        if self.store_is_open:
            self.store.close()


def check_policy(settings: Settings) -> PolicyReport:
    """Evaluates the policies for known calls. Raises ConfigurationError that names file and line where one does not compile."""
    return check_apart(policy_of(settings), settings.root)


def compile_policy(settings: Settings) -> None:
    """Compiles and tries the policies, unless the same texts were tried before. Raises ConfigurationError that names file and line."""
    policy = policy_of(settings)
    known, mark = settings.state_dir / _TRIED_FILE, f"{version()} {policy.fingerprint}"
    with suppress(OSError, UnicodeDecodeError):
        if known.read_text("utf-8") == mark:
            return
    at, refused = _refused.get(mark, (0.0, None))
    if refused is not None and time.monotonic() - at < _REFUSED_SECONDS:
        raise refused
    try:
        check_apart(policy, settings.root)
    except ConfigurationError as error:
        _refused[mark] = time.monotonic(), error
        raise
    # A file may have been changed meanwhile.
    if settings.state_dir.is_dir() and policy_of(settings).fingerprint == policy.fingerprint:
        with suppress(OSError):
            atomic_write(known, mark.encode(), follow=False)


def policy_of(settings: Settings) -> RegoPolicy:
    """The policies in the settings; read, not compiled yet."""
    return RegoPolicy(files=settings.policy_files, default=settings.policy_default)
