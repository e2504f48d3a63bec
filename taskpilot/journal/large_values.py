"""Keeps values that are too large for the store as artifacts of their run; the store has a note in their place."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Final

from taskpilot.domain.errors import StoreError
from taskpilot.files import atomic_write
from taskpilot.store.errors import file_errors
from taskpilot.store.records import dumps

LARGE_BYTES: Final = 1_000_000
PREVIEW: Final = 2_000
"""Characters of the value's JSON that the note shows."""

_NOTE: Final = frozenset({"$artifact", "run_id", "bytes", "sha256", "preview"})
_NAMES: Final = re.compile(r"[0-9a-f-]{36}\Z"), re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


class LargeValues:
    """The large values of one run, and those of others that it reads."""

    def __init__(self, runs_dir: Path, run_id: str) -> None:
        self._runs_dir = runs_dir
        self._run_id = run_id

    def keep(self, name: str, value: Any) -> Any:
        """The value, or a note where it is large: then it is the artifact `<name>.json`. Raises StoreError."""
        if value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) < LARGE_BYTES // 6):
            return value
        text = dumps(value)
        content = text.encode()
        if len(content) <= LARGE_BYTES:
            return value
        folder = self._runs_dir / self._run_id / "artifacts"
        with file_errors(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic_write(folder / f"{name}.json", content, durable=True, follow=False)
        digest = hashlib.sha256(content).hexdigest()
        return {"$artifact": f"{name}.json", "run_id": self._run_id, "bytes": len(content), "sha256": digest, "preview": text[:PREVIEW]}

    def read(self, value: Any) -> Any:
        """The value that a note stands for; any other value as it is. Raises StoreError where the file is gone or was changed."""
        if not isinstance(value, dict) or value.keys() != _NOTE:
            return value
        run_id, name = str(value["run_id"]), str(value["$artifact"])
        path = self._runs_dir / run_id / "artifacts" / name
        content = b""
        if _NAMES[0].match(run_id) and _NAMES[1].match(name):
            with file_errors(path):
                content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != value["sha256"]:
            raise StoreError(f"{path} is not the file that was recorded as a step's result", hint="run the job anew")
        return json.loads(content)
