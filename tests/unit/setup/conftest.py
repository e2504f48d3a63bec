"""An installation with ordinary paths, to be replaced part by part."""

from pathlib import Path

import pytest

from taskpilot.setup.places import Places


@pytest.fixture
def places() -> Places:
    root = Path("/home/me/taskpilot")
    return Places(
        program=(str(root / ".venv/bin/taskpilot"),),
        root=root,
        state_dir=root / ".taskpilot",
        names_state_dir=False,
        jobs_dir=root / "jobs",
        names_jobs_dir=False,
        user="me",
        host_zone="Europe/Berlin",
        drain_timeout=30.0,
        environment=(),
    )
