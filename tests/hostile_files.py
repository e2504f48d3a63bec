"""Hostile job files and policies beside three good jobs under one server.

`python -m tests.hostile_files --files 300 --minutes 10` does it at full size and prints what became of the good jobs.
"""

import argparse
import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from tests.acceptance.serving.server import Server
from tests.command import TaskPilot

GOOD: Final = ("good_a", "good_b", "good_c")
_JOB: Final = "from taskpilot import job, RunContext\n@job\ndef {name}(ctx: RunContext) -> str:\n    return 'x'\n"

_GRANDPARENT: Final = (
    "import os, signal\ngrandparent = int(open(f'/proc/{os.getppid()}/stat').read().rpartition(')')[2].split()[1])\n"
    # By its title: never anything but the process that loads files.
    "assert b'taskpilot' in open(f'/proc/{grandparent}/cmdline', 'rb').read()\n"
)

JOB_FILES: Final = {
    "raises": "raise ValueError('no')\n",
    "base": "class Odd(BaseException): ...\nraise Odd\n",
    "syntax": "def f(:\n",
    "missing": "import no_such_module_{n}\n",
    "recursion": "def f(): f()\nf()\n",
    "sleeps": "import time\ntime.sleep(3600)\n",
    "burns": "while True: pass\n",
    "deaf": "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(1)\n",
    "slow": "import time\ntime.sleep(30)\n",
    "stops": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n",
    "reads_stdin": "input()\n",
    "fork": "import os\nos.fork()\n" + _JOB,
    "fork_child_stays": "import os, time\nif os.fork() == 0: time.sleep(3600)\n" + _JOB,
    "daemon": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(3600)\n    os._exit(0)\n" + _JOB,
    "fork_many": "import os, time\nfor _ in range(8):\n    if os.fork() == 0: time.sleep(3600)\n",
    "exits": "import os\nos._exit(0)\n",
    "exits_3": "import os\nos._exit(3)\n",
    "leaves": "import sys\nsys.exit(0)\n",
    "segfault": "import ctypes\nctypes.string_at(0)\n",
    "aborts": "import os\nos.abort()\n",
    "kills_itself": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
    "kills_group": "import os, signal\nos.killpg(0, signal.SIGKILL)\n",
    "kills_parent": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n",
    "prints": "print('hello')\n" + _JOB,
    "floods": "while True: print('x' * 4096)\n",
    "memory": "x = []\nwhile True: x.append(bytearray(1 << 26))\n",
    "closes": "import os\nos.closerange(0, 256)\n",
    "thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,)).start()\n1/0\n",
    "atexit": "import atexit, time\natexit.register(time.sleep, 3600)\n1/0\n",
    "bad_schedule": "from taskpilot import job, cron\n@job(schedule=cron('99 * * * *'))\ndef {name}(ctx): ...\n",
    "bad_option": "from taskpilot import job\n@job(schedul=1)\ndef {name}(ctx): ...\n",
    "clash": "from taskpilot import job\n@job(name='the_same')\ndef {name}(ctx): ...\n@job(name='the_same')\ndef other(ctx): ...\n",
    "encoding": "x = '\udce4'\n",
    "nul": "x = 1\0\n",
    "fifo": "",
    "zero": "",
    "endless_repr": "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E\n",
    "chdir": "import os\nos.chdir('/')\nos.umask(0)\n1/0\n",
    "writes": "open('/proc/self/comm', 'w').write('taskpilot')\n1/0\n",
    "environment": "import os\nos.environ.clear()\n1/0\n",
    "stops_parent": "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\n" + _JOB,
    "stops_helper": _GRANDPARENT + "os.kill(grandparent, signal.SIGSTOP)\n" + _JOB,
    "kills_helper": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(3600)\n"
    + _GRANDPARENT
    + "os.kill(grandparent, signal.SIGKILL)\n",
    "other_answer": "import os\nfor number in range(3, 32):\n    try: os.write(number, b'[{\"jobs\": [7]}]\\n')\n"
    "    except OSError: pass\nos._exit(0)\n",
    "changes_us": "import taskpilot.jobs.loader as loader\nloader.definition_json = lambda spec: []\n" + _JOB,
    "locks_store": "import sqlite3, time\nsqlite3.connect('.taskpilot/taskpilot.db').execute('BEGIN EXCLUSIVE')\ntime.sleep(3600)\n",
    "overwrites_store": "open('.taskpilot/taskpilot.db', 'r+b').write(b'x' * 8192)\n" + _JOB,
    "removes_state": "import shutil\nshutil.rmtree('.taskpilot')\n" + _JOB,
    "nests_deep": "x = " + "-" * 100_000 + "1\n",
    "recursion_in_c": "import sys\nsys.setrecursionlimit(10**9)\nclass A:\n"
    "    def __getattr__(self, n): return getattr(self, n + 'x')\nA().x\n",
    "masks_signals": "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))\nwhile True: time.sleep(1)\n",
    "cpu_limit": "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 1))\nwhile True: pass\n",
    "file_limit": "files = [open('/dev/null') for _ in range(1 << 20)]\n",
    "large_file": "import tempfile\nf = tempfile.TemporaryFile()\nwhile True: f.write(bytes(1 << 20))\n",
    "large_docstring": "from taskpilot import job\ndef {name}(ctx): ...\n{name}.__doc__ = 'x' * (5 << 20)\n{name} = job({name})\n",
    "returns_in_fork": "import os\nif os.fork(): os._exit(0)\n" + _JOB,
    "link_loop": "",
}
"""The text of each kind; none of them defines a job that can be used."""

