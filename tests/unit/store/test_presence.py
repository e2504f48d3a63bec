"""A file that is moved away, put back or replaced under a store that is held open."""

from pathlib import Path

import pytest

from taskpilot.domain.errors import StoreError
from taskpilot.store.copies import backup
from taskpilot.store.database import Store
from taskpilot.store.probe import Presence
from tests import records
from tests.errors import saying


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "state")


def files(store: Store) -> list[Path]:
    return list(store.path.parent.glob(f"{store.path.name}*"))


def runs(store: Store) -> int:
    with store.read() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM runs").scalar() or 0)


def test_a_file_that_is_gone_is_an_error_until_it_is_back(store: Store, tmp_path: Path) -> None:
    records.add_run(store)
    away = tmp_path / "away"
    away.mkdir()
    presence = Presence(store)
    presence.check()
    for path in files(store):
        path.rename(away / path.name)
    for _ in range(2):
        with pytest.raises(StoreError, check=saying("the file is gone.* put it back")):
            presence.check()
    assert files(store) == []
    for path in away.iterdir():
        path.rename(store.path.parent / path.name)
    presence.check()
    assert runs(store) == 1


def test_a_backup_in_its_place_is_gone_on_with(store: Store, tmp_path: Path) -> None:
    presence = Presence(store)
    presence.check()
    records.add_run(store)
    backup(store.path.parent, tmp_path / "copy")
    records.add_run(store)
    for path in files(store):
        path.unlink()
    (tmp_path / "copy").rename(store.path)
    presence.check()
    assert runs(store) == 1


def test_another_store_in_its_place_is_refused(store: Store, tmp_path: Path) -> None:
    presence = Presence(store)
    presence.check()
    other = Store.open(tmp_path / "other")
    other.close()
    for path in files(store):
        path.unlink()
    other.path.rename(store.path)
    for _ in range(2):
        with pytest.raises(StoreError, match="was replaced by another one"):
            presence.check()
