"""Calls functions in processes of their own, for code that users wrote: it may hang, crash, fork, exit, print or use up the memory.

A helper process is started for several calls; it has no thread and no handle of the store. For each call it forks a guard, and the guard
forks the process of the call, waits for it at most the time limit, and kills whatever it left. The answer is plain JSON.
"""

import json
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

from taskpilot.process.linux import children, die_with_parent, erase_environment, set_subreaper
from taskpilot.process.plan import Cause, ChildPlan, Ending, Watch
from taskpilot.process.tree import kill_with_group
from taskpilot.process.watch import supervise

MEMORY_BYTES: Final = 2 << 30
"""What a call may allocate."""
ANSWER_BYTES: Final = 4 << 20
_WRITTEN_BYTES: Final = 16 << 20
"""No call writes a larger file. The helper's pid is added: what comes of its calls inherits the limit, and is found by it later."""
_PRINTED: Final = 200
_GRACE_SECONDS: Final = 0.2
_NICE: Final = 5
"""Calls give way to runs and to the server."""


class Trouble(StrEnum):
    """Why a call has no answer."""

    TIME = "time"
    SIGNAL = "signal"
    EXITED = "exited"
    NO_ANSWER = "no_answer"
    """It is too large, or none was written."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one call."""

    value: Any = None
    trouble: Trouble | None = None
    detail: str = ""
    """The signal's name, or the exit status."""
    printed: str = ""
    """The beginning of what was written to standard output."""
    note: str = ""
    """What the function noted last by `note`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The surroundings of calls."""

    seconds: float
    root: Path
    """The working folder."""
    drop_environment: tuple[str, ...] = ()
    together: int = 4
    """Calls at one time: more than one, so that a few that hang do not hold up the others."""
    memory_bytes: int = MEMORY_BYTES
    cpu_seconds: int | None = None
    """Of processor time, for work that waits for nothing: a busy machine does not make it fail."""


class HelperEnded(OSError):
    """The helper process could not be started, or ended before it answered."""


def call_isolated(
    function: str,
    arguments: Sequence[Any],
    limits: Limits,
    *,
    preload: Sequence[str] = (),
    stop: Callable[[], bool] = bool,
) -> Iterator[tuple[int, Answer]]:
    """Calls `module:function` once for each of the JSON values; yields the index and the answer of each as it comes.

    `preload`: modules that the helper imports before it forks. `stop` is asked about every 0.2 s; after a True the calls are killed and no
    further answer comes. Raises OSError.
    """
    if not arguments:
        return
    folder = tempfile.mkdtemp(prefix="taskpilot-")
    try:
        with _helper(limits.drop_environment) as helper:
            request = {
                "function": function,
                "arguments": list(arguments),
                "preload": list(preload),
                "folder": folder,
                # As it is now: the helper may have been started earlier.
                "environment": {name: value for name, value in os.environ.items() if name not in limits.drop_environment},
                "limits": {**asdict(limits), "root": str(limits.root)},
            }
            yield from helper.ask(request, len(arguments), stop)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def note(text: str) -> None:
    """In a call: what it is about to do, for the answer in case that it does not return."""
    if _note_fd >= 0:
        os.ftruncate(_note_fd, 0)
        os.pwrite(_note_fd, text.encode(), 0)


_note_fd = -1


