"""Python's garbage collector and the fork: what is there before it stays untouched in the child, and collectable in the parent."""

import subprocess
import sys
from pathlib import Path

_FORK = """
import gc, os
from taskpilot.process.child import _fork
pid = _fork()
if pid == 0:
    os._exit(0 if gc.isenabled() and gc.get_freeze_count() > 1000 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), gc.isenabled(), gc.get_freeze_count())
"""


def test_the_child_does_not_walk_what_its_parent_made() -> None:
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", _FORK], cwd=root, capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (["0", "True", "0"], "")
