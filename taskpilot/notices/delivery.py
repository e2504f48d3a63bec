"""Sends what is due, each channel's notices in their order, until it is delivered; one process at a time, by a lease in the store."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from taskpilot.channels import TIMEOUT_SECONDS
from taskpilot.channels.ping import ping
from taskpilot.deployment import Deployment
from taskpilot.domain.errors import NotDelivered, TaskPilotError
from taskpilot.domain.ids import new_id
from taskpilot.domain.instruments import NOTICES
from taskpilot.domain.notices import EXPIRES, PING, Notice, NoticeEvent, NoticeResult
from taskpilot.domain.runs import Owner
from taskpilot.domain.text import one_line
from taskpilot.http import Deadline, TimedCall
from taskpilot.messages.notices import digest_of, message_of
from taskpilot.notices.links import with_link
from taskpilot.notices.routes import Routes
from taskpilot.process.owner import is_gone
from taskpilot.store import notices, totals

LEASE: Final = timedelta(seconds=30)
"""Longer than a try may take; it is extended before each."""
_AGAIN: Final = timedelta(seconds=10)
_AGAIN_MAX: Final = timedelta(minutes=5)
"""Between two tries while the receiver cannot be reached: the time doubles up to this."""
_PING_EXPIRES: Final = timedelta(days=1)
_REFUSALS: Final = 3
"""A notice that the receiver does not want is given up after so many tries, so that those behind it arrive."""
_AT_ONCE: Final = 16
"""Channels that are tried at the same time."""
_LEAST_SECONDS: Final = 0.5
"""With less time left no try is begun."""
_LOOK_SECONDS: Final = 0.1
"""Between two looks whether the sending is to end."""
_RECORD_SECONDS: Final = 1.0
"""For writing the result after the last try."""


class Sender:
    """Sends the notices of one deployment."""

    def __init__(self, deployment: Deployment, routes: Routes, *, announce: bool = True, stop: Callable[[], bool] = bool) -> None:
        """`announce`: whether a change of the counters is told to the telemetry. `stop`: whether no further try is to be begun."""
        self._deployment = deployment
        self._routes = routes
        self._announce = announce
        self._stop = stop

    def send(self, *, seconds: float) -> Owner | None:
        """Tries everything that is due, for at most `seconds` and a moment for the record; gives the process that does so already.

        Raises StoreError or StoreBusy.
        """
        deployment = self._deployment
        with deployment.store.read() as connection:
            due = notices.channels_due(connection, deployment.now())
        if not due:
            return None
        token, end = new_id(), Deadline(seconds)
        with deployment.store.write() as connection:
            boot = deployment.boot()
            holder = notices.take_lease(connection, token, deployment.owner, boot=boot, until=boot + LEASE, is_gone=is_gone)
        if holder is not None:
            return holder
        try:
            while due and end.left > _LEAST_SECONDS and not self._stop():
                some, due = due[:_AT_ONCE], due[_AT_ONCE:]
                calls = [TimedCall(partial(self._send_all, channel, token, end)) for channel in some]
                for call in calls:
                    while not call.wait(_LOOK_SECONDS) and end.left + _RECORD_SECONDS > 0 and not self._stop():
                        pass
        finally:
            with deployment.store.write() as connection:
                notices.release_lease(connection, token)
        return None

    def _send_all(self, channel: str, token: str, end: Deadline) -> None:
        while (seconds := end.left) > _LEAST_SECONDS and not self._stop():
            if not self._send_next(channel, token, min(seconds, TIMEOUT_SECONDS)):
                return

    def _send_next(self, channel: str, token: str, seconds: float) -> bool:
        """Tries the next notice of a channel; False where there is none, or where it did not arrive."""
        deployment = self._deployment
        known = self._routes.settings.notify_channels.get(channel)
        with deployment.store.write() as connection:
            until = deployment.boot() + LEASE
            digest = known is not None and not known.is_webhook
            some = notices.begin_sending(connection, channel, token, now=deployment.now(), until=until, digest=digest)
        if not some:
            return False
        try:
            self._deliver(channel, some, seconds)
        except NotDelivered as error:
            self._record_failure(channel, some, error)
            return False
        except Exception as error:
            # Whatever it is, the others must go on, and a person must see it.
            words = error.one_line if isinstance(error, TaskPilotError) else type(error).__name__
            self._record_failure(channel, some, NotDelivered(words))
            return False
        self._record(channel, some, NoticeResult.DELIVERED)
        return True

    def _deliver(self, channel: str, some: Sequence[Notice], seconds: float) -> None:
        first, routes = some[0], self._routes
        if first.event is NoticeEvent.PING:
            url = routes.url_of(channel)
            if url is None:
                raise NotDelivered("the ping URL is gone", refused=True)
            ping(url, str(first.facts["exit_code"]), first.run_id or "", seconds=seconds)
            return
        every = [with_link(self._deployment, one.facts) for one in some]
        message = message_of(every[0], first.id) if len(some) == 1 else digest_of(every, first.id)
        routes.open(channel, seconds=seconds).deliver(message)

    def _record_failure(self, channel: str, some: Sequence[Notice], error: NotDelivered) -> None:
        first, now = some[0], self._deployment.now()
        gone = channel.partition(":")[0] != PING and channel not in self._routes.settings.notify_channels
        age = now - first.created_at
        given_up = gone or age > (_PING_EXPIRES if first.event is NoticeEvent.PING else EXPIRES)
        given_up = given_up or (error.refused and first.attempts + 1 >= _REFUSALS)
        wait = _AGAIN if error.answered else min(_AGAIN * 2 ** min(first.attempts, 10), _AGAIN_MAX)
        words = one_line(self._deployment.redactor.masked(str(error)))
        result = NoticeResult.UNKNOWN if error.late else NoticeResult.FAILED
        self._record(channel, some, result, wait=None if given_up else wait, error=words)

    def _record(
        self, channel: str, some: Sequence[Notice], result: NoticeResult, *, wait: timedelta | None = None, error: str | None = None
    ) -> None:
        now, ids = self._deployment.now(), [one.id for one in some]
        with self._deployment.store.write() as connection:
            again = None if wait is None else now + wait
            notices.end_sending(connection, ids, result, now=now, again_at=again, error=error)
            if again is None and some[0].event is NoticeEvent.PING:
                notices.forget_notices(connection, ids)
            # A ping of a job is counted for the job; all of them as one channel.
            label = channel.partition(":")[0]
            for one in some:
                if one.job:
                    totals.add(connection, one.job, [totals.count(NOTICES, channel=label, result=result)])
                    totals.mark_dirty(connection, one.job, announce=self._announce)
