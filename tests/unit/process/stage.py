"""A supervisor in its own process: `python stage.py '{"job": ..., "folder": ...}'` prints the ending as JSON."""

# ruff: noqa: T201, PTH208 - a job prints, and counts what /proc lists
import ctypes
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from taskpilot.process import ChildPlan, Interrupts, Watch, interrupts, linux, supervise, tree
from tests.stopwatch import own_seconds

options: dict[str, Any] = json.loads(sys.argv[1])
folder = Path(options["folder"])


def write_pid(name: str) -> None:
    """Whole or not at all, since the test polls for it."""
    draft = folder / f".{name}.{os.getpid()}"
    draft.write_text(str(os.getpid()))
    draft.rename(folder / name)


def exit_with(status: int) -> Callable[[], int]:
    return lambda: status


def sleep() -> int:
    write_pid("job")
    time.sleep(60)
    return 0


def sys_exit() -> int:
    sys.exit(0)


def raise_error() -> int:
    raise RuntimeError("the job broke")


def os_exit() -> int:
    os._exit(5)


def segfault() -> int:
    return len(ctypes.string_at(0))


def hang_in_c() -> int:
    write_pid("job")
    return int(all(itertools.repeat(True)))  # never gets back to where a handler of Python's could run


def ignore_sigterm() -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    write_pid("job")
    while True:
        time.sleep(1)


def note_sigterm() -> int:
    signal.signal(signal.SIGTERM, lambda *_: write_pid("asked"))
    write_pid("job")
    while True:
        time.sleep(1)


def clean_up() -> int:
    try:
        write_pid("job")  # a test may stop the process from here on
        time.sleep(60)
    finally:
        (folder / "cleaned").write_text("yes")
    return 0


def clean_up_slowly() -> int:
    try:
        write_pid("job")
        time.sleep(60)
    except BaseException:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(2.5)
    return 9


def fork_children() -> int:
    for number in range(3):
        if os.fork() == 0:
            write_pid(f"descendant{number}")
            time.sleep(60)
            os._exit(0)
    while len(list(folder.glob("descendant*"))) < 3:
        time.sleep(0.01)
    return 0


def fork_bomb() -> int:
    """Each process forks as often as it can, within a bound that spares the machine."""
    give_up = time.monotonic() + 5
    write_pid("job")
    while time.monotonic() < give_up and len(list(folder.glob("bomb*"))) < 150:
        try:
            if os.fork() == 0:
                os.setsid()
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                write_pid(f"bomb{os.getpid()}")
        except OSError:
            pass
    time.sleep(60)
    return 0


def daemon() -> int:
    """Forks twice, each time into a new session, and ignores SIGTERM."""
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        write_pid("descendant0")
        time.sleep(60)
        os._exit(0)
    while not (folder / "descendant0").exists():
        time.sleep(0.01)
    return 0


def daemon_and_sleep() -> int:
    daemon()
    return sleep()


def short_orphans() -> int:
    """Twenty orphans that end at once; the supervisor's children are counted until they are reaped, and at most for a while."""
    for _ in range(20):
        if os.fork() == 0:
            if os.fork():
                os._exit(0)
            os._exit(0)
        os.wait()
    parent, give_up = os.getppid(), time.monotonic() + 20
    while len(listed := Path(f"/proc/{parent}/task/{parent}/children").read_text().split()) > 1 and time.monotonic() < give_up:
        time.sleep(0.1)
    print(f"children {len(listed)}")
    return 0


def come_back_twice() -> int:
    """A process that the job forked returns from main as well."""
    sys.stdout = open(1, "w", buffering=4096, closefd=False)  # noqa: SIM115
    print("printed once")
    if (child := os.fork()) == 0:
        return 0
    os.waitpid(child, 0)
    return 4


def forked_and_terminated() -> int:
    """Has a forked process that would run the clean-up too, were SIGTERM an exception there."""
    child = os.fork()
    try:
        if child:
            write_pid("job")
        time.sleep(60)
    finally:
        with (folder / "cleanups").open("a") as cleanups:
            cleanups.write("cleaned\n")
    return 0


