"""The built-in job: in each catalog, unless the settings or the root's own jobs say otherwise."""

from datetime import timedelta
from pathlib import Path

import pytest

from taskpilot.config import load
from taskpilot.deployment import Deployment
from taskpilot.domain.errors import ConfigurationError
from taskpilot.schedules.schedule import every
from taskpilot.services.housekeeping import built_in_jobs, housekeeping
from taskpilot.testing import run_job


def opened(root: Path, settings: str = "") -> Deployment:
    (root / "taskpilot.toml").write_text(settings)
    (root / "jobs").mkdir(exist_ok=True)
    return Deployment(load(root=root, environ={}), built_in=built_in_jobs)


def test_it_says_what_it_did() -> None:
    assert (
        run_job(housekeeping).result == "0 lost runs ended, 0 missed fires recorded, 0 pending metric groups delivered, 0 still pending, "
        "traces of 0 runs delivered, of 0 still pending, 0 metric groups of gone jobs and 0 old runs removed"
    )


def test_every_root_has_it_each_quarter_of_an_hour(tmp_path: Path) -> None:
    spec = opened(tmp_path).catalog.get("housekeeping")
    assert (spec.schedule, spec.deadline, spec.file) == (every("15m"), timedelta(minutes=5), None)


def test_the_setting_says_how_often_or_leaves_it_out(tmp_path: Path) -> None:
    assert opened(tmp_path, 'housekeeping = "1h"').catalog.get("housekeeping").schedule == every("1h")
    assert "housekeeping" not in opened(tmp_path, 'housekeeping = "off"').catalog.jobs
    for wrong in ('"often"', '"2d"', '"0s"', "15"):
        with pytest.raises(ConfigurationError, match="housekeeping"):
            opened(tmp_path, f"housekeeping = {wrong}")


def test_a_job_of_the_root_takes_its_place_also_where_its_file_is_broken(tmp_path: Path) -> None:
    deployment = opened(tmp_path)
    own = tmp_path / "jobs" / "housekeeping.py"
    own.write_text("from taskpilot import job\n\n\n@job\ndef housekeeping(ctx):\n    return 1\n")
    assert deployment.catalog.get("housekeeping").file == own
    own.write_text("from taskpilot import maintenance\n")
    with pytest.raises(ConfigurationError, match="cannot import name 'maintenance'"):
        deployment.reread_jobs().get("housekeeping")
    own.unlink()
    assert deployment.reread_jobs().get("housekeeping").file is None
