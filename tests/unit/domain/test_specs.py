"""`Retry` and `Budget`: what they take, and what they refuse by name."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from taskpilot.domain.errors import ConfigurationError, Denied, ModelError, ModelUnavailable, RequirementNotMet, TaskPilotError
from taskpilot.domain.specs import Budget, Retry


class Flaky(TaskPilotError):
    """Trying again may help."""

    permanent = False


def test_a_retry_without_options_is_one_attempt() -> None:
    retry = Retry()
    assert (retry.attempts, retry.delay, retry.max_delay, retry.on) == (1, None, timedelta(minutes=1), ())


def test_delays_are_durations() -> None:
    assert Retry(3, delay="30s", max_delay="2m") == Retry(3, timedelta(seconds=30), timedelta(minutes=2))


def test_the_longest_delay_is_a_minute_or_the_first_one() -> None:
    assert Retry(delay="2s").max_delay == timedelta(minutes=1)
    assert Retry(delay="5m").max_delay == timedelta(minutes=5)
    assert Retry(max_delay="10s").max_delay == timedelta(seconds=10)


def test_one_class_or_several_may_be_named() -> None:
    assert Retry(on=OSError).on == (OSError,)
    assert Retry(on=(OSError, ModelUnavailable, ModelError, Flaky)).on == (OSError, ModelUnavailable, ModelError, Flaky)
    assert Retry(on=OSError).allows(ConnectionError())
    assert Retry(on=OSError).allows(ValueError(), ConnectionError())
    assert not Retry(on=OSError).allows(ValueError())
    assert Retry().allows(ValueError())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"attemps": 3}, "Retry has no option 'attemps'; did you mean 'attempts'?"),
        ({"attempts": 0}, r"Retry\(attempts=0\) must be a whole number, at least 1"),
        ({"attempts": True}, r"Retry\(attempts=True\) must be a whole number"),
        ({"attempts": "3"}, r"Retry\(attempts='3'\) must be a whole number"),
        ({"delay": "soon"}, r"Retry\(delay=...\): 'soon' is not a duration"),
        ({"delay": 30}, r"Retry\(delay=...\): 30 is not a duration"),
        ({"max_delay": "0s"}, r"Retry\(max_delay=...\): '0s' is not longer than zero"),
        ({"delay": "30s", "max_delay": "10s"}, r"Retry\(max_delay='10s'\) is shorter than delay='30s'"),
        ({"on": "ConnectionError"}, r"Retry\(on=...\) takes exception classes, .* not 'ConnectionError'"),
        ({"on": (int,)}, r"Retry\(on=...\) takes exception classes, .* not <class 'int'>"),
        ({"on": KeyboardInterrupt}, r"Retry\(on=...\) takes exception classes"),
        ({"on": (Denied,)}, r"Retry\(on=...\) names Denied, where trying again cannot help"),
        ({"on": (OSError, RequirementNotMet)}, r"Retry\(on=...\) names RequirementNotMet"),
    ],
)
def test_a_wrong_option_of_retry_is_refused_by_name(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Retry(**options)


def test_a_budget_in_usd_is_read_exactly() -> None:
    assert [Budget(usd=usd).usd for usd in ("0.10", 1, Decimal("0.3"))] == [Decimal("0.10"), Decimal(1), Decimal("0.3")]
    assert Budget().usd is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"usdd": "1"}, "Budget has no option 'usdd'; did you mean 'usd'?"),
        ({"euro": "1"}, "Budget has no option 'euro'$"),
        ({"usd": "much"}, r"Budget\(usd='much'\) must be an amount"),
        ({"usd": 0.1}, r"Budget\(usd=0.1\) must be an amount that is not negative, like usd=\"0.50\""),
        ({"usd": "-1"}, r"Budget\(usd='-1'\) must be an amount that is not negative"),
        ({"usd": "NaN"}, r"Budget\(usd='NaN'\)"),
        ({"usd": "Infinity"}, r"Budget\(usd='Infinity'\)"),
        ({"usd": True}, r"Budget\(usd=True\)"),
        ({"tokens": -1}, r"Budget\(tokens=-1\) must be a whole number, at least 0"),
        ({"llm_calls": "60"}, r"Budget\(llm_calls='60'\) must be a whole number"),
        ({"tool_calls": 1.5}, r"Budget\(tool_calls=1.5\) must be a whole number"),
        ({"unpriced": "maybe"}, r"Budget\(unpriced='maybe'\) must be 'refuse' or 'allow'"),
    ],
)
def test_a_wrong_option_of_budget_is_refused_by_name(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Budget(**options)
