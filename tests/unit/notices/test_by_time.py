"""What is told because of the time: overdue jobs, the report, and the end of the quiet hours, also on the days of a clock change."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from taskpilot import RunContext, every, job
from taskpilot.domain.events import EventKind
from taskpilot.domain.notices import Quiet
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import Outcome, RunStatus
from taskpilot.messages.notices import text_of
from tests.unit.notices.conftest import Desk

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The zone of the machine; its clock changes on 2027-03-28 and 2027-10-31."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(text: str, *, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold)


def move(desk: Desk, to: datetime) -> None:
    desk.clock.advance(to - desk.clock())


@job(schedule=every("1h"))
def hourly(ctx: RunContext) -> None:
    """Has no success until a test says so."""


def test_a_job_without_a_success_within_its_gap_is_told_once_and_not_where_something_says_why(desk: Desk) -> None:
    desk.defined(hourly)
    for minutes, told in ((119, []), (2, ["success_overdue"]), (60, ["success_overdue"])):
        desk.later(60 * minutes)
        desk.look()
        assert desk.told == told
    desk.succeed(desk.claim(hourly))
    desk.look()
    assert desk.told == ["success_overdue", "recovered"]
    assert desk.facts(0)["reason_code"] == "no_success"
    # A failure that is open says more; a paused job is not expected to run.
    desk.happen(EventKind.RUN_FAILED, "hourly")
    desk.later(3 * 3600)
    desk.look()
    desk.succeed(desk.claim(hourly))
    desk.pause("hourly")
    desk.later(3 * 3600)
    desk.look()
    assert desk.told[2:] == ["run_failed", "recovered"]


@pytest.mark.parametrize("settings", ['[notify]\ndefault = ["ops"]\nreport = "02:30"\nquiet = "22:00-07:00"\n'])
def test_the_report_is_written_once_a_day_also_when_its_time_does_not_exist_or_comes_twice(berlin: None, desk: Desk) -> None:
    for first, times in (
        ("2027-03-27T12:00", [at("2027-03-28T03:30"), at("2027-03-29T02:30")]),
        ("2027-10-30T12:00", [at("2027-10-31T02:30"), at("2027-11-01T02:30")]),
    ):
        move(desk, at(first))
        # What was not written in the months before is not written for each of those days.
        desk.look()
        before = len(desk.told)
        for number, due in enumerate(times):
            move(desk, due - timedelta(seconds=1))
            desk.look()
            assert len(desk.told) == before + number
            for later in (0, 1, 3600, 7200):
                move(desk, due + timedelta(seconds=later))
                desk.look()
                assert len(desk.told) == before + number + 1
    report = desk.notices()[-1]
    assert (report.event, report.held_until) == ("report", None), "it is sent in the quiet hours too"
    assert report.facts["report"]["since"] == "2027-10-31T00:30:00.000000Z"


def failing(number: int) -> Callable[..., None]:
    def body(ctx: RunContext) -> None:
        """Fails as the test says."""

    body.__name__ = f"job_{number}"
    return job()(body)


def test_the_report_is_about_the_time_since_the_one_before_and_fits_a_webhook(berlin: None, tmp_path: Path) -> None:
    text = '[notify]\ndefault = ["hook"]\nreport = "08:00"\n[notify.channels.hook]\nurl = "http://127.0.0.1:1/token-1234567890"\n'
    desk = Desk(tmp_path, settings=text)
    move(desk, at("2027-01-10T09:00"))
    desk.look()
    assert desk.told == [], "who turns it on in the morning gets the first one the next day"
    for number in range(40):
        reason = Reason(ReasonCode.EXCEPTION, {"error_type": "ValueError", "error": f"token-1234567890 \x1b[31m\u202e {'x' * 3000}"})
        desk.ledger.end(desk.claim(failing(number)).grant, Outcome(RunStatus.FAILED, reason), active_seconds=1, keep_lease=False)
    move(desk, at("2027-01-12T10:00"))
    desk.look()
    (report,) = [one for one in desk.notices() if one.event == "report"]
    assert datetime.fromisoformat(report.facts["report"]["since"]) == at("2027-01-10T08:00"), "the machine was off for a day"
    assert "to look at: 40" in report.facts["reason"]
    sent = json.dumps(report.facts, ensure_ascii=False)
    assert len(sent.encode()) < 64 * 1024
    assert "token-1234567890" not in sent
    shown = text_of(report.facts)
    assert "failed job_0: ValueError: ***" in shown
    assert not {"\x1b", "\u202e"} & set(shown)
    desk.close()


@pytest.mark.parametrize(
    ("quiet", "now", "until"),
    [
        ("22:00-07:00", at("2027-03-27T23:00"), at("2027-03-28T07:00")),
        ("22:00-07:00", at("2027-10-31T02:30", fold=1), at("2027-10-31T07:00")),
        ("22:00-07:00", at("2027-10-31T07:00"), None),
        ("22:00-07:00", at("2027-10-30T21:59"), None),
        # Its end does not exist on this day.
        ("22:00-02:30", at("2027-03-28T01:59"), at("2027-03-28T03:30")),
        ("22:00-02:30", at("2027-03-28T03:10"), at("2027-03-28T03:30")),
        ("22:00-02:30", at("2027-03-28T03:30"), None),
        # Its end comes twice: the first time counts.
        ("22:00-02:30", at("2027-10-31T02:15"), at("2027-10-31T02:30")),
        ("22:00-02:30", at("2027-10-31T02:15", fold=1), None),
        ("02:15-02:45", at("2027-10-31T02:20", fold=1), None),
        ("00:00-23:59", at("2027-10-31T02:20", fold=1), at("2027-10-31T23:59")),
    ],
)
def test_the_quiet_hours_end_once_on_the_day_of_a_clock_change(berlin: None, quiet: str, now: datetime, until: datetime | None) -> None:
    start, _, end = quiet.partition("-")
    found = Quiet(datetime.fromisoformat(f"2027-01-01T{start}").time(), datetime.fromisoformat(f"2027-01-01T{end}").time())
    ended = found.until(now)
    assert (ended and ended.timestamp()) == (until and until.timestamp())