_RULES: Final = "package taskpilot.tools\n"
POLICIES: Final = {
    "recursive_function": _RULES + "f(x) := f(x + 1)\nallow if f(1)\n",
    "mutual_recursion": _RULES + "f(x) := g(x)\ng(x) := f(x)\nallow if f(1)\n",
    "slow": _RULES + "allow if {\n\tsome a in numbers.range(1, 9000)\n\tsome b in numbers.range(1, 9000)\n\ta * b == 0\n}\n",
    "deep": _RULES + "allow if " + "(" * 500 + "true" + ")" * 500 + "\n",
    "long": _RULES + "allow if " + ("1 + " * 200 + "\n") * 900 + "1 == 0\n",
    "package": 'package taskpilot.tool\ndeny contains "no" if true\n',
    "http_send": _RULES + 'deny contains "no" if http["send"]({"url": "x"}).status_code == 200\n',
    "function": _RULES + 'deny(x) := "no" if x\n',
    "object": _RULES + 'deny[m] := true if { m := "no" }\n',
    "text": _RULES + 'deny := "no" if input.tool == "x"\n',
    "name": _RULES + 'allow if true\ndenny contains "no" if true\n',
    "input": _RULES + 'deny contains "no" if input.arg.title == "x"\n',
    "data": _RULES + 'deny contains "no" if data.company.closed\n',
    "with": _RULES + 'deny contains "no" if { y with input.tool as "x" }\ny if input.tool\n',
    "syntax": _RULES + "allow if {\n",
    "marked_package": '\ufeffpackage taskpilot.tool\ndeny contains "no" if true\n',
    "chain": _RULES + "".join(f"r{n} if r{n + 1}\n" for n in range(3000)) + "r3000 if true\nallow if r0\n",
    "memory": _RULES + "allow if count(numbers.range(1, 100000000000)) == 0\n",
    "else": _RULES + 'deny := true if { input.tool == "x" } else := false\n',
    "default": _RULES + 'default deny := {"no"}\n',
    "builtin": _RULES + 'deny contains "no" if net.lookup_ip_addr("x")\n',
}


