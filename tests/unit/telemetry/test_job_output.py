"""What a job prints, on its way into the shared log: bounded, whole lines, harmless, without secrets."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from taskpilot.domain.events import RunIdentity
from taskpilot.telemetry.ecs import EcsLines
from taskpilot.telemetry.job_output import BYTES_MAX, KEPT_BYTES, LINES_MAX, JobOutput
from taskpilot.telemetry.log_files import SharedLogFile
from taskpilot.telemetry.redaction import Redactor
from tests.stopwatch import own_seconds

RUN = RunIdentity("0190", "triage", 2, "a" * 32, "b" * 16, "testing")
KEY = "canary-7f3e9a1c5d"


class LoggedOutput:
    """An output.log that is written and followed, and the log that it goes to."""

    def __init__(self, folder: Path, before: bytes = b"", **options: Any) -> None:
        self.path = folder / "output.log"
        self.path.write_bytes(before)
        self.log = folder / "taskpilot.log"
        self.output = JobOutput(self.path, RUN, SharedLogFile(self.log), EcsLines(Redactor([KEY])), **options)

    def print(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def messages(self) -> list[str]:
        return [line["message"] for line in self.lines()]


def test_each_printed_line_is_an_event_of_its_run(tmp_path: Path) -> None:
    logged = LoggedOutput(tmp_path)
    logged.print(b"one\ntwo\n")
    logged.output.copy_new()
    logged.output.close()
    line = logged.lines()[0]
    assert logged.messages() == ["one", "two"]
    assert (line["log.logger"], line["log.level"], line["event.action"]) == ("job.output", "info", "job-output")
    assert (line["trace.id"], line["span.id"], line["taskpilot.run.id"]) == ("a" * 32, "b" * 16, "0190")
    assert (line["taskpilot.job.name"], line["taskpilot.run.attempt"], line["taskpilot.deployment"]) == ("triage", 2, "testing")
    # It is the supervisor that writes, and another process that said it.
    assert "process.pid" not in line


def test_a_line_is_logged_when_it_is_whole_and_the_last_one_at_the_end(tmp_path: Path) -> None:
    logged = LoggedOutput(tmp_path)
    logged.print(b"first\nsec")
    logged.output.copy_new()
    assert logged.messages() == ["first"]
    logged.print(b"ond\nno end")
    logged.output.copy_new()
    assert logged.messages() == ["first", "second"]
    logged.output.close()
    assert logged.messages() == ["first", "second", "no end"]


def test_an_earlier_attempts_output_is_not_logged_again(tmp_path: Path) -> None:
    logged = LoggedOutput(tmp_path, before=b"attempt 1\n")
    logged.print(b"attempt 2\n")
    logged.output.close()
    assert logged.messages() == ["attempt 2"]


def test_binary_and_escapes_are_harmless_text(tmp_path: Path) -> None:
    logged = LoggedOutput(tmp_path)
    logged.print(b"\xff\xfe\x1b[2J\x00red \xe2\x80\xae\n")
    logged.output.close()
    assert logged.messages() == [r"\xff\xfe\x1b[2J\x00red \u202e"]


def test_10_mb_come_to_a_bounded_number_of_lines_and_the_end_is_among_them(tmp_path: Path) -> None:
    logged = LoggedOutput(tmp_path)
    took: list[float] = []
    for number in range(100):
        logged.print(b"".join(b"line %d\n" % (1000 * number + each) + b"." * 90 + b"\n" for each in range(1000)))
        if number < 5:
            began = own_seconds()
            logged.output.copy_new()
            took.append(own_seconds() - began)
    assert min(took) < 0.2
    logged.print(b"ValueError: the reason\n")
    logged.output.close()
    lines = logged.lines()
    assert len(lines) < LINES_MAX + 500
    (out,) = [number for number, line in enumerate(lines) if line["event.action"] == "output-left-out"]
    assert (lines[0]["message"], out, lines[-1]["message"]) == ("line 0", LINES_MAX, "ValueError: the reason")
    assert lines[out]["log.level"] == "warning"
    left = int(lines[out]["message"].split()[0])
    assert left == logged.path.stat().st_size - sum(len(line["message"]) + 1 for number, line in enumerate(lines) if number != out)


def test_a_line_without_an_end_is_cut_and_the_next_line_is_logged(tmp_path: Path) -> None:
    logged = LoggedOutput(tmp_path)
    logged.print(b"x" * 300_000 + b"\nnext\n")
    logged.output.copy_new()
    logged.output.close()
    assert [len(message) for message in logged.messages()] == [8192, 4]
    assert logged.messages()[1] == "next"


def test_a_long_line_that_grows_between_two_copies_is_one_line(tmp_path: Path) -> None:
    logged = LoggedOutput(tmp_path)
    for _ in range(4):
        logged.print(b"x" * 70_000 + KEY.encode()[:8])
        logged.output.copy_new()
        logged.print(KEY.encode()[8:])
    logged.print(b"\nnext\n")
    logged.output.close()
    assert [len(message) for message in logged.messages()] == [8192, 4]
    assert KEY[:6] not in logged.log.read_text()


def test_a_line_that_never_ends_is_bounded_too(tmp_path: Path) -> None:
    logged = LoggedOutput(tmp_path)
    logged.print(b"x" * (3 * BYTES_MAX))
    logged.output.copy_new()
    logged.output.close()
    assert [line["event.action"] for line in logged.lines()] == ["job-output", "output-left-out"]


@pytest.mark.parametrize("padding", [0, 10, 8180, 65_520, 65_530, 200_000])
def test_no_part_of_a_secret_is_logged_at_any_position(tmp_path: Path, padding: int) -> None:
    logged = LoggedOutput(tmp_path)
    logged.print(b"." * padding + f"{KEY} {KEY}".encode() * 10_000 + b"\n")
    logged.output.copy_new()
    logged.print(f"{KEY}\n".encode())
    logged.output.close()
    assert logged.messages()[-1] == "***"
    assert KEY[:6] not in logged.log.read_text()


def test_only_secrets_as_one_line_leave_no_half_of_one(tmp_path: Path) -> None:
    logged = LoggedOutput(tmp_path)
    logged.print(KEY.encode() * 10_000)
    logged.output.close()
    assert KEY[:3] not in logged.log.read_text()


@pytest.mark.parametrize("what", ["link", "pipe", "nothing", "folder"])
def test_what_a_job_puts_in_the_files_place_is_not_read(tmp_path: Path, what: str) -> None:
    logged = LoggedOutput(tmp_path)
    logged.path.unlink()
    (tmp_path / "private").write_text("private\n")
    if what == "link":
        logged.path.symlink_to(tmp_path / "private")
    elif what == "pipe":
        os.mkfifo(logged.path)
    elif what == "folder":
        logged.path.mkdir()
    with suppress(OSError):
        logged.output.copy_new()
    logged.output.close()
    assert logged.lines() == []


def test_an_output_beyond_its_ceiling_keeps_its_beginning_and_continues(tmp_path: Path) -> None:
    logged = LoggedOutput(tmp_path, ceiling_bytes=3 * KEPT_BYTES)
    with logged.path.open("ab", buffering=0) as job:
        job.write(b"the beginning\n" + b"x" * 4 * KEPT_BYTES)
        logged.output.copy_new()
        job.write(b"what came after\n")
    kept = logged.path.read_bytes()
    assert KEPT_BYTES < len(kept) < KEPT_BYTES + 200
    assert kept.startswith(b"the beginning\n")
    assert kept.endswith(b"the file was too large]\nwhat came after\n")
    logged.output.close()
    assert logged.messages()[-1] == "what came after"


def test_a_level_that_leaves_the_lines_out_still_watches_the_size(tmp_path: Path) -> None:
    logged = LoggedOutput(tmp_path, logged=False, ceiling_bytes=2 * KEPT_BYTES)
    logged.print(b"x" * 3 * KEPT_BYTES)
    logged.output.copy_new()
    logged.output.close()
    assert logged.lines() == []
    assert logged.path.stat().st_size < 2 * KEPT_BYTES
