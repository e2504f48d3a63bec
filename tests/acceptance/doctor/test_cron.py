"""Planted faults of a crontab: each line's flaw found by its code, each mend named."""

import sys
from pathlib import Path

from tests.acceptance.doctor.houses import Patient

GOOD = "run good --scheduled-for auto --quiet"


def program(house: Patient) -> Path:
    """Something that can be started by its whole path."""
    made = house.bin / "taskpilot"
    made.write_text("#!/bin/sh\n")
    made.chmod(0o755)
    return made


def test_a_line_with_all_that_it_needs_is_well(house: Patient) -> None:
    house.settings('model = "offline"\n[otel]\nenabled = false\n')
    house.crontab(f'MAILTO=me\nTASKPILOT={program(house)}\n 0 7 * * 1-5 . ~/.env; "$TASKPILOT" --root {house.root} {GOOD}\n')
    found = house.diagnose()
    assert (found.code, found.bad) == (0, set())
    assert "crontab lines for this root: 1" in found.one("cron.ok")["sentence"]


def test_each_flaw_of_each_line_is_named(house: Patient) -> None:
    known = program(house)
    house.crontab(
        f"0 7 * * * taskpilot --root {house.root} {GOOD}\n"
        f"# 0 7 * * * taskpilot run commented\n"
        f"0 7 * * * .venv/bin/taskpilot --root {house.root} {GOOD}\n"
        f"0 7 * * * {known} {GOOD}\n"
        f"0 7 * * * {known} --root {house.root} run good -p day=$(date +%F) --scheduled-for auto --quiet\n"
        f"@daily {known} --root {house.root} run good\n"
        f"0 7 * * * {known} --root {house.root} run gone --scheduled-for auto --quiet\n"
        f"0 7 * * * {known} --root {house.root} run by_hand --scheduled-for auto --quiet\n"
        f"0 7 * * * {known} --root {house.root} run by_hand --quiet\n"
        f"0 7 * * * {known} --root /srv/another run gone\n"
    )
    found = house.diagnose()
    assert found.code == 0
    assert [one["sentence"].split(":")[0] for one in found.findings["cron.command"]] == ["crontab line 1", "crontab line 3"]
    assert found.findings["cron.command"][0]["mend"].startswith("write the whole path: /")
    assert "crontab line 4 " in found.one("cron.no-root")["sentence"]
    assert f"--root {house.root}" in found.one("cron.no-root")["mend"]
    assert "crontab line 5 " in found.one("cron.percent")["sentence"]
    assert found.one("cron.percent")["mend"] == "write \\% for each % of it"
    assert found.one("cron.not-quiet")["mend"] == "add --quiet to `run good`"
    assert found.one("cron.no-fire")["mend"] == "add --scheduled-for auto to `run good`"
    assert "crontab line 8 " in found.one("cron.no-schedule")["sentence"]
    assert "schedule=cron(...)" in found.one("cron.no-schedule")["mend"]
    assert "runs gone" in found.one("cron.unknown-job")["sentence"]
    assert "TASKPILOT_MODEL" in found.findings["cron.shell-only"][0]["sentence"]
    assert "taskpilot.toml" in found.findings["cron.shell-only"][0]["mend"]
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


def test_an_environment_without_home_is_told(house: Patient) -> None:
    found = house.diagnose(environment={"HOME": None} if sys.platform == "linux" else {})
    assert found.bad == {"cron.environment"}
    assert found.one("cron.environment")["mend"].startswith("write HOME=...")


def test_a_crontab_that_cannot_be_listed_is_not_called_well(house: Patient) -> None:
    (house.bin / "crontab").write_text("#!/bin/sh\necho 'you are not allowed' >&2\nexit 1\n")
    found = house.diagnose()
    assert (found.code, found.bad) == (0, {"cron.unchecked"})
    assert "you are not allowed" in found.one("cron.unchecked")["sentence"]
