"""A process that has imported the program and forks one for each command: imports cost more than most commands of a test.

`taskpilot serve` starts its runs in the same way. What depends on a new interpreter is tested with one: see `starts_cold`.
"""

import atexit
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Final, NoReturn

REPOSITORY: Final = Path(__file__).parents[1]
_READ_AT_THE_START: Final = ("PYTHON", "LC_", "LANG")
"""Variables that an interpreter reads before the program begins."""


def starts_cold(environment: Mapping[str, str], cwd: Path) -> bool:
    """Whether a command needs an interpreter of its own."""
    own = [name for name in environment if name != "PYTHONPATH" and environment[name] != os.environ.get(name)]
    return not cwd.is_dir() or any(name.startswith(_READ_AT_THE_START) for name in own)


class Started:
    """A command that runs; `wait` gives its exit code as `subprocess` does."""

    def __init__(self, answers: int) -> None:
        self._answers = os.fdopen(answers, "rb")
        self.pid = int(self._answers.readline())

    def wait(self, seconds: float) -> int:
        with self._answers, selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            if not selector.select(seconds):
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(f"process {self.pid} did not end within {seconds:g} s")
            return int(self._answers.readline())


def start(
    arguments: Sequence[str], *, files: tuple[int, int, int], environment: Mapping[str, str], cwd: Path, session: bool = False
) -> Started:
    """Starts `taskpilot ARGUMENTS` with these three files as its stdin, stdout and stderr."""
    answers, theirs = os.pipe()
    (umask,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Umask:"))
    asked = {"arguments": list(arguments), "environment": dict(environment), "cwd": str(cwd), "session": session, "umask": umask}
    try:
        socket.send_fds(_server(os.getpid()), [json.dumps(asked).encode()], [*files, theirs])
    finally:
        os.close(theirs)
    return Started(answers)


def run(
    arguments: Sequence[str], *, stdin: bytes, environment: Mapping[str, str], cwd: Path, seconds: float
) -> "subprocess.CompletedProcess[bytes]":
    """Runs `taskpilot ARGUMENTS` to its end."""
    pipes = [os.pipe() for _ in range(3)]
    (read_in, write_in), (read_out, write_out), (read_err, write_err) = pipes
    began = time.monotonic()
    try:
        started = start(arguments, files=(read_in, write_out, write_err), environment=environment, cwd=cwd)
    finally:
        for descriptor in (read_in, write_out, write_err):
            os.close(descriptor)
    told: dict[int, bytes] = {}
    readers = [threading.Thread(target=lambda one=one: told.update({one: _all_of(one)}), daemon=True) for one in (read_out, read_err)]
    for reader in readers:
        reader.start()
    with suppress(BrokenPipeError), os.fdopen(write_in, "wb") as given:
        given.write(stdin)
    code = started.wait(seconds)
    for reader in readers:
        # Until the last process that has the pipe has ended, as `subprocess.run` waits.
        reader.join(max(0.0, began + seconds - time.monotonic()))
    if len(told) < len(readers):
        raise TimeoutError(f"a process that {arguments} left behind keeps its output open")
    return subprocess.CompletedProcess([*arguments], code, told[read_out], told[read_err])


def run_text(
    arguments: Sequence[str], *, environment: Mapping[str, str], cwd: Path, seconds: float = 120
) -> "subprocess.CompletedProcess[str]":
    """The same with nothing to read, and text."""
    done = run(arguments, stdin=b"", environment=environment, cwd=cwd, seconds=seconds)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def _all_of(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


@cache
def _server(_pid: int) -> socket.socket:
    """The connection to the server of this process, which ends with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__], cwd=REPOSITORY, stdin=theirs, env={"PATH": os.environ["PATH"], "HOME": "/"}
        )
    # It ends when the connection does.
    atexit.register(lambda: (ours.close(), process.wait(10)))
    return ours


def _serve() -> None:
    for name in ("__main__", *(path.stem for path in (REPOSITORY / "taskpilot" / "cli").glob("[a-z]*.py"))):
        import_module(f"taskpilot.{name}" if name == "__main__" else f"taskpilot.cli.{name}")
    from taskpilot.engines.fork_server import PRELOADED

    for name in ("taskpilot.app.wiring", "sqlalchemy.dialects.sqlite", "rich.table", "rich.markdown", *PRELOADED):
        import_module(name)
    gc.collect()
    gc.freeze()
    asking = socket.socket(fileno=os.dup(0))
    # Python 3.11 drops the flags of `recv_fds`: with MSG_DONTWAIT it would wait here, and tell nobody that a command has ended.
    asking.setblocking(False)
    woken, wakes = os.pipe()
    for end in (woken, wakes):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    living: dict[int, int] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(asking, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            selector.select()
            with suppress(BlockingIOError):
                os.read(woken, 4096)
            _tell_of_ended(living)
            with suppress(BlockingIOError):
                data, files, _, _ = socket.recv_fds(asking, 1 << 20, 4)
                if not data:
                    return
                pid = os.fork()
                if pid == 0:
                    _become(json.loads(data), files)
                living[pid] = files.pop()
                os.write(living[pid], b"%d\n" % pid)
                for descriptor in files:
                    os.close(descriptor)


def _tell_of_ended(living: dict[int, int]) -> None:
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            answers = living.pop(ended[0])
            # Who asked may be gone.
            with suppress(BrokenPipeError):
                os.write(answers, b"%d\n" % os.waitstatus_to_exitcode(ended[1]))
            os.close(answers)


def _become(asked: dict[str, object], files: list[int]) -> NoReturn:
    """What `python -m taskpilot` does in a new interpreter."""
    code = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for target, source in enumerate(files[:3]):
            os.dup2(source, target)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        if asked["session"]:
            os.setsid()
        _take(asked)
        code = _main()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _take(asked: dict[str, object]) -> None:
    environment, arguments = asked["environment"], asked["arguments"]
    assert isinstance(environment, dict)
    assert isinstance(arguments, list)
    # Set by the interpreter itself where nothing names a character set.
    coerced = {name: text for name, text in os.environ.items() if name == "LC_CTYPE"}
    os.environ.clear()
    os.environ.update({**coerced, **environment})
    time.tzset()
    os.umask(int(str(asked["umask"]), 8))
    os.chdir(str(asked["cwd"]))
    sys.path[0] = str(asked["cwd"])
    sys.argv = [str(REPOSITORY / "taskpilot" / "__main__.py"), *arguments]
    encoding, errors = sys.stdout.encoding, sys.stdout.errors
    sys.stdin = sys.__stdin__ = open(0, encoding=encoding, errors=errors, closefd=False)  # type: ignore[misc]  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", encoding=encoding, errors=errors, closefd=False)  # type: ignore[misc]  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", 1, encoding=encoding, errors="backslashreplace", closefd=False)  # type: ignore[misc]  # noqa: SIM115


def _main() -> int:
    from taskpilot.__main__ import main

    try:
        code = main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = 120
    return code


if __name__ == "__main__":
    _serve()
