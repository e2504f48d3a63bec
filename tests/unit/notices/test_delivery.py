"""What is due is sent in order until it arrives, with one key for each notice; whatever the receiver does, nothing is lost."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import update

from taskpilot.domain.events import EventKind
from taskpilot.domain.ids import new_id
from taskpilot.domain.notices import NoticeResult
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.notices.delivery import Sender
from taskpilot.notices.routes import Routes
from taskpilot.store import notice_tables as tables
from taskpilot.store import notices
from tests.servers.receiver import Receiver, receiver
from tests.unit.notices.conftest import Desk

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture
def ops() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def settings_for(ops: Receiver, more: str = "", channels: str = "") -> str:
    return f"""
[notify]
default = ["ops"]
{more}
[notify.channels.ops]
url = "{ops.url}/hook"
secret = "{ops.secret}"
{channels}"""


@pytest.fixture
def desk(tmp_path: Path, ops: Receiver) -> Iterator[Desk]:
    made = Desk(tmp_path, settings=settings_for(ops))
    yield made
    made.close()


def send(desk: Desk, seconds: float = 10.0) -> None:
    Sender(desk.deployment, Routes.of(desk.deployment)).send(seconds=seconds)


def results(desk: Desk) -> list[tuple[str, int]]:
    return [(one.result.value, one.attempts) for one in desk.notices()]


def test_a_notice_arrives_signed_with_its_key_and_its_row_says_so(desk: Desk, ops: Receiver) -> None:
    desk.happen(EventKind.RUN_FAILED, run_id=new_id())
    desk.look()
    send(desk)
    (notice,) = desk.notices()
    assert (notice.result, notice.attempts, notice.due_at, notice.delivered_at) == (NoticeResult.DELIVERED, 1, None, desk.clock())
    assert ops.bodies == [notice.facts]
    assert ops.keys == [notice.id]
    assert ops.signed == [True]
    send(desk)
    assert len(ops.bodies) == 1
    assert desk.total("taskpilot_notices_total") == {'{"channel":"ops","result":"delivered"}': 1}


@pytest.mark.parametrize("status", [500, 503, 401, 404, 302])
def test_while_the_receiver_answers_with_an_error_everything_waits_and_is_tried_every_ten_seconds(
    desk: Desk, ops: Receiver, status: int
) -> None:
    ops.status = status
    for kind in (EventKind.RUN_FAILED, EventKind.RUN_LOST):
        desk.happen(kind)
    desk.look()
    for _ in range(3):
        send(desk)
        send(desk)
        desk.later(10)
    # The first one holds up the second: they arrive in order.
    assert results(desk) == [("failed", 3), ("pending", 0)]
    assert set(ops.paths) == {"/hook"}, "no redirect is followed"
    assert f"HTTP {status}" in (desk.notices()[0].error or "")
    ops.status = 200
    send(desk)
    assert [body["event"] for body in ops.bodies] == ["run_failed", "run_lost"]
    assert results(desk) == [("delivered", 4), ("delivered", 1)]


def test_a_message_that_the_receiver_does_not_want_is_given_up_and_the_next_arrives(desk: Desk, ops: Receiver) -> None:
    ops.status = 422
    desk.happen(EventKind.RUN_FAILED)
    desk.look()
    for _ in range(3):
        send(desk)
        desk.later(10)
    assert results(desk) == [("failed", 3)]
    assert desk.notices()[0].settled
    ops.status = 200
    desk.happen(EventKind.RUN_LOST)
    desk.look()
    send(desk)
    assert [body["event"] for body in ops.bodies] == ["run_lost"]


def test_a_lost_answer_is_unknown_and_sent_again_with_the_same_key(desk: Desk, ops: Receiver) -> None:
    ops.drop = True
    desk.happen(EventKind.RUN_FAILED)
    desk.look()
    send(desk)
    assert results(desk) == [("unknown", 1)]
    ops.drop = False
    desk.later(10)
    send(desk)
    assert results(desk) == [("delivered", 2)]
    assert ops.keys == [desk.notices()[0].id] * 2
    assert ops.bodies[0] == ops.bodies[1]


def test_a_receiver_that_cannot_be_reached_is_tried_less_and_less_often(desk: Desk, ops: Receiver) -> None:
    desk.happen(EventKind.RUN_FAILED)
    desk.look()
    channel = desk.deployment.settings.notify_channels["ops"]
    object.__setattr__(channel, "url", "http://127.0.0.1:1/hook")
    waits = []
    for _ in range(8):
        send(desk)
        due = desk.notices()[0].due_at
        assert due is not None
        waits.append((due - desk.clock()).total_seconds())
        desk.clock.advance(due - desk.clock())
    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]
    assert "hook" not in (desk.notices()[0].error or "")


def test_after_a_week_a_notice_is_given_up(desk: Desk, ops: Receiver) -> None:
    ops.status = 500
    desk.happen(EventKind.RUN_FAILED)
    desk.look()
    desk.clock.advance(timedelta(days=7, seconds=1))
    send(desk)
    assert desk.notices()[0].settled
    assert results(desk) == [("failed", 1)]


def test_a_hanging_receiver_holds_up_neither_the_others_nor_the_sender(tmp_path: Path, ops: Receiver) -> None:
    with receiver() as slow:
        slow.hang = 600
        made = Desk(
            tmp_path,
            settings=settings_for(ops).replace('["ops"]', '["slow", "ops"]') + f'[notify.channels.slow]\nurl = "{slow.url}/"\n',
        )
        for kind in (EventKind.RUN_FAILED, EventKind.RUN_LOST):
            made.happen(kind)
        made.look()

        def arrived() -> bool:
            return [one.result for one in made.notices() if one.channel == "ops"] == [NoticeResult.DELIVERED] * 2

        Sender(made.deployment, Routes.of(made.deployment), stop=arrived).send(seconds=120)
        assert [body["event"] for body in ops.bodies] == ["run_failed", "run_lost"]
        assert slow.bodies == []
        assert {one.result for one in made.notices() if one.channel == "slow"} == {NoticeResult.UNKNOWN, NoticeResult.PENDING}
        made.close()


def test_one_process_sends_and_another_one_learns_which(desk: Desk, ops: Receiver) -> None:
    desk.happen(EventKind.RUN_FAILED)
    desk.look()
    other = desk.deployment.owner
    with desk.store.write() as connection:
        boot = desk.clock.boot()
        until = boot + timedelta(seconds=30)
        assert notices.take_lease(connection, "other", other, boot=boot, until=until, is_gone=lambda _owner: False) is None
    assert Sender(desk.deployment, Routes.of(desk.deployment)).send(seconds=5) == other
    assert ops.bodies == []
    desk.later(31)
    send(desk)
    assert len(ops.bodies) == 1


def test_a_sender_that_lost_its_lease_begins_nothing(desk: Desk, ops: Receiver) -> None:
    desk.happen(EventKind.RUN_FAILED)
    desk.look()
    with desk.store.write() as connection:
        until = desk.clock.boot() + timedelta(seconds=30)
        assert notices.begin_sending(connection, "ops", "stale", now=desk.clock(), until=until, digest=False) == ()
    assert results(desk) == [("pending", 0)]


@pytest.mark.parametrize("quiet", ["22:00-07:00", "11:00-13:00"])
def test_in_the_quiet_hours_a_webhook_gets_nothing_and_each_notice_at_their_end(tmp_path: Path, ops: Receiver, quiet: str) -> None:
    made = Desk(tmp_path, settings=settings_for(ops, f'quiet = "{quiet}"'))
    start = made.clock().astimezone().replace(hour=int(quiet[:2]), minute=30)
    made.clock.advance(start - made.clock())
    for _ in range(2):
        made.happen(EventKind.RUN_FAILED)
        made.happen(EventKind.RUN_SUCCEEDED)
        made.later(60)
    made.look()
    send(made)
    assert (ops.bodies, [one.result for one in made.notices()]) == ([], [NoticeResult.PENDING] * 4)
    end = made.notices()[0].held_until
    assert end is not None
    assert end.astimezone().strftime("%H:%M") == quiet[6:]
    made.clock.advance(end - made.clock())
    send(made)
    assert [body["event"] for body in ops.bodies] == ["run_failed", "recovered"] * 2
    made.close()


def test_a_notice_that_is_not_held_passes_those_of_the_quiet_hours(desk: Desk, ops: Receiver) -> None:
    desk.happen(EventKind.RUN_FAILED)
    desk.look()
    with desk.store.write() as connection:
        later = desk.clock() + timedelta(hours=1)
        connection.execute(update(tables.notices).values(held_until=round(later.timestamp() * 1e6)))
    desk.happen(EventKind.RUN_LOST)
    desk.look()
    send(desk)
    assert [body["event"] for body in ops.bodies] == ["run_lost"]


def test_a_channel_that_was_taken_out_of_the_settings_gets_nothing_more(desk: Desk) -> None:
    desk.happen(EventKind.RUN_FAILED)
    desk.look()
    with desk.store.write() as connection:
        connection.execute(update(tables.notices).values(channel="gone"))
    send(desk)
    assert results(desk) == [("failed", 1)]
    assert desk.notices()[0].settled


def test_the_end_of_each_run_is_pinged_with_its_exit_code_and_leaves_no_row(tmp_path: Path, ops: Receiver) -> None:
    made = Desk(tmp_path, settings=f'[notify]\nping_url = "{ops.url}/uuid"\n')
    first, second = new_id(), new_id()
    made.happen(EventKind.RUN_SUCCEEDED, run_id=first)
    made.happen(EventKind.OUTCOME_FAILED, run_id=second, reason=Reason(ReasonCode.OUTCOME_FAILED, {"error": "none"}))
    made.look()
    ops.status = 500
    send(made)
    ops.status = 200
    made.later(10)
    send(made)
    assert ops.paths == [f"/uuid/0?rid={first}", f"/uuid/0?rid={first}", f"/uuid/15?rid={second}"]
    assert made.notices() == []
    made.close()


class Killed(BaseException):
    """The sender's process dies here."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_night_of_200_events_with_an_outage_and_kills_loses_nothing_and_tells_nothing_twice(
    desk: Desk, ops: Receiver, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    random = Random(seed)
    jobs = [f"job_{number}" for number in range(8)]
    bad = [EventKind.RUN_FAILED, EventKind.RUN_LOST, EventKind.RUN_TIMED_OUT, EventKind.FIRE_MISSED, EventKind.OUTCOME_FAILED]
    deliver, record = Sender._deliver, Sender._record
    kills = 0

    def dies(chance: float) -> None:
        nonlocal kills
        if random.random() < chance:
            kills += 1
            raise Killed

    def delivering(self: Sender, *args: object) -> None:
        dies(0.1)
        deliver(self, *args)  # type: ignore[arg-type]
        dies(0.1)

    def recording(self: Sender, *args: object, **named: object) -> None:
        dies(0.1)
        record(self, *args, **named)  # type: ignore[arg-type]
        dies(0.1)

    # Who is killed gives back no lease.
    monkeypatch.setattr(Sender, "_deliver", delivering)
    monkeypatch.setattr(Sender, "_record", recording)
    monkeypatch.setattr("taskpilot.notices.delivery.notices.release_lease", lambda *_: None)
    began, happened, morning = desk.clock(), 0, True
    outage = timedelta(hours=3), timedelta(hours=4)
    for minute in range(0, 12 * 60, 2):
        if happened < 200:
            for _ in range(random.choice((0, 0, 1, 1, 2))):
                # The last job fails all night.
                job = random.choice(jobs)
                kind = EventKind.RUN_SUCCEEDED if job != jobs[-1] and random.random() < 0.3 else random.choice(bad)
                desk.happen(kind, job, run_id=new_id())
                happened += 1
        elif morning:
            morning = False
            for job in jobs:
                desk.happen(EventKind.RUN_SUCCEEDED, job, run_id=new_id())
        ops.status = 503 if outage[0] <= timedelta(minutes=minute) < outage[1] else 200
        desk.look()
        send(desk)
        desk.clock.advance(timedelta(minutes=2))
    assert happened >= 200
    assert kills > 20
    every = desk.notices()
    assert {one.result for one in every} == {NoticeResult.DELIVERED}
    # Each arrived, in order, and what came again came with its key.
    assert [body["incident"] for body in ops.once] == [one.facts["incident"] for one in every]
    assert set(ops.keys) == {one.id for one in every}
    assert len(ops.keys) > len(every), "no lost answer was met"
    assert all(ops.signed)
    told = Counter((body["incident"], body["event"], body["reminder"]) for body in ops.once)
    assert set(told.values()) == {1}
    for incident in desk.incidents():
        mine = [body for body in ops.once if body["incident"] == incident.id]
        assert incident.closed_at is not None
        assert [body["event"] for body in mine] == [incident.cause.value] * incident.notices + ["recovered"]
        # A reminder after each four hours, or as soon as the one before has arrived.
        lasted = incident.closed_at - incident.opened_at
        assert (incident.notices - 1) * timedelta(hours=4) <= lasted < incident.notices * timedelta(hours=5, minutes=10)
    assert any(one.notices > 1 for one in desk.incidents())
    assert desk.clock() - began == timedelta(hours=12)
