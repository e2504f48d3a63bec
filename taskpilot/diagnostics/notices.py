"""Checks the channels of notices without sending anything: that each can be used, that somebody is told, and what did not arrive."""

from collections.abc import Iterator

from taskpilot.diagnostics.context import CheckContext
from taskpilot.diagnostics.findings import Code, Finding, found, unchecked
from taskpilot.domain.text import one_line
from taskpilot.jobs.catalog import JobCatalog
from taskpilot.notices.routes import unusable_channels


def examine_notices(context: CheckContext) -> Iterator[Finding]:
    """Whether notices would reach somebody."""
    settings = context.settings
    if why := context.unsound("notify_channels", "notify_default", "notify_events", "notify_quiet", "notify_report", "notify_ping_url"):
        yield unchecked("notices", why)
        return
    for one in context.inspection.undelivered_notices:
        yield found(Code.NOTICES_FAILING, channel=one.channel, count=one.notices, why=f": {one.error}" if one.error else "")
    if not settings.notify_channels:
        yield found(Code.NOTICES_NONE)
        return
    unusable = unusable_channels(settings)
    for name, error in unusable.items():
        yield found(Code.NOTICES_UNUSABLE, error=str(error), fix=error.hint or f"correct notify.channels.{name}")
    usable = [name for name in settings.notify_channels if name not in unusable]
    for name in usable:
        channel = settings.notify_channels[name]
        if channel.is_webhook and channel.secret is None:
            yield found(Code.NOTICES_UNSIGNED, channel=name)
    jobs = context.catalog.jobs if isinstance(context.catalog, JobCatalog) else {}
    for spec in jobs.values():
        for name in spec.notify or ():
            if name not in settings.notify_channels:
                yield found(Code.NOTICES_UNKNOWN_CHANNEL, job=spec.name, channel=one_line(name, limit=64))
    if not settings.notify_default and not any(spec.notify for spec in jobs.values()):
        yield found(Code.NOTICES_NOBODY, names=", ".join(f'"{name}"' for name in settings.notify_channels))
    if usable:
        yield found(Code.NOTICES_OK, channels=", ".join(usable), default=", ".join(settings.notify_default) or "no channel")
