"""The house's chores for a job of one's own: `from taskpilot import maintenance`.

In a run they are for the run's own store; elsewhere for that of the root that the current folder is in.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from taskpilot.operations import maintenance as chores
from taskpilot.operations.house import House, current_house
from taskpilot.settings import load


def close_ended_leases() -> list[str]:
    """Ends the attempts of runs whose process is gone; gives the runs' ids. Raises StoreError or StoreBusy."""
    with _house() as house:
        return chores.close_ended_leases(house)


def close_missed() -> dict[str, int]:
    """Where no server is awake: records the fires that nobody can start any more; gives how many were `missed`, of how many `jobs`."""
    with _house() as house:
        return chores.close_missed(house)


def deliver_owed() -> dict[str, int]:
    """Pushes the metric groups that are owed; gives how many were `delivered` and how many are still `owed`."""
    with _house() as house:
        return chores.deliver_owed(house)


def deliver_owed_traces() -> dict[str, int]:
    """Sends the collector the spans that it missed; gives of how many runs they were `delivered` and are still `owed`."""
    with _house() as house:
        return chores.deliver_owed_traces(house)


def prune_gateway() -> int:
    """Removes the gateway's groups of jobs that no file defines any more; gives how many."""
    with _house() as house:
        return chores.prune_gateway(house)


def prune_history() -> dict[str, int]:
    """Deletes what is older than the setting `history_days`; gives how many `runs` and `fires`."""
    with _house() as house:
        return chores.prune_old_history(house)


@contextmanager
def _house() -> Iterator[House]:
    running = current_house()
    house = running or House(load())
    try:
        yield house
    finally:
        if running is None:
            house.close()
