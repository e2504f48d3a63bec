"""The waiting between tries, without waiting."""

from datetime import timedelta
from email.utils import format_datetime

import pytest

from taskpilot.domain.times import utc_now
from taskpilot.llm.retries import retry_after


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "inf"}, float("inf")),
        ({"retry-after": "Wed, 99 Foo 2026 00:00:00 GMT"}, None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "many", "retry-after": "9"}, 9.0),
        ({"retry-after": "Mon, 23 Nov 2026 10:01:00 GMT", "date": "Mon, 23 Nov 2026 10:00:00 GMT"}, 60.0),
        ({"retry-after": "Mon, 23 Nov 2026 09:00:00 GMT", "date": "Mon, 23 Nov 2026 10:00:00 GMT"}, 0.0),
        ({"retry-after": "Mon, 23 Nov 2026 10:01:00 -0000", "date": "Mon, 23 Nov 2026 11:00:00 +0100"}, 60.0),
    ],
)
def test_what_a_server_asks_is_understood_or_ignored(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_without_the_servers_clock_is_counted_by_ours() -> None:
    asked = retry_after({"retry-after": format_datetime(utc_now() + timedelta(seconds=100), usegmt=True)})
    assert asked == pytest.approx(100, abs=3)
