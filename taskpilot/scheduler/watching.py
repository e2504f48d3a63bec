"""Sees that a job file was changed, from the outside of the files: names, times and sizes."""

import os
from pathlib import Path


class FolderWatch:
    """Remembers how a folder looked when it was read last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: frozenset[tuple[str, int, int, int]] | None = None

    def changed(self) -> bool:
        """Whether it looks different from the last time that this was asked; True the first time."""
        looks = self._look()
        before, self._seen = self._seen, looks
        return looks != before

    def _look(self) -> frozenset[tuple[str, int, int, int]]:
        try:
            with os.scandir(self._folder) as entries:
                return frozenset(
                    (entry.name, info.st_mtime_ns, info.st_size, info.st_ino)
                    for entry in entries
                    if entry.name.endswith(".py") and (info := _stat(entry)) is not None
                )
        except OSError:
            return frozenset({("", 0, 0, 0)})


def _stat(entry: "os.DirEntry[str]") -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError:
        return None
