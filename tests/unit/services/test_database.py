"""Backups and upgrades of the store."""

import sqlite3
from pathlib import Path

import pytest

from taskpilot.deployment import Deployment
from taskpilot.domain.errors import NotFound, UsageError
from taskpilot.services.database import backup_store, upgrade_store
from taskpilot.views.runs import show_run
from tests import records


def test_a_backup_is_a_private_whole_copy_and_goes_over_nothing(deployment: Deployment, tmp_path: Path) -> None:
    settings = deployment.settings
    with pytest.raises(NotFound):
        backup_store(settings, None, now=records.NOON)
    run_id = records.add_run(deployment.store)
    copy = backup_store(settings, None, now=records.NOON)
    assert copy.name == "taskpilot-20261123T120000Z.db"
    assert copy.stat().st_mode & 0o777 == 0o600
    connection = sqlite3.connect(copy)
    assert connection.execute("SELECT id FROM runs").fetchall() == [(run_id,)]
    connection.close()
    with pytest.raises(UsageError, match="exists"):
        backup_store(settings, None, now=records.NOON)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="exists"):
        backup_store(settings, tmp_path / "link", now=records.NOON)
    with pytest.raises(UsageError, match="not a folder"):
        backup_store(settings, tmp_path / "missing" / "x.db", now=records.NOON)


def test_an_upgrade_of_a_new_store_keeps_what_is_there(deployment: Deployment) -> None:
    upgrade_store(deployment.settings)
    run_id = records.add_run(deployment.store)
    upgrade_store(deployment.settings)
    assert show_run(deployment, run_id).run.id == run_id
