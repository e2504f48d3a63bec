"""What `ps` shows of a run's processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import json, os, sys
from taskpilot.process.linux import set_title
done = set_title(sys.argv[1])
pid = os.fork()
if pid == 0:
    read = lambda name: open("/proc/self/" + name).read().rstrip(chr(0) + chr(10))
    print(json.dumps([done, read("cmdline"), read("comm"), os.environ["KEPT"], sys.argv[1]]), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows it")
@pytest.mark.parametrize("title", ["taskpilot triage", "x" * 500])
def test_a_process_and_what_it_forks_have_the_title_and_their_environment_is_whole(title: str) -> None:
    environment = {**os.environ, "KEPT": "yes", "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", CODE, title], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    worked, shown, comm, kept, argument = json.loads(done.stdout)
    assert worked is True
    assert title.startswith(shown)
    assert len(shown) >= len("taskpilot triage")
    assert (comm, kept, argument) == (title[:15].strip(), "yes", title)
