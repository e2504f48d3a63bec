"""crontab's grammar: what is read, and what is refused by name."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskpilot.schedules.schedule import cron

START = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday
WEEKDAY = {"mon": 0, "tue": 1, "wed": 2, "thu": 3, "fri": 4, "sat": 5, "sun": 6}


def days(expression: str, count: int = 7) -> list[int]:
    return [fire.day for fire in cron(expression).between(START - timedelta(seconds=1), START + timedelta(days=60), limit=count)]


@pytest.mark.parametrize("sunday", ["0", "7", "sun", "SUN", "Sun"])
def test_sunday_is_zero_and_seven(sunday: str) -> None:
    assert days(f"0 0 * * {sunday}", 3) == [4, 11, 18]


@pytest.mark.parametrize(("name", "weekday"), WEEKDAY.items())
def test_days_have_names(name: str, weekday: int) -> None:
    fire = cron(f"0 0 * * {name}").next_after(START)
    assert fire is not None
    assert fire.weekday() == weekday


def test_months_have_names() -> None:
    assert cron("0 0 1 jul *").next_after(START) == datetime(2026, 7, 1, tzinfo=UTC)
    assert cron("0 0 1 JAN-MAR/2 *").next_after(START) == datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize("expression", ["5-5/15 * * * *", "05-5/1 * * * *", "5-19/15 * * * *"])
def test_a_step_counts_within_its_range_only(expression: str) -> None:
    minutes = {fire.minute for fire in cron(expression).between(START, START + timedelta(hours=2))}
    assert minutes == {5}


def test_either_day_field_may_match_where_both_are_given() -> None:
    assert days("0 0 10 * mon", 4) == [5, 10, 12, 19]


def test_both_must_match_where_one_begins_with_a_star() -> None:
    assert days("0 0 */2 * mon", 3) == [5, 19, 9]


@pytest.mark.parametrize(
    ("macro", "line"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@DAILY", "0 0 * * *"),
    ],
)
def test_words_stand_for_lines(macro: str, line: str) -> None:
    assert cron(macro) == cron(line)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("@reboot", "@reboot"),
        ("@fortnightly", "@daily"),
        ("@daily 5", "@daily"),
        ("0 0 7 * * *", "seconds"),
        ("0 7 * *", "4 field"),
        ("", "five fields"),
        ("   ", "five fields"),
        ("60 * * * *", "minute"),
        ("* 24 * * *", "hour"),
        ("0 0 0 * *", "day-of-month"),
        ("0 0 32 * *", "day-of-month"),
        ("0 0 * 13 *", "month"),
        ("0 0 * * 8", "day-of-week"),
        ("0 0 * * monday", "day-of-week"),
        ("0 0 * * sat-sun", "sat,sun"),
        ("*/0 * * * *", "minute"),
        ("5- * * * *", "minute"),
        ("1,,2 * * * *", "minute"),
        ("-5 * * * *", "minute"),
        ("1/2/3 * * * *", "minute"),
        ("5/15 * * * *", "write 5-59/15"),
        ("0 0 * * mon/2", "write mon-7/2"),
        ("0 0 1 JAN/3 *", "write jan-12/3"),
        ("5-5/0 * * * *", "minute"),
        ("0 0 l * *", "Quartz"),
        ("0 0 15w * *", "Quartz"),
        ("0 0 * * 5#2", "Quartz"),
        ("0 0 ? * mon", "Quartz"),
        ("0 0 31 2 *", "never"),
        ("0 0 30 feb *", "never"),
        ("0 0 31 4,6,9,11 *", "never"),
        ("\u0660 0 * * *", "five fields"),
        ("0 0 * * \u017fun", "five fields"),
    ],
)
def test_what_is_no_crontab_line_is_refused_by_name(expression: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        cron(expression)


@pytest.mark.parametrize("expression", [None, 7, b"* * * * *", ["*"] * 5])
def test_what_is_no_text_is_refused(expression: object) -> None:
    with pytest.raises(ValueError, match="crontab"):
        cron(expression)  # type: ignore[arg-type]


def test_a_day_that_comes_every_28_years_is_waited_for() -> None:
    assert cron("0 0 29 2 *").next_after(datetime(2096, 3, 1, tzinfo=UTC)) == datetime(2104, 2, 29, tzinfo=UTC)
    assert cron("0 0 29 2 */7").next_after(datetime(2088, 3, 1, tzinfo=UTC)) == datetime(2128, 2, 29, tzinfo=UTC)


@given(st.text(alphabet="0123456789*,-/@#LW?monsuap ", max_size=24))
def test_any_text_is_a_schedule_or_a_value_error(text: str) -> None:
    try:
        schedule = cron(text)
    except ValueError as error:
        assert len(str(error)) > 20  # noqa: PT017 - both ways are right, a third is not
    else:
        assert schedule.next_after(START) is not None
