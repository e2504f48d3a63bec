"""The retries of one call: when it is tried again, how long it waits, and when it gives up."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from taskpilot.domain.chat import ChatReply, ChatRetry
from taskpilot.domain.errors import ModelRefused, ModelUnavailable
from taskpilot.domain.times import utc_now

TRIES: Final = 6
"""About 15 seconds of waiting in all: enough for the restart of a server, not for an outage."""
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 30.0


@dataclass(eq=False)
class Failure(Exception):
    """One try without a usable reply."""

    reason: str
    """As in `ChatRetry.reason`."""
    explanation: str
    """What happened, for people, with the server's name and without the key."""
    status: int | None = None
    final: bool = False
    """True if another try cannot help."""
    retry_after: float | None = None
    tries: int = TRIES
    maybe_billed: bool = False
    """True if the server may have done the work although its reply did not arrive."""
    hint: str | None = None
    """The key to set that helps."""
    wants_newer_limit: bool = False
    """The server refuses `max_tokens` and asks for `max_completion_tokens`."""
    wants_less_output: bool = False
    """The output limit does not fit beside the prompt into the model's context, or is above the model's own."""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks us to wait, or None.

    `retry-after-ms` wins over `retry-after`, in seconds or as an HTTP date.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    try:
        # By the server's clock, if it sends its date: ours may be minutes off.
        now = parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError, OverflowError):
        now = utc_now()
    until, now = (moment if moment.tzinfo else moment.replace(tzinfo=UTC) for moment in (until, now))
    return max(0.0, (until - now).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return None if math.isnan(number) else max(0.0, number)


class RetryState:
    """The remaining time and tries of one call."""

    def __init__(
        self,
        seconds_left: float,
        before_retry: Callable[[], None],
        *,
        sleep: Callable[[float], None],
        monotonic: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._before_retry = before_retry
        self._sleep = sleep
        self._monotonic = monotonic
        self._jitter = jitter
        self._end = monotonic() + seconds_left
        self._failures = 0
        self._retries: list[ChatRetry] = []
        self._unreserved = 0
        """Failed tries that may be billed and were followed by no other one yet."""

    def left(self) -> float:
        """Seconds until the run's deadline."""
        return self._end - self._monotonic()

    def before_try(self) -> None:
        """Call it right before each exchange."""
        while self._unreserved:
            self._unreserved -= 1
            self._before_retry()

    def until_answered(self, ask: Callable[[], ChatReply]) -> ChatReply:
        """The first reply of `ask`, with all failed tries before it.

        Raises ModelRefused if another try cannot help, and ModelUnavailable if the tries are used up or the next one would come after the
        deadline.
        """
        while True:
            self._check_time()
            try:
                answer = ask()
            except Failure as failure:
                self._wait_after(failure)
            else:
                return replace(answer, retries=tuple(self._retries))

    def gave_up(self, failure: Failure, *, reason: str | None = None) -> None:
        """Records a failed try that is followed by another one at once."""
        self._unreserved += failure.maybe_billed
        self._retries.append(ChatRetry(reason or failure.reason, 0.0, failure.maybe_billed))

    def _check_time(self) -> None:
        if self.left() <= 0:
            raise self._unavailable("the run's deadline leaves no time to ask the model")

    def _wait_after(self, failure: Failure) -> None:
        if failure.final:
            raise ModelRefused(
                failure.explanation, hint=failure.hint, retries=tuple(self._retries), maybe_billed=failure.maybe_billed
            ) from failure
        self._failures += 1
        if failure.retry_after is None and self._failures >= failure.tries:
            raise self._unavailable(f"gave up after {self._failures} tries: {failure.explanation}", failure) from failure
        wait = self._wait(failure.retry_after)
        left = self.left()
        if wait >= left:
            raise self._unavailable(
                f"{failure.explanation}; the next try in {wait:.1f} s would come after the run's deadline, "
                f"which is {max(0.0, left):.1f} s away",
                failure,
            ) from failure
        self._sleep(wait)
        self._unreserved += failure.maybe_billed
        self._retries.append(ChatRetry(failure.reason, wait, failure.maybe_billed))

    def _wait(self, asked: float | None) -> float:
        doubled = _FIRST_WAIT * float(2 ** min(self._failures - 1, 16))
        backoff = min(_LONGEST_WAIT, doubled) * (0.5 + 0.5 * self._jitter())
        if asked is None:
            return backoff
        # A little later than asked, and not all threads at once; where a server always asks for 0 s, the backoff applies in the end.
        spread = asked + min(1.0, asked / 10) * self._jitter()
        return spread if self._failures < TRIES else max(spread, backoff)

    def _unavailable(self, message: str, last: Failure | None = None) -> ModelUnavailable:
        return ModelUnavailable(message, retries=tuple(self._retries), maybe_billed=last is not None and last.maybe_billed)
