"""Planted faults of a crontab: each line's flaw found by its code, each fix named."""

import sys
from pathlib import Path

from tests.acceptance.doctor.deployments import Patient

GOOD = "run good --scheduled-for auto --quiet"


def program(deployment: Patient) -> Path:
    """Something that can be started by its whole path."""
    made = deployment.bin / "taskpilot"
    made.write_text("#!/bin/sh\n")
    made.chmod(0o755)
    return made


def test_a_line_with_all_that_it_needs_is_well(deployment: Patient) -> None:
    deployment.settings('model = "offline"\n[otel]\nenabled = false\n')
    deployment.crontab(f'MAILTO=me\nTASKPILOT={program(deployment)}\n 0 7 * * 1-5 . ~/.env; "$TASKPILOT" --root {deployment.root} {GOOD}\n')
    found = deployment.diagnose()
    assert (found.code, found.bad) == (0, set())
    assert "crontab lines for this root: 1" in found.one("cron.ok")["sentence"]


def test_each_flaw_of_each_line_is_named(deployment: Patient) -> None:
    known = program(deployment)
    deployment.crontab(
        f"0 7 * * * taskpilot --root {deployment.root} {GOOD}\n"
        f"# 0 7 * * * taskpilot run commented\n"
        f"0 7 * * * .venv/bin/taskpilot --root {deployment.root} {GOOD}\n"
        f"0 7 * * * {known} {GOOD}\n"
        f"0 7 * * * {known} --root {deployment.root} run good -p day=$(date +%F) --scheduled-for auto --quiet\n"
        f"@daily {known} --root {deployment.root} run good\n"
        f"0 7 * * * {known} --root {deployment.root} run gone --scheduled-for auto --quiet\n"
        f"0 7 * * * {known} --root {deployment.root} run by_hand --scheduled-for auto --quiet\n"
        f"0 7 * * * {known} --root {deployment.root} run by_hand --quiet\n"
        f"0 7 * * * {known} --root /srv/another run gone\n"
    )
    found = deployment.diagnose()
    assert found.code == 0
    assert [one["sentence"].split(":")[0] for one in found.findings["cron.command"]] == ["crontab line 1", "crontab line 3"]
    assert found.findings["cron.command"][0]["fix"].startswith("write the whole path: /")
    assert "crontab line 4 " in found.one("cron.no-root")["sentence"]
    assert f"--root {deployment.root}" in found.one("cron.no-root")["fix"]
    assert "crontab line 5 " in found.one("cron.percent")["sentence"]
    assert found.one("cron.percent")["fix"] == "write \\% for each %"
    assert found.one("cron.not-quiet")["fix"] == "add --quiet to `run good`"
    assert found.one("cron.no-fire")["fix"] == "add --scheduled-for auto to `run good`"
    assert "crontab line 8 " in found.one("cron.no-schedule")["sentence"]
    assert "schedule=cron(...)" in found.one("cron.no-schedule")["fix"]
    assert "runs gone" in found.one("cron.unknown-job")["sentence"]
    assert "TASKPILOT_MODEL" in found.findings["cron.shell-only"][0]["sentence"]
    assert "taskpilot.toml" in found.findings["cron.shell-only"][0]["fix"]
    assert found.bad == {
        "cron.command",
        "cron.no-root",
        "cron.percent",
        "cron.not-quiet",
        "cron.no-fire",
        "cron.no-schedule",
        "cron.unknown-job",
        "cron.shell-only",
    }


def test_an_environment_without_home_is_told(deployment: Patient) -> None:
    found = deployment.diagnose(environment={"HOME": None} if sys.platform == "linux" else {})
    assert found.bad == {"cron.environment"}
    assert found.one("cron.environment")["fix"].startswith("write HOME=...")


def test_a_crontab_that_cannot_be_listed_is_not_called_well(deployment: Patient) -> None:
    (deployment.bin / "crontab").write_text("#!/bin/sh\necho 'you are not allowed' >&2\nexit 1\n")
    found = deployment.diagnose()
    assert (found.code, found.bad) == (0, {"cron.unchecked"})
    assert "you are not allowed" in found.one("cron.unchecked")["sentence"]
