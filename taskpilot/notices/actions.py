"""What a person does with notices: a test of a channel, a drill, and an acknowledgement."""

from dataclasses import dataclass

from taskpilot.channels import TIMEOUT_SECONDS
from taskpilot.deployment import Deployment
from taskpilot.domain.errors import ConfigurationError, NotDelivered, NotFound, TransitionRefused, UsageError
from taskpilot.domain.ids import new_id
from taskpilot.domain.notices import Incident, NoticeEvent
from taskpilot.domain.reasons import NO_REASON
from taskpilot.domain.text import one_line, storable
from taskpilot.http import TimedCall
from taskpilot.messages.notices import drill_facts, message_of, trial_facts
from taskpilot.notices.delivery import Sender
from taskpilot.notices.routes import Routes
from taskpilot.store import notices
from taskpilot.store.ids import find_id


@dataclass(frozen=True, slots=True)
class Tried:
    """A test message to one channel."""

    channel: str
    answer: str
    """What the channel answered, or why it did not take the message."""
    delivered: bool


def send_test(deployment: Deployment, channel: str | None = None) -> list[Tried]:
    """Sends a test message to a channel, or to all, at the same time. Raises UsageError or ConfigurationError."""
    routes = Routes(deployment.settings, None)
    names = _chosen(deployment, channel, tuple(deployment.settings.notify_channels))
    root = str(deployment.settings.root)
    facts = trial_facts(deployment=deployment.settings.deployment or root, root=root, at=deployment.now())

    def deliver(name: str) -> str:
        return routes.open(name, seconds=TIMEOUT_SECONDS).deliver(message_of(facts, new_id()))

    calls = {name: TimedCall(lambda name=name: deliver(name)) for name in names}  # type: ignore[misc]
    found = []
    for name, call in calls.items():
        in_time = call.wait(TIMEOUT_SECONDS + 1)
        if in_time and call.error is None:
            found.append(Tried(name, call.value or "", delivered=True))
            continue
        words = str(call.error) if isinstance(call.error, NotDelivered | ConfigurationError) else type(call.error).__name__
        found.append(Tried(name, one_line(deployment.redactor.masked(words if in_time else "it did not answer")), delivered=False))
    return found


def begin_drill(deployment: Deployment, channel: str | None = None) -> Incident:
    """Opens an incident that says that it is a drill, and writes its notices, also in the quiet hours.

    Raises UsageError, ConfigurationError, StoreError or StoreBusy.
    """
    names = _chosen(deployment, channel, deployment.settings.notify_default)
    now = deployment.now()
    with deployment.store.write() as connection:
        incident = notices.insert_incident(connection, NoticeEvent.DRILL, at=now, subject=new_id(), reason=NO_REASON)
        facts = drill_facts(incident, deployment=deployment.store.deployment, root=str(deployment.settings.root), at=now)
        for name in names:
            notices.insert_notice(connection, NoticeEvent.DRILL, name, notice_id=new_id(), at=now, incident=incident, facts=facts)
        # What waits on these channels comes before it: a person watches, so all of it is tried now.
        notices.hurry(connection, names, now)
        notices.update_incident(connection, incident.id, told_at=now, notices=1)
    return incident


def send_now(deployment: Deployment, *, seconds: float) -> None:
    """Sends what is due, in this process where no other one sends. Raises StoreError or StoreBusy."""
    Sender(deployment, Routes.of(deployment)).send(seconds=seconds)


def acknowledge(deployment: Deployment, incident_id: str, *, by: str, note: str = "") -> Incident:
    """Ends the reminders of an incident; a drill is over with it. Raises UsageError, NotFound or TransitionRefused."""
    now = deployment.now()
    with deployment.store.write() as connection:
        parsed = find_id(connection, incident_id, noun="incident")
        incident = notices.get_incident(connection, parsed)
        if incident is None:
            raise NotFound(f"there is no incident {parsed}", hint="taskpilot incidents list")
        if incident.acknowledged_at is not None:
            raise TransitionRefused(f"incident {parsed} was acknowledged by {incident.acknowledged_by}")
        if incident.closed_at is not None:
            raise TransitionRefused(f"incident {parsed} is over: nothing is to be acknowledged")
        values = {"acknowledged_at": now, "acknowledged_by": storable(by), "note": storable(note)}
        if incident.cause is NoticeEvent.DRILL:
            values["closed_at"] = now
        notices.update_incident(connection, parsed, **values)
        found = notices.get_incident(connection, parsed)
    assert found is not None
    return found


def _chosen(deployment: Deployment, channel: str | None, default: tuple[str, ...]) -> tuple[str, ...]:
    known = deployment.settings.notify_channels
    if not known:
        raise ConfigurationError(
            "no channel is configured", hint='add [notify.channels.ops] with url = "..." to taskpilot.toml: taskpilot docs notices'
        )
    if channel is None:
        if not default:
            names = ", ".join(f'"{name}"' for name in known)
            raise ConfigurationError("[notify] default names no channel, so nobody is told", hint=f"add default = [{names}] to [notify]")
        return default
    if channel not in known:
        raise UsageError(f"there is no channel {one_line(channel, limit=64)!r}", hint=f"there are {', '.join(known)}")
    return (channel,)