def write_hostile(folder: Path, number: int, *, seed: int = 1) -> dict[str, str]:
    """Writes so many job files of all kinds, in a random order; returns the kind of each by its name."""
    random = Random(seed)
    kinds = [kind for _ in range(number // len(JOB_FILES) + 1) for kind in random.sample(list(JOB_FILES), len(JOB_FILES))][:number]
    written = {}
    for n, kind in enumerate(kinds):
        path = folder / f"{random.choice('abgxz')}{n}_{kind}.py"
        text = JOB_FILES[kind].replace("{name}", f"job_{n}").replace("{n}", str(n))
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "zero":
            path.symlink_to("/dev/zero")
        elif kind == "link_loop":
            path.symlink_to(path.name)
        else:
            path.write_bytes(text.encode("utf-8", "surrogateescape"))
        written[path.name] = kind
    return written


def write_good(folder: Path, period: str) -> None:
    """The three good jobs."""
    for name in GOOD:
        (folder / f"{name}.py").write_text(
            "from taskpilot import RunContext, every, job\n\n"
            f'@job(schedule=every("{period}"))\ndef {name}(ctx: RunContext) -> str:\n    """Say so."""\n    return "done"\n'
        )


@dataclass(frozen=True)
class Figures:
    """What became of the good jobs' fires."""

    outcomes: dict[str, int]
    lateness: list[float]
    """Seconds from each fire's time to the start of its run's process, ascending."""

    @property
    def p99(self) -> float:
        """The lateness that 99 of 100 do not exceed."""
        return self.lateness[min(len(self.lateness) - 1, len(self.lateness) * 99 // 100)]


def figures(store: Path, *, since: float) -> Figures:
    """Of the fires since a time, in seconds of Unix time."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        micros = int(since * 1e6)
        outcomes = dict(connection.execute("SELECT outcome, count(*) FROM fires WHERE scheduled_for >= ? GROUP BY 1", (micros,)))
        late = connection.execute(
            "SELECT (a.started_at - r.scheduled_for) / 1e6 FROM runs r JOIN attempts a ON a.run_id = r.id "
            "WHERE r.scheduled_for >= ? AND a.number = 1 ORDER BY 1",
            (micros,),
        )
        return Figures(outcomes, [row[0] for row in late])


def integrity(store: Path) -> str:
    """What SQLite says of the store: "ok" where nothing is wrong."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        return "; ".join(row[0] for row in connection.execute("PRAGMA integrity_check"))


def left(root: Path) -> list[str]:
    """The command lines of processes whose working folder is the root."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == root:
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:
            continue
    return found


def unnamed(taskpilot: TaskPilot, written: Sequence[str]) -> list[str]:
    """The hostile files that `jobs validate` does not name with a reason."""
    said = json.loads(taskpilot("jobs", "list", "--json", seconds=600).out)
    assert {one["job"] for one in said} == set(GOOD)
    broken = {Path(line.partition(":")[0]).name for line in _broken(taskpilot)}
    return sorted(set(written) - broken)


def _broken(taskpilot: TaskPilot) -> Iterator[str]:
    for line in taskpilot("jobs", "list", seconds=600).err.splitlines():
        if line.startswith("broken: "):
            yield line.removeprefix("broken: ")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Runs it at the size of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hostile-") as place:
        root = Path(place)
        (root / "jobs").mkdir()
        (root / "taskpilot.toml").touch()
        write_good(root / "jobs", "5s")
        taskpilot = TaskPilot(root, root)
        with Server(taskpilot) as server:
            began = time.time()
            written = write_hostile(root / "jobs", given.files)
            time.sleep(given.minutes * 60)
            found = figures(taskpilot.state_dir / "taskpilot.db", since=began)
            _say(f"{len(written)} hostile files, {given.minutes:g} minutes, fires {found.outcomes}")
            half = found.lateness[len(found.lateness) // 2]
            _say(f"lateness of {len(found.lateness)} starts: p50 {half:.2f} s, p99 {found.p99:.2f} s, most {found.lateness[-1]:.2f} s")
            _say(f"not named: {unnamed(taskpilot, list(written))}")
            _say(f"integrity_check of the store: {integrity(taskpilot.state_dir / 'taskpilot.db')}")
            _say(f"health: {taskpilot('health', seconds=600).out.splitlines()[:1]}; the server's pid {server.pid} lives")
        _say(f"processes left: {left(root)}")
        for name, text in POLICIES.items():
            (root / "policy.rego").write_text(text)
            (root / "taskpilot.toml").write_text('[policy]\nfiles = ["policy.rego"]\n')
            said = taskpilot("policy", "check")
            _say(f"policy {name}: {said.code} {said.err.strip()[:160]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
