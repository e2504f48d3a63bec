"""`notify`, `incidents` and `notices`: what people type after they were told, or to find out whether they would be."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskpilot.domain.events import EventKind
from taskpilot.domain.ids import new_id, short_id
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.times import utc_now
from taskpilot.store.database import Store
from taskpilot.store.events import record_event
from tests.servers.receiver import Receiver, receiver
from tests.unit.notices.conftest import Desk
from tests.unit.notices.test_delivery import send


@pytest.fixture
def ops() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def told(root: Path, store: Store, ops: Receiver) -> None:
    """One failed run, told to one channel that takes it and one that does not."""
    (root / "taskpilot.toml").write_text(
        f"""jobs = "jobs"
[notify]
default = ["ops", "gone"]
[notify.channels.ops]
url = "{ops.url}/hook"
[notify.channels.gone]
url = "http://127.0.0.1:1/secret-path"
"""
    )
    with store.write() as connection:
        reason = Reason(ReasonCode.EXCEPTION, {"error_type": "ValueError", "error": "no inbox"})
        record_event(connection, EventKind.RUN_FAILED, "triage", at=utc_now(), run_id=new_id(), reason=reason)


def look(root: Path) -> None:
    desk = Desk.__new__(Desk)
    from taskpilot.app.wiring import App
    from taskpilot.config import load

    app = App(load(root=root))
    desk.deployment, desk.store = app.deployment, app.deployment.store
    desk.look()
    send(desk)
    app.deployment.close()


def test_what_was_told_is_listed_with_what_became_of_it(root: Path, told: None, cli: Callable[..., Any]) -> None:
    look(root)
    (incident,) = cli("incidents", "--json").json
    assert {name: incident[name] for name in ("job", "cause", "closed_at", "acknowledged_by", "notices", "state")} == {
        "job": "triage",
        "cause": "run_failed",
        "closed_at": None,
        "acknowledged_by": None,
        "notices": 1,
        "state": "open",
    }
    found = cli("notices", "--json").json
    assert [(one["channel"], one["result"], one["attempts"]) for one in found] == [("gone", "failed", 1), ("ops", "delivered", 1)]
    assert {one["incident_id"] for one in found} == {incident["id"]}
    assert set(found[0]) >= {"id", "incident_id", "event", "channel", "result", "attempts", "created_at", "delivered_at", "error"}
    assert "secret-path" not in json.dumps(found)
    assert [one["channel"] for one in cli("notices", "--result", "failed,unknown", "--json").json] == ["gone"]
    assert cli("incidents", "--status", "closed", "--json").json == []
    assert "no inbox" in cli("incidents").out
    failing = [one for one in cli("status", "--json").json["attention"] if one["kind"] == "notice_failed"]
    assert [(one["reason_facts"]["channel"], one["command"].split()[-3:]) for one in failing] == [
        ("gone", ["notices", "--result", "failed,unknown"])
    ]


def test_an_incident_is_acknowledged_once_by_its_short_id(root: Path, told: None, cli: Callable[..., Any]) -> None:
    look(root)
    incident = cli("incidents", "--json").json[0]["id"]
    said = cli("incidents", "ack", short_id(incident), "--by", "anna")
    assert (said.code, "acknowledged by anna" in said.out) == (0, True)
    assert [(one["state"], one["acknowledged_by"]) for one in cli("incidents", "--json").json] == [("acknowledged", "anna")]
    again = cli("incidents", "ack", "last")
    assert again.code != 0
    assert "acknowledged by anna" in again.err
    assert cli("incidents", "ack", "ffffffff").code == 2


def test_a_test_message_says_which_channel_took_it(root: Path, told: None, ops: Receiver, cli: Callable[..., Any]) -> None:
    found = cli("notify", "test", "--json")
    assert found.code == 75
    assert {one["channel"]: one["delivered"] for one in found.json} == {"ops": True, "gone": False}
    assert [body["event"] for body in ops.bodies] == ["test"]
    assert cli("notify", "test", "ops").code == 0
    unknown = cli("notify", "test", "nobody")
    assert (unknown.code, "there are ops, gone" in unknown.err) == (2, True)
    assert "secret-path" not in found.out


def test_a_drill_says_whether_somebody_acknowledged_it(root: Path, told: None, ops: Receiver, cli: Callable[..., Any]) -> None:
    alone = cli("notify", "drill", "ops", "--wait", "0", "--json")
    assert (alone.code, alone.json["state"], alone.json["cause"]) == (1, "open", "drill")
    assert [(body["event"], body["job"]) for body in ops.bodies] == [("drill", None)]
    command = ops.bodies[0]["command"].split()
    assert cli(*command[1:], "--by", "anna").code == 0
    (incident,) = [one for one in cli("incidents", "--json").json if one["cause"] == "drill"]
    assert (incident["state"], incident["acknowledged_by"]) == ("closed", "anna")


def test_without_a_channel_the_commands_say_what_to_write(root: Path, store: Store, cli: Callable[..., Any]) -> None:
    for words in (("notify", "test"), ("notify", "drill")):
        said = cli(*words)
        assert said.code == 78
        assert "[notify.channels.ops]" in said.err
    (root / "taskpilot.toml").write_text('[notify.channels.ops]\nurl = "http://127.0.0.1:1/"\n')
    assert 'add default = ["ops"] to [notify]' in cli("notify", "drill").err
    assert cli("notices", "--json").json == cli("incidents", "--json").json == []


def test_a_job_that_names_an_unknown_channel_is_refused_before_it_starts(root: Path, store: Store, cli: Callable[..., Any]) -> None:
    text = (root / "jobs" / "triage.py").read_text().replace("@job(", '@job(notify=["night"], ')
    (root / "jobs" / "triage.py").write_text(text)
    said = cli("run", "triage")
    assert said.code == 78
    assert "notify names night, which is not a channel" in said.err


def test_doctor_checks_the_channels_without_sending(root: Path, told: None, ops: Receiver, cli: Callable[..., Any]) -> None:
    with (root / "taskpilot.toml").open("a") as file:
        file.write('[notify.channels.typo]\nurl = "slakc://token-token"\n')
    found = {one["code"]: one for one in cli("doctor", "--json").json["findings"] if one["subject"] == "notices"}
    assert set(found) == {"notices.unusable", "notices.unsigned", "notices.ok"}
    assert "'typo'" in found["notices.unusable"]["sentence"]
    assert "token-token" not in json.dumps(found)
    assert ops.bodies == []
