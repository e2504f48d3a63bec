"""Each setting as it may be seen: no secret, and where it came from."""

import dataclasses
from pathlib import Path

from taskpilot.config import Settings, load, survey
from taskpilot.config.listing import listed, process_environment


def test_every_setting_is_listed_once(root: Path) -> None:
    rows = listed(load(cwd=root, environ={}))
    assert len({row.name for row in rows}) == len(rows) == len(dataclasses.fields(Settings)) - 6
    assert {row.source for row in rows} == {"default"}


def test_what_is_or_may_hold_a_secret_is_masked(root: Path) -> None:
    (root / "taskpilot.toml").write_text('[notify.channels.ops]\nurl = "https://hooks.example/s3cret?s3cret"\n')
    environ = {
        "OPENAI_API_KEY": "s3cret",
        "TASKPILOT_API_TOKEN": "s3cret",
        "OPENAI_BASE_URL": "https://s3cret@model.example/v1?key=s3cret",
        "TASKPILOT_PUSHGATEWAY_URL": "http://me:s3cret@gateway.example:9091/base",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=s3cret",
    }
    rows = {row.name: row for row in listed(load(cwd=root, environ=environ))}
    assert "s3cret" not in str(rows)
    assert rows["openai.base_url"].value == "https://***@model.example/v1?***"
    assert rows["pushgateway_url"].value == "http://***@gateway.example:9091/base"
    assert rows["otel.headers"].value == "authorization=***"
    assert rows["notify.channels"].value == "ops=https://hooks.example/***"
    assert (rows["OPENAI_API_KEY"].value, rows["OPENAI_API_KEY"].source) == ("***", "env OPENAI_API_KEY")


def test_a_survey_tells_every_problem_and_keeps_what_is_sound(root: Path) -> None:
    (root / "taskpilot.toml").write_text('modle = "x"\nlog_level = "loud"\nmodel = "m"\n[policy]\nfiles = ["gone.rego"]\n')
    found = survey(cwd=root, environ={"TASKPILOT_LEASE_SECONDS": "1"})
    assert list(found.problems) == ["modle", "log_level", "lease_seconds", "policy_files"]
    assert (found.settings.model, found.settings.log_level, found.settings.lease_seconds) == ("m", "INFO", 30.0)


def test_a_variable_with_our_prefix_that_sets_nothing_is_unknown() -> None:
    around = process_environment(
        {"PATH": "/bin", "TASKPILOT_MODELL": "x", "TASKPILOT_MODEL": "m", "TASKPILOT_DATABASE_URL": "x", "OTHER": "x"}
    )
    assert (around.path, around.home, around.unknown) == ("/bin", None, ("TASKPILOT_MODELL",))
