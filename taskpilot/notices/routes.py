"""Who is told: the channels and ping URLs of each job."""

from dataclasses import dataclass
from typing import Self

from taskpilot.channels import OpenChannel, open_channel
from taskpilot.config import Settings
from taskpilot.deployment import Deployment
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.notices import PING
from taskpilot.jobs.catalog import JobCatalog


@dataclass(frozen=True, slots=True)
class Routes:
    """The settings, and the jobs as far as they are known without loading a file."""

    settings: Settings
    catalog: JobCatalog | None
    """None where the folder of job files cannot be read: every job is told to the default channels then."""

    @classmethod
    def of(cls, deployment: Deployment) -> Self:
        """Those of a deployment; no job file is loaded."""
        try:
            return cls(deployment.settings, deployment.known_catalog)
        except ConfigurationError:
            return cls(deployment.settings, None)

    def channels(self, job: str) -> tuple[str, ...]:
        """The names of the channels that get the notices of a job; empty for those about no job: the default ones."""
        spec = self.catalog.jobs.get(job) if self.catalog is not None else None
        names = self.settings.notify_default
        if spec is not None and spec.notify is not None:
            known = tuple(name for name in spec.notify if name in self.settings.notify_channels)
            # One that is gone from the settings must not silence the job.
            names = known if known or not spec.notify else names
        return tuple(dict.fromkeys(names))

    def pings(self, job: str) -> tuple[str, ...]:
        """The channels of the ping URLs that get the end of each run of a job."""
        own = (f"{PING}:{job}",) if self.url_of(f"{PING}:{job}") else ()
        return (*own, PING) if self.settings.notify_ping_url else own

    def url_of(self, channel: str) -> str | None:
        """The URL of a ping's channel; None where it is gone."""
        _, colon, job = channel.partition(":")
        if not colon:
            return self.settings.notify_ping_url
        spec = self.catalog.jobs.get(job) if self.catalog is not None else None
        return None if spec is None else spec.ping_url

    def knows(self, job: str) -> bool:
        """Whether the job is defined, or may be: in a file that cannot be loaded."""
        return self.catalog is None or self.catalog.knows(job)

    def open(self, channel: str, *, seconds: float) -> OpenChannel:
        """A channel of the settings. Raises ConfigurationError where it is gone or cannot be used."""
        if channel not in self.settings.notify_channels:
            raise ConfigurationError(f"the channel {channel!r} is not in the settings any more")
        return open_channel(channel, self.settings.notify_channels[channel], seconds=seconds)


def unusable_channels(settings: Settings) -> dict[str, ConfigurationError]:
    """The channels to which nothing can be sent, by name, with the reason; nothing is sent."""
    found = {}
    for name, channel in settings.notify_channels.items():
        try:
            open_channel(name, channel).check()
        except ConfigurationError as error:
            found[name] = error
    return found
