"""Whatever a model, an inbox or a job wrote: on its way to a person it moves no cursor and is never markup."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskpilot.domain.decisions import Verdict
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.tasks import TaskStatus
from taskpilot.store.database import Store
from tests import records
from tests.terminal import on_terminal

NASTY = (
    "\x1b]0;owned\x07\x1b[31mred [link=https://evil.example]click[/link] [/foo] [bold]x "
    "\u202eefas\u202c \x9b2J\u200b\r\nSTATUS  \x00 end\x7f"
)
FORBIDDEN = ("\x1b", "\x07", "\u202e", "\u202c", "\x9b", "\u200b", "\x00", "\x7f", "\r")


@pytest.fixture
def run_id(store: Store) -> str:
    run_id = records.add_run(
        store, status=RunStatus.WAITING, result=NASTY, reason=records.raised(NASTY), parameters=json.dumps({"inbox": NASTY})
    )
    records.add_task(store, run_id, title=NASTY, reason=NASTY, description=NASTY, status=TaskStatus.REVIEW)
    records.add_decision(store, run_id, tool=NASTY, reasons=[NASTY], arguments={NASTY: NASTY}, agent=NASTY)
    records.add_step(store, run_id, name=NASTY, input={"title": NASTY}, error=NASTY)
    records.add_agent(store, run_id, NASTY, "/workflow.0/executor.0")
    folder = store.path.parent / "runs" / run_id
    folder.mkdir(parents=True)
    (folder / "run.log").write_text(
        json.dumps({"@timestamp": NASTY, "log.level": NASTY, "message": NASTY}) + "\n" + "not JSON \x1b[2J\n" + "[1, 2]\n"
    )
    (folder / "output.log").write_bytes(NASTY.encode() + b"\xff\xfe\x1b[2J binary\n")
    return run_id


def pages(store: Store, run_id: str) -> list[list[str]]:
    with store.read() as connection:
        task = connection.exec_driver_sql("SELECT id FROM tasks").scalar_one()
        decision = connection.exec_driver_sql("SELECT id FROM decisions").scalar_one()
    return [
        ["runs", "list"],
        ["runs", "show", run_id],
        ["runs", "logs", run_id],
        ["runs", "logs", run_id, "--output"],
        ["tasks", "list"],
        ["tasks", "show", task],
        ["decisions", "list"],
        ["decisions", "show", decision],
        ["traces", "show", run_id],
    ]


def test_text_in_a_pipe_is_harmless(cli: Callable[..., Any], store: Store, run_id: str) -> None:
    for page in pages(store, run_id):
        said = cli(*page)
        assert said.code == 0, page
        assert [sign for sign in FORBIDDEN if sign in said.out + said.err] == [], page
        assert "end" in said.out or page[0] == "traces", page


def test_json_is_harmless_and_whole(cli: Callable[..., Any], store: Store, run_id: str) -> None:
    for page in pages(store, run_id):
        said = cli(*page, "--json")
        assert [sign for sign in FORBIDDEN if sign in said.out] == [], page
        assert said.json is not None
    assert cli("tasks", "list", "--json").json[0]["title"] == NASTY


def test_a_terminal_gets_no_sequence_but_colours(root: Path, store: Store, run_id: str) -> None:
    # Tables are what rich draws; everything else is printed as in a pipe.
    for page in [page for page in pages(store, run_id) if page[1] != "logs" and page[0] != "traces"]:
        shown = on_terminal(root, *page, columns=100).text
        plain = shown.replace("\x1b[0m", "")
        for colour in ("1", "31", "32", "33", "36"):
            plain = plain.replace(f"\x1b[{colour}m", "")
        plain = plain.replace("\r\n", "\n")
        assert [sign for sign in FORBIDDEN if sign in plain] == [], page
        assert "\x1b]8" not in shown  # A link would be one.


def test_markup_is_shown_as_it_is(root: Path, store: Store, run_id: str) -> None:
    shown = on_terminal(root, "tasks", "list", columns=400).text
    assert "[link=https://evil.example]click[/link] [/foo] [bold]x" in shown


def test_one_row_of_a_table_is_one_line_whatever_stands_in_it(cli: Callable[..., Any], store: Store, run_id: str) -> None:
    assert len(cli("tasks").out.splitlines()) == 2
    assert len(cli("decisions").out.splitlines()) == 2
    assert len(cli("runs").out.splitlines()) == 2
    assert len(cli("runs", "logs", run_id).out.splitlines()) == 3


def test_a_link_that_a_job_left_in_its_folder_is_not_followed(cli: Callable[..., Any], store: Store, tmp_path: Path) -> None:
    run_id = records.add_run(store)
    secret = tmp_path / "secret"
    secret.write_text("the key\n")
    folder = store.path.parent / "runs" / run_id
    folder.mkdir(parents=True)
    (folder / "run.log").symlink_to(secret)
    said = cli("runs", "logs", run_id)
    assert said.code == 74
    assert "the key" not in said.out + said.err


def test_a_denial_is_a_row_without_a_next_command(cli: Callable[..., Any], store: Store) -> None:
    run_id = records.add_run(store)
    decision = records.add_decision(store, run_id, verdict=Verdict.DENY)
    assert "approve" not in cli("decisions", "show", decision).out
