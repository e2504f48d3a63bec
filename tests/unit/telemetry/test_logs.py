"""Log lines: whole, safe and without secrets."""

import json
import logging
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from taskpilot.domain.events import Event, RunIdentity
from taskpilot.telemetry.logs import LogSignal, configure_logs, run_logger

RUN = RunIdentity("0190", "triage", 2, "a" * 32, "b" * 16, "testing")
pytestmark = pytest.mark.usefixtures("unlogged")


def lines(home: Path, name: str = "logs/taskpilot.log") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / name).read_text().splitlines()]


def test_an_event_is_a_line_with_the_names_of_ecs(home: Path) -> None:
    configure_logs(home, run_id="0190", identity=RUN)
    at = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
    LogSignal().emit(Event(RUN, at, "step-ended", "The step ended.", fields={"step.kind": "ask", "tokens": 30, "list": [1]}))
    (line,) = lines(home)
    assert line["@timestamp"] == "2026-11-23T12:00:00.123Z"
    assert (line["log.level"], line["message"], line["event.action"]) == ("info", "The step ended.", "step-ended")
    assert (line["trace.id"], line["span.id"]) == ("a" * 32, "b" * 16)
    assert (line["taskpilot.run.id"], line["taskpilot.job.name"], line["taskpilot.run.attempt"]) == ("0190", "triage", 2)
    assert (line["taskpilot.step.kind"], line["taskpilot.tokens"], line["taskpilot.list"]) == ("ask", 30, "[1]")
    assert (line["service.name"], line["process.pid"]) == ("taskpilot", os.getpid())
    assert {"ecs.version", "host.name", "taskpilot.deployment"} <= set(line)
    assert lines(home, "runs/0190/run.log") == [line]


def test_files_are_ours_alone(home: Path) -> None:
    configure_logs(home)
    run_logger(RUN).info("hello")
    assert stat.S_IMODE((home / "logs").stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "logs/taskpilot.log").stat().st_mode) == 0o600


def test_braces_tags_and_escapes_of_a_model_are_only_text(home: Path) -> None:
    configure_logs(home)
    evil = "{} {0} {extra[x]} <red>{message}</red> \x1b[2J\u202e\n%s </foo> \ud800"
    run_logger(RUN).warning(evil, reply=evil, **{"a.b c": evil})
    (line,) = lines(home)
    assert line["message"].startswith("{} {0} {extra[x]} <red>{message}</red>")
    assert set(line["labels"]) == {"reply", "a_b_c"}
    raw = (home / "logs/taskpilot.log").read_bytes()
    assert raw.count(b"\n") == 1
    assert raw.isascii()
    assert b"\x1b" not in raw


def test_a_secret_is_masked_everywhere(home: Path) -> None:
    configure_logs(home, secrets=("sk-very-secret", ""))
    log = run_logger(RUN)
    log.info("key sk-very-secret", header={"Authorization": "Bearer sk-very-secret"})
    LogSignal().emit(Event(RUN, datetime.now(UTC), "x", "m", fields={"nested": {"k": ["sk-very-secret"]}}))
    logging.getLogger("some.library").error("with %s", "sk-very-secret")
    try:
        key = "sk-very-secret"
        raise ValueError(f"bad {key}")
    except ValueError:
        log.exception("failed")
    text = (home / "logs/taskpilot.log").read_text()
    assert "sk-very-secret" not in text
    assert len(text.splitlines()) == 4
    assert lines(home)[3]["error.message"] == "bad ***"


def test_what_libraries_log_never_reaches_stderr(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs(home)
    logging.getLogger("opentelemetry.exporter").error("Failed to export {traces} to %s", "localhost")
    logging.getLogger("opentelemetry.exporter").info("chatter")
    assert [line["message"] for line in lines(home)] == ["Failed to export {traces} to localhost"]
    assert capfd.readouterr() == ("", "")


def test_values_that_json_cannot_say_do_not_cost_the_line(home: Path) -> None:
    class Rude:
        def __str__(self) -> str:
            raise RuntimeError("no")

    loop: list[Any] = []
    loop.append(loop)
    configure_logs(home)
    LogSignal().emit(Event(RUN, datetime.now(UTC), "x", "m", fields={"rude": Rude(), "nan": float("nan"), "loop": loop, "bytes": b"\xff"}))
    run_logger(RUN).info("m", rude=Rude(), level="info", message="not a clash")
    run_logger(RUN).info(Rude())
    first, second = lines(home)
    assert (first["taskpilot.rude"], first["taskpilot.nan"]) == ("<Rude>", "nan")
    assert second["labels"] == {"rude": "<Rude>", "level": "info", "message": "not a clash"}


def test_percent_arguments_go_into_the_message_and_fields_beside_it(home: Path) -> None:
    configure_logs(home)
    log = run_logger(RUN)
    log.info("read %d lines of %s", 7, "inbox", took="1s")
    log.debug("not shown %s", 1)
    log.warning("%(done)d of %(all)d", {"done": 1, "all": 2})
    log.error("100 %")
    assert [line["message"] for line in lines(home)] == ["read 7 lines of inbox", "1 of 2", "100 %"]
    assert lines(home)[0]["labels"] == {"took": "1s"}


def test_arguments_that_do_not_fit_the_message_do_not_cost_the_line(home: Path) -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    configure_logs(home)
    for message, argument in (("read %d lines", "many"), ("read %d of %d", 1), ("100 %", 1), ("no place", 1), ("said %s", Rude())):
        run_logger(RUN).info(message, argument)
    said = [line["message"] for line in lines(home)]
    assert said == ["read %d lines ('many',)", "read %d of %d (1,)", "100 % (1,)", "no place (1,)", "said %s"]


def test_a_huge_message_is_cut(home: Path) -> None:
    configure_logs(home)
    LogSignal().emit(Event(RUN, datetime.now(UTC), "x", "m" * 10_000_000, fields={str(number): "f" * 9000 for number in range(100)}))
    (line,) = lines(home)
    assert len(line["message"]) == 8192


def test_the_level_is_kept(home: Path) -> None:
    configure_logs(home, level="WARNING")
    run_logger(RUN).info("no")
    run_logger(RUN).error("yes")
    logging.getLogger("x").info("no")
    assert [line["message"] for line in lines(home)] == ["yes"]


def test_configuring_twice_writes_each_line_once(home: Path) -> None:
    configure_logs(home)
    configure_logs(home)
    run_logger(RUN).info("once")
    logging.getLogger("x").warning("once")
    assert len(lines(home)) == 2


def test_a_full_disk_is_reported_once_and_the_run_continues(tmp_path: Path) -> None:
    home = tmp_path / "full"
    (home / "logs").mkdir(parents=True)
    (home / "logs" / "taskpilot.log").symlink_to("/dev/full")
    said: list[str] = []
    configure_logs(home, warn=said.append)
    for _ in range(1000):
        run_logger(RUN).info("x")
    assert len(said) == 1
    assert "could not be written" in said[0]