def print_binary() -> int:
    sys.stdout.buffer.write(bytes(range(256)) + b"\x1b[2J")
    print("lone \ud800 surrogate")
    print("to stderr", file=sys.stderr)
    return 0


def look_around() -> int:
    Path("made").write_text("here")
    facts = {
        "folder": str(Path.cwd()),
        "session": os.getsid(0) == os.getpid(),
        "stdin": sys.stdin.read(),
        "secret": os.environ.get("SECRET"),
        "kept": os.environ.get("KEPT"),
        "umask": os.umask(0),
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "sigint": signal.getsignal(signal.SIGINT) is signal.SIG_DFL,
        "sigchld": signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL,
        "sigpipe": signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN,
    }
    (folder / "facts").write_text(json.dumps(facts))
    return 0


jobs: dict[str, Callable[[], int]] = {
    "exit0": exit_with(0),
    "exit3": exit_with(3),
    "exit256": exit_with(256),
    **{
        job.__name__: job
        for job in (
            sleep, sys_exit, raise_error, os_exit, segfault, hang_in_c, ignore_sigterm, note_sigterm, clean_up, clean_up_slowly,
            fork_children, fork_bomb, daemon, daemon_and_sleep, short_orphans, come_back_twice, forked_and_terminated,
            print_binary, look_around,
        )
    },
}  # fmt: skip

began, own_began = time.monotonic(), own_seconds()
renewals: list[float] = []


def renew(active_seconds: float) -> bool:
    renewals.append(active_seconds)
    match options.get("renew", "kept"):
        case "refused":
            return False
        case "broken":
            raise OSError("the store is locked")
        case "broken_for_a_while" if time.monotonic() - began < options["lease"] / 2:
            raise OSError("the store is locked")
        case "slow_and_broken":
            time.sleep(0.9)
            raise OSError("the store is locked")
    return True


def cancelled() -> float | None:
    if options.get("cancel") == "broken":
        raise OSError("the store is locked")
    return options.get("grace", 10.0) if options.get("cancel") == "yes" and (folder / "job").exists() else None


def tick() -> None:
    write_pid("ticked")
    raise RuntimeError("the terminal is gone")


def forget_linux() -> None:
    """As on a system without /proc, prctl and waitid."""
    os.__dict__.pop("waitid")
    linux._prctl = lambda: None  # type: ignore[assignment]
    tree.children = lambda: None  # type: ignore[attr-defined]


def main() -> None:
    if options.get("plain"):
        forget_linux()
    interrupts._BOUNCE_SECONDS = options.get("one_wish_within", interrupts._BOUNCE_SECONDS)  # type: ignore[misc]
    # pytest itself may have been started with SIGINT or SIGHUP ignored.
    signal.signal(signal.SIGHUP, signal.SIG_IGN if options.get("nohup") else signal.SIG_DFL)
    before = len(os.listdir("/proc/self/fd"))
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)]
    plan = ChildPlan(jobs[options["job"]], folder, folder / "output.log", ("SECRET",))
    watch = Watch(
        deadline_seconds=options.get("deadline", 30.0),
        grace_seconds=options.get("grace", 10.0),
        lease_seconds=options.get("lease", 30.0),
        renew=renew,
        cancelled=cancelled,
        tick=tick,
    )
    sys.stdout.write("")
    if "early" in options:
        with Interrupts() as held:
            signal.raise_signal(options["early"])
            endings = [supervise(plan, watch, interrupts=held), supervise(plan, watch, interrupts=held)]
    else:
        endings = [supervise(plan, watch) for _ in range(options.get("times", 1))]
    ended = own_seconds()
    answer = asdict(endings[-1]) | {
        "seconds": ended - own_began,
        "renewals": renewals,
        "leaked": len(os.listdir("/proc/self/fd")) - before,
        "handlers_restored": handlers
        == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)],
        "children_left": Path(f"/proc/self/task/{os.getpid()}/children").read_text().split(),
    }
    print(json.dumps(answer))


main()
