"""Delivers again the spans that a collector has not got."""

from taskpilot.deployment import Deployment
from taskpilot.domain.errors import ConfigurationError
from taskpilot.telemetry.publish import Targets
from taskpilot.telemetry.traces.delivery import Delivery, deliver_pending_traces


def replay(deployment: Deployment, *, seconds: float) -> Delivery:
    """Delivers the spans that the collector has not got, within so many seconds; nothing is sent where nothing is pending.

    Raises ConfigurationError where traces are switched off, StoreError or StoreBusy.
    """
    targets = Targets.of(deployment.settings)
    if targets.collector is None:
        raise ConfigurationError(
            f"no collector is set: traces are switched off by {deployment.settings.sources['otel_enabled']}. "
            "traces.jsonl in the state dir has every span"
        )
    return deliver_pending_traces(
        deployment.store, targets.collector, resource=targets.resource, content=targets.content, seconds=seconds, now=deployment.now
    )
