"""What the one who started this process says of itself by the environment; no setting of a deployment."""

import os
from collections.abc import Mapping

from taskpilot.domain.traceparent import parse_traceparent


def caller_traceparent(environ: Mapping[str, str] | None = None) -> str | None:
    """The caller's span by TRACEPARENT; None where it names none, or nothing that W3C Trace Context knows: no reason not to run."""
    return parse_traceparent((os.environ if environ is None else environ).get("TRACEPARENT"))
