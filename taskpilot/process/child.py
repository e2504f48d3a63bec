"""The fork, and what the child does before and after the job's code."""

import faulthandler
import gc
import os
import signal
import stat
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from taskpilot.domain.errors import Terminated
from taskpilot.process.interrupts import Interrupts
from taskpilot.process.linux import die_with_parent, erase_environment
from taskpilot.process.plan import ChildPlan

SOFTWARE_STATUS: Final = 70
"""EX_SOFTWARE of sysexits.h: an exception left the child's main function."""

_KEPT_IGNORED: Final = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
"""Python ignores these so that a broken pipe is an exception and does not end the process."""


def start(plan: ChildPlan, interrupts: Interrupts) -> int:
    """Forks; the parent gets the child's pid, the child never returns. Raises OSError where the output cannot be opened."""
    parent = os.getpid()
    output = _open_output(plan.output)
    erase_environment(plan.drop_environment)
    _flush()
    # Between the fork and the child's own handlers a signal would run the parent's handlers in the child.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = _fork()
        if pid == 0:
            _run_child(plan, interrupts, parent, output)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(output)
    return pid


def _fork() -> int:
    with warnings.catch_warnings():
        # From Python 3.12 on a fork beside threads warns; `supervise` says why it is safe here.
        warnings.simplefilter("ignore", DeprecationWarning)
        # The child keeps all objects of now: a garbage collection that walks them would copy every page that they are on.
        gc.freeze()
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid != 0:
                gc.unfreeze()
        return pid


def _open_output(path: Path) -> int:
    """Opened before the fork, so that a full or read-only disk is an error of the caller and not a child that fails."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    output = os.open(path, flags, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(output).st_mode):
            raise OSError(f"{path} is not a regular file; move it away")
        os.fchmod(output, 0o600)
        os.set_blocking(output, True)
    except BaseException:
        os.close(output)
        raise
    return output


def _run_child(plan: ChildPlan, interrupts: Interrupts, parent: int, output: int) -> NoReturn:
    """Never returns or raises: a child that continued in the caller's code would end the run twice."""
    status = SOFTWARE_STATUS
    try:
        myself = os.getpid()
        try:
            _prepare(plan, interrupts, parent, output)
            returned = int(plan.main())
            status = returned if 0 <= returned <= 255 else SOFTWARE_STATUS
        except BaseException:  # SystemExit and Terminated too: the job's code has to handle them
            if os.getpid() == myself:
                import traceback

                traceback.print_exc()
        if os.getpid() == myself:
            # Terminated is raised at most once, and never from here on: the exit cannot be interrupted.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            _flush()
        else:
            # A process that the job forked and that returned here: the buffers hold the child's output, not its own.
            status = SOFTWARE_STATUS
    except BaseException:  # noqa: S110 - where not even a traceback can be written, nothing else can be done
        pass
    finally:
        os._exit(status)


def _prepare(plan: ChildPlan, interrupts: Interrupts, parent: int, output: int) -> None:
    os.setsid()
    if die_with_parent() and os.getppid() != parent:
        os._exit(SOFTWARE_STATUS)
    interrupts.close_in_child()
    _reset_signals()
    _redirect_streams(output)
    os.umask(0o077)
    for name, value in plan.add_environment.items():
        if not os.environ.get(name):
            os.environ[name] = value
    for name in plan.drop_environment:
        os.environ.pop(name, None)
    os.chdir(plan.root)
    # A crash in C code leaves the Python stack in the output instead of nothing.
    faulthandler.enable(2)
    signal.signal(signal.SIGTERM, _raise_terminated_once())
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _reset_signals() -> None:
    for number in signal.valid_signals() - _KEPT_IGNORED:
        if signal.getsignal(number) is not signal.SIG_DFL:
            with suppress(OSError, ValueError):  # SIGKILL and SIGSTOP have no handler
                signal.signal(number, signal.SIG_DFL)


def _redirect_streams(output: int) -> None:
    """Replaces the three descriptors and Python's three streams, also where they were closed, or replaced by a test."""
    # Kept from garbage collection: an old stream that owns its descriptor would close the new file.
    _old_streams.extend((sys.stdin, sys.stdout, sys.stderr))
    os.dup2(output, 1)
    os.dup2(output, 2)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for descriptor in {output, nothing} - {0, 1, 2}:
        os.close(descriptor)
    for descriptor in (0, 1, 2):
        os.set_inheritable(descriptor, True)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - all three stay open to the end
    # Line by line, so that what was printed before a SIGKILL is there.
    sys.stdout, sys.stderr = (
        open(descriptor, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
        for descriptor in (1, 2)
    )


_old_streams: Final[list[object]] = []


def _raise_terminated_once() -> Callable[[int, FrameType | None], None]:
    """For SIGTERM: Terminated in the main thread, so that the job can clean up; a second one is ignored."""
    myself = os.getpid()
    raised = False

    def handler(number: int, _frame: FrameType | None) -> None:
        nonlocal raised
        global _asked_to_end  # noqa: PLW0603 - the process has one supervisor, and it asks once
        if os.getpid() != myself:
            # A process that the job forked inherits this handler: it ends as any process would.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not raised:
            raised = _asked_to_end = True
            raise Terminated

    return handler


_asked_to_end = False


def asked_to_end() -> bool:
    """In the child: whether its supervisor sent SIGTERM, also where the job caught the Terminated that it raised."""
    return _asked_to_end


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # A pipe without a reader, or a stream that is closed or None.
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
