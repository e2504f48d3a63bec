"""How much later than its time a fire starts: spread evenly, and the same whoever asks."""

from datetime import datetime, timedelta
from hashlib import blake2b

from taskpilot.domain.moments import to_micros


def jitter_of(job: str, scheduled_for: datetime, jitter: timedelta) -> timedelta:
    """A delay in [0, jitter), drawn from a digest of the job and the fire: two schedulers and a restart agree on it."""
    if not jitter:
        return jitter
    micros = jitter // timedelta(microseconds=1)
    digest = blake2b(f"{job}\0{to_micros(scheduled_for)}".encode(), digest_size=8).digest()
    return timedelta(microseconds=int.from_bytes(digest) * micros >> 64)