class _Helper:
    """The helper process, as its parent sees it."""

    def __init__(self, drop_environment: tuple[str, ...]) -> None:
        requests, self._write = os.pipe()
        self._read, answers = os.pipe()
        try:
            # A fork shares what is imported, but copies no thread and the locks that they hold.
            self.child = (_fork if threading.active_count() == 1 else _spawn)(requests, answers, drop_environment)
        except OSError:
            os.close(self._write)
            os.close(self._read)
            raise
        finally:
            os.close(requests)
            os.close(answers)
        self._poll = select.poll()
        self._poll.register(self._read, select.POLLIN)
        self.pid = os.getpid()
        self.dropped = frozenset(drop_environment)
        self._left = b""

    @property
    def lives(self) -> bool:
        """Whether it is a child of this process that has not ended."""
        with suppress(ChildProcessError):
            return self.pid == os.getpid() and os.waitid(os.P_PID, self.child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        return False

    @property
    def _is_stopped(self) -> bool:
        with suppress(ChildProcessError):
            return os.waitid(os.P_PID, self.child, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
        return False

    def ask(self, request: dict[str, Any], number: int, stop: Callable[[], bool]) -> Iterator[tuple[int, Answer]]:
        data = json.dumps(request).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._write, data) :]
        except BrokenPipeError:
            raise HelperEnded(_ENDED) from None
        for _ in range(number):
            if (line := self._line(stop)) is None:
                self.close()
                return
            message = json.loads(line)
            answer = message["answer"]
            trouble = answer.pop("trouble")
            yield message["index"], Answer(**answer, trouble=None if trouble is None else Trouble(trouble))

    def _line(self, stop: Callable[[], bool]) -> bytes | None:
        while b"\n" not in self._left:
            if stop():
                return None
            if self._is_stopped:
                # A call has sent it SIGSTOP.
                os.kill(self.child, signal.SIGKILL)
                raise HelperEnded(_ENDED)
            if self._poll.poll(200):  # `select` takes no descriptor above 1023, as a server with many clients has
                data = os.read(self._read, 1 << 20)
                if not data:
                    raise HelperEnded(_ENDED)
                self._left += data
        line, _, self._left = self._left.partition(b"\n")
        return line

    def close(self) -> None:
        """Ends it with all of its calls: it kills them when its requests end."""
        os.close(self._write)
        os.close(self._read)
        if self.pid != os.getpid():
            return
        until = time.monotonic() + _CLOSE_SECONDS
        with suppress(ChildProcessError):
            # It stays a zombie until its calls are gone, so that no other helper gets its pid.
            while (ended := os.waitid(os.P_PID, self.child, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is None:
                if time.monotonic() > until:
                    os.kill(self.child, signal.SIGKILL)
                time.sleep(0.002)
            if ended.si_code != os.CLD_EXITED:
                _kill_calls_of(self.child)
            os.waitpid(self.child, 0)


_CLOSE_SECONDS: Final = 5.0
_ENDED: Final = "the process that loads job files and checks policies has ended"


def _spawn(requests: int, answers: int, drop_environment: tuple[str, ...]) -> int:
    place = str(Path(__file__).resolve().parents[2])
    code = f"import sys; sys.path.append({place!r}); from {__name__} import main; main()"
    nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        # -P: no module is imported from the current folder.
        return os.posix_spawn(
            sys.executable,
            (sys.executable, "-P", "-c", code),
            {name: value for name, value in os.environ.items() if name not in drop_environment},
            file_actions=[(os.POSIX_SPAWN_DUP2, one, to) for one, to in ((requests, 0), (answers, 1), (nothing, 2))],
        )
    finally:
        os.close(nothing)


def _fork(requests: int, answers: int, drop_environment: tuple[str, ...]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(requests, 0)
        os.dup2(answers, 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        erase_environment(drop_environment)
        # Handles of the store among them; nothing of the store's own is called here.
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        main()
    finally:
        os._exit(1)


def _kill_calls_of(helper: int) -> None:
    """Kills what a killed helper left: its calls, and the processes that they have started."""
    until = time.monotonic() + _CLOSE_SECONDS
    wanted = str(_WRITTEN_BYTES + helper).encode()
    found = True
    while found and time.monotonic() < until:
        found = False
        for limits in Path("/proc").glob("[0-9]*/limits"):
            with suppress(OSError, StopIteration):
                line = next(line for line in limits.read_bytes().splitlines() if line.startswith(b"Max file size"))
                if wanted in line.split():
                    os.kill(int(limits.parent.name), signal.SIGKILL)
                    found = True


_kept: list[_Helper] = []
_keeps = False
_lock: Final = threading.Lock()


def keep_helper(*, on: bool) -> None:
    """Whether this process keeps one idle helper for its next calls: for a server, which calls often and forks no run itself."""
    global _keeps  # noqa: PLW0603 - one choice for the process
    with _lock:
        _keeps = on
        idle = [] if on else [_kept.pop() for _ in range(len(_kept))]
    for helper in idle:
        helper.close()


@contextmanager
def _helper(drop_environment: tuple[str, ...]) -> Iterator[_Helper]:
    with _lock:
        found = [_kept.pop() for _ in range(len(_kept))]
    # After a fork, a helper belongs to the parent. One that shows more of the environment than is wanted is for policies alone.
    usable = [one for one in found if one.lives and one.dropped >= set(drop_environment)]
    for other in set(found) - set(usable):
        other.close()
    helper = usable[0] if usable else _Helper(drop_environment)
    whole = False
    try:
        yield helper
        whole = helper.lives
    finally:
        with _lock:
            keep = whole and _keeps and not _kept
            if keep:
                _kept.append(helper)
        if not keep:
            helper.close()


def main() -> None:
    """The helper process: requests on standard input, answers on standard output, a JSON line each."""
    # Ctrl-C in the terminal is for its parent alone.
    os.setsid()
    set_subreaper(on=True)
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    os.set_blocking(write_fd, False)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    # A call gets neither of these: descriptors 0 and 1 are /dev/null for whatever is forked.
    requests, answers, nothing = os.dup(0), os.dup(1), os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(nothing, descriptor)
    try:
        _Calls(requests, answers, read_fd).serve()
    finally:
        _kill_all()
        os._exit(0)


class _Calls:
    def __init__(self, requests: int, answers: int, woken: int) -> None:
        self._requests = requests
        self._answers = answers
        self._woken = woken
        self._read = b""
        self._waiting: list[tuple[dict[str, Any], int]] = []
        self._running: dict[int, tuple[dict[str, Any], int]] = {}

    def serve(self) -> None:
        while True:
            while self._waiting and len(self._running) < self._waiting[0][0]["limits"]["together"]:
                self._start(*self._waiting.pop(0))
            ready, _, _ = select.select([self._requests, self._woken], [], [], 1.0)
            with suppress(BlockingIOError):
                while os.read(self._woken, 512):
                    pass
            if self._requests in ready:
                data = os.read(self._requests, 1 << 20)
                if not data:
                    return
                self._take(data)
            self._reap()

    def _take(self, data: bytes) -> None:
        *lines, self._read = (self._read + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            for name in (request["function"].partition(":")[0], *request["preload"]):
                with suppress(Exception):
                    import_module(name)
            self._waiting += [(request, index) for index in range(len(request["arguments"]))]

    def _start(self, request: dict[str, Any], index: int) -> None:
        helper = os.getpid()
        pid = os.fork()
        if pid == 0:
            _guard(request, index, helper)
        self._running[pid] = (request, index)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                # A guard that its call has stopped would watch nothing.
                os.kill(pid, signal.SIGKILL)
                continue
            # Another one is a process that a killed guard left behind.
            if pid in self._running:
                request, index = self._running.pop(pid)
                self._answer(request, index)
            for other in (children() or frozenset()) - self._running.keys():
                kill_with_group(other)

    def _answer(self, request: dict[str, Any], index: int) -> None:
        path = Path(request["folder"]) / f"{index}.answer"
        try:
            answer = json.loads(path.read_bytes())
        except (OSError, ValueError):
            answer = asdict(Answer(trouble=Trouble.SIGNAL, detail="SIGKILL, with the process that watched it"))
        data = json.dumps({"index": index, "answer": answer}).encode() + b"\n"
        while data:
            data = data[os.write(self._answers, data) :]


def _guard(request: dict[str, Any], index: int, helper: int) -> NoReturn:
    """The process between the helper and a call: it alone is the parent of what the call leaves behind."""
    try:
        die_with_parent()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        limits, folder = request["limits"], Path(request["folder"])
        output, returned, noted = folder / f"{index}.output", folder / f"{index}.value", folder / f"{index}.note"
        plan = ChildPlan(
            main=lambda: _call(request, index, helper, returned, noted),
            root=Path(limits["root"]),
            output=output,
        )
        watch = Watch(
            deadline_seconds=limits["seconds"],
            renew=lambda _active: True,
            cancelled=lambda: None,
            tick=lambda: None,
            grace_seconds=_GRACE_SECONDS,
            lease_seconds=1e6,
        )
        ending = supervise(plan, watch)
        printed = _beginning(output, _PRINTED).decode("utf-8", "replace")
        answer = _answer_of(ending, returned, printed, _beginning(noted, 1000).decode("utf-8", "replace"))
        target = folder / f"{index}.answer"
        target.write_text(json.dumps(asdict(answer)), encoding="utf-8")
    finally:
        os._exit(0)


def _answer_of(ending: Ending, returned: Path, printed: str, noted: str) -> Answer:
    if ending.cause is Cause.DEADLINE or ending.signal == signal.SIGXCPU:
        return Answer(trouble=Trouble.TIME, printed=printed, note=noted)
    if ending.signal is not None:
        name = signal.Signals(ending.signal).name if ending.signal in set(signal.Signals) else str(ending.signal)
        return Answer(trouble=Trouble.SIGNAL, detail=name, printed=printed, note=noted)
    data = _beginning(returned, ANSWER_BYTES + 1)
    try:
        # Written last of all, so that an exit in the middle has none.
        value = json.loads(data) if data.endswith(b"\n") else None
    except ValueError:
        value = None
    if isinstance(value, list) and len(value) == 1:
        return Answer(value[0], printed=printed)
    if ending.exit_status in (0, 70) and data:
        return Answer(trouble=Trouble.NO_ANSWER, printed=printed, note=noted)
    return Answer(trouble=Trouble.EXITED, detail=str(ending.exit_status), printed=printed, note=noted)


def _call(request: dict[str, Any], index: int, helper: int, returned: Path, noted: Path) -> int:
    """In the process of the call."""
    global _note_fd  # noqa: PLW0603 - of this process alone
    # Standard error is for warnings and logs, which nobody reads; standard output is read and told.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    import resource

    myself = os.getpid()
    os.environ.clear()
    os.environ.update(request["environment"])
    os.nice(_NICE)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    memory = _data_bytes() + request["limits"]["memory_bytes"]
    if (seconds := request["limits"]["cpu_seconds"]) is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    for limit, value in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_FSIZE, _WRITTEN_BYTES + helper)):
        hard = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard),) * 2)
    target = os.open(returned, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    _note_fd = os.open(noted, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    module, _, name = request["function"].partition(":")
    value = getattr(import_module(module), name)(request["arguments"][index])
    if os.getpid() != myself:
        # A process that the code forked and that came back from it.
        os._exit(0)
    data = json.dumps([value]).encode() + b"\n"
    if len(data) > ANSWER_BYTES:
        data = b"\0"
    while data:
        data = data[os.write(target, data) :]
    sys.stdout.flush()
    # No atexit function and no thread of the code holds this up.
    os._exit(0)


def _data_bytes() -> int:
    """What this process has of its parent's memory, which counts too."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _beginning(path: Path, size: int) -> bytes:
    with suppress(OSError), path.open("rb") as file:
        return file.read(size)
    return b""


def _kill_all() -> None:
    """Every process below this one; it is the subreaper, so that the children of a killed one become its own."""
    while True:
        for pid in children() or frozenset():
            kill_with_group(pid)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return
