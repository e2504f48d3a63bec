"""What all checks share: the settings as far as they can be read, the jobs and the store, each read once."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Final

from taskpilot.config import Settings
from taskpilot.config.listing import ProcessEnvironment
from taskpilot.config.secrets import secrets_of
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.specs import JobSpec
from taskpilot.jobs.catalog import JobCatalog
from taskpilot.jobs.folder import JobFolder
from taskpilot.store.inspection import Inspection, inspect
from taskpilot.telemetry.redaction import Redactor

BuiltIn = Callable[[Settings], Sequence[JobSpec]]
ANSWER_SECONDS: Final = 4.0
"""A server that takes longer counts as unreachable; all servers are asked at the same time."""


class CheckContext:
    """One deployment under examination."""

    def __init__(
        self, settings: Settings, problems: Mapping[str, ConfigurationError], around: ProcessEnvironment, now: datetime, built_in: BuiltIn
    ) -> None:
        self.settings = settings
        self.problems = problems
        self.around = around
        self.now = now
        self._built_in = built_in

    @cached_property
    def inspection(self) -> Inspection:
        """The store, read without writing."""
        return inspect(self.settings.state_dir)

    @cached_property
    def catalog(self) -> JobCatalog | ConfigurationError:
        """The jobs, or why their folder cannot be read."""
        if problem := self.problems.get("jobs_dir"):
            return problem
        try:
            settings = self.settings
            mask = Redactor(secrets_of(settings)).masked
            withheld = settings.withheld
            folder = JobFolder(
                settings.jobs_dir, root=settings.root, state_dir=settings.state_dir, mask=mask, drop_environment=withheld, saves=False
            )
            found = folder.read()
        except ConfigurationError as error:
            return error
        return found.with_built_in(self._built_in(self.settings))

    def models(self) -> dict[str, list[str]]:
        """The names of the jobs that ask each model, by model; the settings' model has an empty list where no job asks it."""
        asked: dict[str, list[str]] = {}
        if self.settings.model is not None:
            asked[self.settings.model] = []
        if isinstance(self.catalog, JobCatalog):
            for spec in self.catalog.jobs.values():
                if (name := spec.model or self.settings.model) is not None:
                    asked.setdefault(name, []).append(spec.name)
        return asked

    def unsound(self, *fields: str) -> str | None:
        """Why what depends on these settings cannot be checked; None where they are valid."""
        bad = next((name for name in fields if name in self.problems), None)
        return None if bad is None else f"the setting {bad} is invalid"
