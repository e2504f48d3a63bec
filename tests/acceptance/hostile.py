"""Job files that do what no job should, for the tests beside this file; and a look at what is left of their processes."""

import uuid
from pathlib import Path
from typing import Final

from tests.command import TaskPilot

MARK: Final = "HOSTILE_MARK"

JOBS: Final = '''
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

from taskpilot import InputFile, RunContext, job


def stubborn_tree():
    """A child, its child in a session of its own, and a daemon; all of them deaf to SIGTERM. Back when each has noted its pid."""
    notes = f"notes-{os.getpid()}"
    code = "import os, signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    sleeper = code + f"open({notes!r}, 'a').write(str(os.getpid()) + chr(10)); time.sleep(600)"
    parent = code + f"subprocess.Popen([sys.executable, '-c', {sleeper!r}], start_new_session=True); " + sleeper[len(code):]
    subprocess.Popen([sys.executable, "-c", parent])
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            with open(notes, "a") as file:
                print(os.getpid(), file=file)
            time.sleep(600)
        os._exit(0)
    while not os.path.exists(notes) or len(open(notes).read().split()) < 3:
        time.sleep(0.02)


@job(deadline="4s")
def hangs_in_c(ctx: RunContext) -> str:
    stubborn_tree()
    sum(iter(int, 1))  # never leaves C, so that no handler of ours can run


@job(deadline="4s")
def ignores_sigterm(ctx: RunContext) -> str:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stubborn_tree()
    while True:
        try:
            time.sleep(600)
        except BaseException:
            pass


@job
def leaves_a_tree(ctx: RunContext) -> str:
    stubborn_tree()
    return "done"


@job
def forks(ctx: RunContext) -> str:
    if os.fork() == 0:
        return "the fork's"
    time.sleep(0.5)
    return "mine"


@job
def forks_and_fails(ctx: RunContext) -> str:
    if os.fork() == 0:
        raise ValueError("the fork's")
    os.wait()
    return "mine"


@job
def ends_at_once(ctx: RunContext, status: int) -> str:
    os._exit(status)


@job
def says_goodbye(ctx: RunContext, code: str) -> str:
    sys.exit(int(code) if code.isdigit() else code or None)


@job
def says_goodbye_in_a_thread(ctx: RunContext) -> str:
    ctx.map(lambda item: sys.exit(item), [3, 4], concurrency=2)
    return "not reached"


@job
def segfaults(ctx: RunContext) -> str:
    ctypes.string_at(0)


@job
def kills_itself(ctx: RunContext) -> str:
    print("before")
    os.kill(os.getpid(), signal.SIGKILL)


@job
def stops_its_supervisor(ctx: RunContext) -> str:
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(600)


@job
def prints_binary(ctx: RunContext) -> str:
    os.write(1, bytes(range(256)) * 64)
    sys.stdout.buffer.write(b"\\xff\\x00\\x1b]0;title\\x07")
    print("\\udcff \\x1b[31mred\\x1b[0m")
    return "a\\x00b\\x1b[31mred\\x1b[0m\\u202e"


@job
def prints_much(ctx: RunContext) -> str:
    for _ in range(50):
        sys.stdout.write("x" * (1 << 20))
    return "done"


@job
def leaks_threads(ctx: RunContext) -> str:
    for _ in range(20):
        threading.Thread(target=time.sleep, args=(600,)).start()
    return "done"


class Odd(BaseException):
    pass


class Unshowable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


@job
def raises(ctx: RunContext, what: str) -> str:
    raise {
        "base": Odd("odd"),
        "interrupt": KeyboardInterrupt(),
        "generator": GeneratorExit(),
        "memory": MemoryError(),
        "recursion": RecursionError("too deep"),
        "unshowable": Unshowable(),
        "escapes": ValueError("\\x1b[31mred\\nnext\\u202e\\ud800 [link=x] [/foo]"),
        "huge": ValueError("y" * 5_000_000),
        "group": ExceptionGroup("several", [ValueError("one"), OSError("two")]),
    }[what]


@job
def returns(ctx: RunContext, what: str) -> object:
    circle = []
    circle.append(circle)
    return {
        "object": object(),
        "function": returns,
        "nan": {"a": float("nan")},
        "circle": circle,
        "bytes": b"\\xff\\xfe",
        "generator": (number for number in (1, 2)),
        "none": None,
        "nested": {"a": [1, {"b": None}]},
    }[what]


@job
def closes_its_streams(ctx: RunContext) -> str:
    os.closerange(0, 3)
    return "done"


@job
def breaks_its_streams(ctx: RunContext) -> str:
    sys.stdout.close()
    sys.stderr = None
    print("into nothing")
    return "done"


@job
def loses_its_folder(ctx: RunContext) -> str:
    import tempfile

    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)
    ctx.artifact("report.txt", "text")
    ctx.log.info("still here")
    return "done"


@job
def opens_its_files_to_all(ctx: RunContext, inbox: InputFile) -> str:
    os.umask(0)
    ctx.artifact("report.txt", "text")
    ctx.log.info("line")
    ctx.workflow("Order paper for the printer")
    os.mkdir("beside")
    return open(inbox).read()


@job
def cites_the_key(ctx: RunContext) -> str:
    try:
        raise KeyError(os.environ["OPENAI_API_KEY"])
    except KeyError as error:
        raise ValueError("the key " + os.environ["OPENAI_API_KEY"] + " was refused") from error


@job(model="gpt-4o-mini")
def asks(ctx: RunContext) -> str:
    ctx.workflow("Order paper for the printer")
    return "asked"


@job
def shows_its_surroundings(ctx: RunContext) -> dict:
    ctx.log.info("the key is " + os.environ.get("OPENAI_API_KEY", "gone"), key=os.environ.get("OPENAI_API_KEY", "gone"))
    return {
        "names": sorted(os.environ),
        "cwd": os.getcwd(),
        "session": os.getsid(0) == os.getpid(),
        "stdin": sys.stdin.read(),
        "umask": os.umask(0o077),
    }
'''


class Hostile:
    """The jobs above in a root, with every process that they start marked."""

    def __init__(self, taskpilot: TaskPilot) -> None:
        self.taskpilot = taskpilot
        self._mark = uuid.uuid4().hex
        taskpilot.environment[MARK] = self._mark
        # The mark is seen in what a process was started with.
        taskpilot.cold = True
        taskpilot.job(JOBS, name="hostile")

    def alive(self) -> list[str]:
        """The command lines of the marked processes that are still there."""
        wanted = f"{MARK}={self._mark}".encode()
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    if wanted in (folder / "environ").read_bytes().split(b"\0"):
                        found.append(f"{folder.name}: {(folder / 'cmdline').read_bytes()[:200]!r}")
                except OSError:
                    # Gone meanwhile, or somebody else's.
                    continue
        return found

    def noted(self) -> int:
        """How many processes the jobs' trees had."""
        return sum(len(file.read_text().split()) for file in self.taskpilot.root.glob("notes-*"))
