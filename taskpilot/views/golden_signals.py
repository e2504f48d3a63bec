"""The five golden signals of the jobs, each with its unit, verdict and time window."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from taskpilot.deployment import Deployment
from taskpilot.domain.attention import AttentionKind
from taskpilot.domain.errors import UsageError
from taskpilot.domain.times import utc_iso
from taskpilot.domain.usage import nano_to_usd
from taskpilot.store import health_queries
from taskpilot.views.attention import find_attention, open_by_job, yesterday_evening
from taskpilot.views.health import read_scheduler

DAYS_MAX: Final = 3_650


class Verdict(StrEnum):
    """How good a signal is."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    NO_DATA = "no data"


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal."""

    value: float | None
    """None without data."""
    unit: str
    """percent, seconds or usd."""
    verdict: Verdict
    window: str
    """Like `30d`."""
    detail: str
    """The numbers that it is computed from, as a sentence."""


@dataclass(frozen=True, slots=True)
class GoldenSignals:
    """All five signals."""

    success_rate: Signal
    p95_duration: Signal
    cost_per_success: Signal
    policy_violation_rate: Signal
    confirmed_correctness: Signal


_ASKING: Final = (AttentionKind.WAITING, AttentionKind.UNCERTAIN, AttentionKind.PAUSED)
"""A job that only waits for an answer has not failed."""
_NAMED: Final = 3


def golden_signals(deployment: Deployment, *, days: int = 30) -> GoldenSignals:
    """The signals over the runs that ended in the last `days`, without cancelled ones. Creates no store.

    Success rate: healthy from 95 %, degraded from 90 %; at best degraded while a job's last run failed or its last fire did not start, and
    unhealthy where no run ended at all then. Duration: the share of its deadline that the 95th percentile run used, healthy
    below 80 %, degraded below 100 %. Cost: the share spent on runs that did not succeed, healthy up to 10 %, degraded up to 25 %.
    Violations: the share of tool calls that policy denied, healthy up to 1 %, degraded up to 5 %. Correctness: as the success rate, over
    the results that people rated in the window, with the newest rating of each run.
    Raises UsageError, StoreError or StoreBusy.
    """
    if not 1 <= days <= DAYS_MAX:
        raise UsageError(f"a window of {days} days is not between 1 and {DAYS_MAX}")
    window = f"{days}d"
    if deployment.store_is_missing:
        nothing = health_queries.Share(0, 0)
        return GoldenSignals(
            _success_rate(health_queries.Ended(0, 0, 0, 0, 0), window, {}),
            _p95_duration(None, window),
            _cost_per_success(health_queries.Ended(0, 0, 0, 0, 0), window),
            _violation_rate(nothing, window),
            _correctness(nothing, window),
        )
    now = deployment.now()
    since = now - timedelta(days=days)
    with deployment.store.read() as connection:
        _row, server = read_scheduler(connection, deployment)
        found = open_by_job(find_attention(connection, since=yesterday_evening(now), now=now, server=server))
        named = [job for job, one in found.items() if one.kind not in _ASKING]
        last = health_queries.last_successes(connection, named)
        failing = {job: last.get(job) for job in named}
        ended = health_queries.ended(connection, since)
        return GoldenSignals(
            _success_rate(ended, window, failing),
            _p95_duration(health_queries.slowest(connection, since, whole=ended.ended), window),
            _cost_per_success(ended, window),
            _violation_rate(health_queries.violations(connection, since), window),
            _correctness(health_queries.confirmations(connection, since), window),
        )


def golden_json(signals: GoldenSignals) -> dict[str, Any]:
    """By name: `value`, `unit`, `verdict`, `window` and `detail`."""
    return {name: {**signal, "verdict": signal["verdict"].value} for name, signal in asdict(signals).items()}


def _success_rate(found: health_queries.Ended, window: str, failing: Mapping[str, datetime | None]) -> Signal:
    named = [f"of {job} {_since(at)}" for job, at in list(failing.items())[:_NAMED]]
    more = len(failing) - len(named)
    without = f"; no success {', '.join(named)}{f' and of {more:,} more' if more else ''}" if failing else ""
    if not found.ended:
        return Signal(None, "percent", Verdict.UNHEALTHY if failing else Verdict.NO_DATA, window, f"no run ended{without}")
    percent = 100 * found.succeeded / found.ended
    verdict = _at_least(percent, 95, 90)
    if failing and verdict is Verdict.HEALTHY:
        verdict = Verdict.DEGRADED
    return Signal(percent, "percent", verdict, window, f"{found.succeeded:,} of {found.ended:,} runs succeeded{without}")


def _p95_duration(found: health_queries.Slowest | None, window: str) -> Signal:
    if found is None:
        return Signal(None, "seconds", Verdict.NO_DATA, window, "no run ended")
    used = 100 * found.deadline_share
    detail = f"95 % of the runs used at most {used:.0f} % of their deadline"
    return Signal(found.active_micros / 1_000_000, "seconds", _below(used, 80, 100), window, detail)


def _cost_per_success(found: health_queries.Ended, window: str) -> Signal:
    if not found.ended:
        return Signal(None, "usd", Verdict.NO_DATA, window, "no run ended")
    if found.unpriced_calls:
        return Signal(None, "usd", Verdict.NO_DATA, window, f"unknown: {found.unpriced_calls:,} calls had no price")
    wasted = 100 * found.wasted_nano / found.nano if found.nano else 0.0
    detail = f"{wasted:.0f} % of {nano_to_usd(found.nano):.4f} USD was spent on runs that did not succeed"
    if not found.succeeded:
        verdict = Verdict.UNHEALTHY if found.nano else Verdict.NO_DATA
        return Signal(None, "usd", verdict, window, detail if found.nano else "no run succeeded, and none cost anything")
    value = float(nano_to_usd(found.nano) / found.succeeded)
    return Signal(value, "usd", _at_most(wasted, 10, 25), window, detail)


def _violation_rate(share: health_queries.Share, window: str) -> Signal:
    if not share.whole:
        return Signal(None, "percent", Verdict.NO_DATA, window, "no tool call was decided by policy")
    percent = 100 * share.part / share.whole
    return Signal(percent, "percent", _at_most(percent, 1, 5), window, f"policy denied {share.part:,} of {share.whole:,} tool calls")


def _correctness(share: health_queries.Share, window: str) -> Signal:
    if not share.whole:
        return Signal(None, "percent", Verdict.NO_DATA, window, "no result was rated yet; `taskpilot runs feedback RUN` rates one")
    percent = 100 * share.part / share.whole
    return Signal(percent, "percent", _at_least(percent, 95, 90), window, f"{share.part:,} of {share.whole:,} rated results were correct")


def _at_least(value: float, healthy: float, degraded: float) -> Verdict:
    return Verdict.HEALTHY if value >= healthy else Verdict.DEGRADED if value >= degraded else Verdict.UNHEALTHY


def _at_most(value: float, healthy: float, degraded: float) -> Verdict:
    return Verdict.HEALTHY if value <= healthy else Verdict.DEGRADED if value <= degraded else Verdict.UNHEALTHY


def _below(value: float, healthy: float, degraded: float) -> Verdict:
    return Verdict.HEALTHY if value < healthy else Verdict.DEGRADED if value < degraded else Verdict.UNHEALTHY


def _since(success: datetime | None) -> str:
    return "yet" if success is None else f"since {utc_iso(success, timespec='seconds')}"
