"""How long after its fire a run starts, where a job spreads its starts: by computation, so that every scheduler finds the same."""

import json
from datetime import datetime, timedelta
from hashlib import sha256

from taskpilot.domain.moments import to_micros


def start_delay(job: str, scheduled_for: datetime, *, jitter: timedelta, salt: str) -> timedelta:
    """A delay in [0, jitter), in whole microseconds, the same for the same job, fire and salt in every process.

    The fire keeps its nominal time: `scheduled_for` is what is claimed, recorded and searched for, the delay is only added to when its run
    may start. `salt` is the deployment's name, so that two deployments do not call one provider in the same second; over jobs, fires and
    deployments the delays are uniform. No jitter is no delay. Raises ValueError for a negative one and for a time without a zone.
    """
    span = jitter // timedelta(microseconds=1)
    if span < 0:
        raise ValueError(f"a jitter of {jitter} would start a run before its fire")
    digest = sha256(json.dumps([salt, job, to_micros(scheduled_for)]).encode()).digest()
    return timedelta(microseconds=int.from_bytes(digest) * span >> 8 * len(digest))
