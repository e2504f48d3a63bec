"""Hostile job files beside good jobs under one server: each harms itself alone."""

import time

import pytest

from tests.acceptance.kills.processes import eventually
from tests.acceptance.serving.server import Server, wait
from tests.command import TaskPilot
from tests.hostile_files import JOB_FILES, figures, integrity, left, unnamed, write_good, write_hostile


@pytest.mark.slow
def test_every_kind_of_hostile_file_is_named_and_the_good_jobs_run_at_their_times(taskpilot: TaskPilot) -> None:
    jobs = taskpilot.root / "jobs"
    for path in jobs.glob("*.py"):
        path.unlink()
    write_good(jobs, "10s")
    store = taskpilot.state_dir / "taskpilot.db"
    with Server(taskpilot) as server:
        began = time.time()
        written = write_hostile(jobs, len(JOB_FILES))
        wait(lambda: figures(store, since=began).outcomes.get("started", 0) >= 12, server.said, seconds=180)
        found = figures(store, since=began)
        # On an idle machine each is started within a second; on a busy one a run may last longer than the period.
        assert set(found.outcomes) <= {"started", "buffered", "skipped_overlap"}
        assert found.p99 < 60
        assert unnamed(taskpilot, list(written)) == []
        assert taskpilot("doctor", "--json").code in (0, 1, 78)
        # It ends when it is asked to, also while files are being loaded.
        (jobs / "again.py").write_text("import time\ntime.sleep(3600)\n")
        time.sleep(6)
        server.send(15)
        assert server.wait() == 0
    assert eventually(lambda: not left(taskpilot.root), every=0.1), left(taskpilot.root)
    assert integrity(store) == "ok"
