"""How a command ends: each error as a sentence on stderr, what helps on a line of its own, and an exit code of the table."""

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, TextIO

import click

from taskpilot.cli.options import GlobalOptions
from taskpilot.cli.output import LINE_LIMIT, OutputLost, echo_err
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.text import one_line

_DISK: Final = frozenset({errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ELOOP})
"""The state dir belongs to somebody else, or something stands where a folder or file of ours should be."""
_ALWAYS_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
_LISTED_BY: Final = {
    "job": "taskpilot jobs",
    "run_id": "taskpilot runs",
    "task_id": "taskpilot tasks",
    "decision_id": "taskpilot decisions",
}
"""What a command needs, and the command that lists it."""


def prepare_streams() -> None:
    """A character that the terminal's encoding lacks is escaped, not a crash. Closed streams are left alone."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            with suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")


def flush(code: int) -> int:
    """Empties our streams; the code stays, but a success whose output could not be written is none."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
    except (OSError, ValueError) as error:
        _discard(sys.stdout)
        echo_err(f"taskpilot: the output could not be written: {error}")
        code = code or ExitCode.FAILED
    with suppress(OSError, ValueError):
        if sys.stderr is not None:
            sys.stderr.flush()
    return int(code)


def exit_code_of(error: BaseException, given: GlobalOptions, typed: Sequence[str]) -> int:
    """Prints what went wrong, and gives the exit code for it."""
    given.quiet = "--quiet" in typed
    # Not above: `--help` pays for what stands there.
    from taskpilot.domain.errors import Stop, TaskPilotError

    match error:
        case BrokenPipeError():
            _discard(sys.stdout)
            return given.exit_code
        case click.UsageError():
            _usage(error, given, typed)
            return ExitCode.USAGE
        case click.ClickException():
            _tell(error.format_message(), given)
            return ExitCode.USAGE
        case click.Abort() | KeyboardInterrupt():
            _tell("interrupted; nothing more was done", given)
            return ExitCode.SIGINT
        case TaskPilotError():
            # Under --quiet all is one line, and cron's mail with it.
            for problem in (error,) if given.quiet else error.problems or (error,):
                _tell(error.one_line if given.quiet else str(problem), given, hint=None if given.quiet else problem.hint)
            if _debug(given):
                _print_traceback(error, given)
            return error.exit_code
        case SystemExit():
            return error.code if isinstance(error.code, int) else ExitCode.FAILED
        case OutputLost():
            _discard(sys.stdout)
            _tell(str(error), given)
            return given.exit_code or ExitCode.FAILED
        case OSError() if _is_state(error, given):
            what = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else (error.strerror or str(error))
            where = f": {error.filename}" if error.filename else ""
            hint = "check its space and rights, or give another state dir by --home"
            _tell(f"the state dir cannot be used: {what}{where}. Nothing was overwritten.", given, hint=hint)
            return ExitCode.STORE
        case Exception() | Stop():
            return _unexpected(error, given)
        case _:
            raise error


def _usage(error: click.UsageError, given: GlobalOptions, typed: Sequence[str]) -> None:
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and not given.quiet:
        _print(error.format_message())
        return
    missing = error.param.name if isinstance(error, click.MissingParameter) and error.param is not None else None
    if given.quiet and given.subject is None:
        import shlex

        # The job is among what was typed, and cron's mail is one line.
        given.subject = shlex.join(typed)
    _tell(error.format_message(), given, hint=_LISTED_BY.get(missing or ""))
    if error.ctx is not None and not given.quiet:
        _print(f"{error.ctx.get_usage()}\nTry `{error.ctx.command_path} --help`.")


def _tell(sentence: str, given: GlobalOptions, *, hint: str | None = None) -> None:
    """Prints the sentence, behind what the command is about, and the hint below it; under --quiet both in one line."""
    about = f"{one_line(_masked(given.subject, given), limit=120)}: " if given.subject else ""
    if given.quiet and hint:
        sentence, hint = f"{sentence.rstrip('.')}; {hint}", None
    line = one_line(_masked(sentence, given), limit=LINE_LIMIT)
    echo_err(f"taskpilot: {about}{line}", command=hint and _masked(hint, given), wrap=not given.quiet)


def _unexpected(error: BaseException, given: GlobalOptions) -> int:
    what = one_line(_masked(f"{type(error).__name__}: {error}", given), limit=500)
    if _debug(given):
        _print_traceback(error, given)
        _tell(what, given)
        return ExitCode.FAILED
    kept = _keep_traceback(error, given)
    where = f"the traceback is in {kept}" if kept else "`taskpilot --log-level debug ...` prints the traceback"
    _tell(f"{what} (a defect of TaskPilot; {where})", given)
    return ExitCode.FAILED


def _print_traceback(error: BaseException, given: GlobalOptions) -> None:
    import traceback

    _print(_masked("".join(traceback.format_exception(error)), given).rstrip("\n"))


def _masked(text: str, given: GlobalOptions) -> str:
    """The text without secrets: what goes wrong may quote a URL or a header, and cron mails it."""
    from taskpilot.telemetry.redaction import Redactor

    return Redactor(_secrets(given)).masked(text)


def _secrets(given: GlobalOptions) -> tuple[str, ...]:
    settings = _settings(given)
    if settings is None:
        return ()
    from taskpilot.config.secrets import secrets_of

    return secrets_of(settings)


def _debug(given: GlobalOptions) -> bool:
    """Whether tracebacks are wanted; the settings are asked only now, since something went wrong."""
    if given.log_level:
        return given.log_level.upper() in {"DEBUG", "TRACE"}
    level = _setting(given, "log_level")
    return isinstance(level, str) and level in {"DEBUG", "TRACE"}


def _is_state(error: OSError, given: GlobalOptions) -> bool:
    if error.errno in _ALWAYS_DISK:
        return True
    state_dir = _setting(given, "state_dir")
    inside = error.filename is not None and state_dir is not None and str(error.filename).startswith(str(state_dir))
    return error.errno in _DISK and inside


def _setting(given: GlobalOptions, name: str) -> object:
    """One of the settings; None where they cannot be read."""
    return getattr(_settings(given), name, None)


def _settings(given: GlobalOptions) -> Any:
    """The settings, without asking anybody; None where they cannot be read."""
    try:
        from pathlib import Path

        from taskpilot.config import load

        root, home, jobs = (None if text is None else Path(text) for text in (given.root, given.home, given.jobs))
        return load(root=root, home=home, jobs=jobs, log_level=given.log_level)
    except Exception:
        return None


def _keep_traceback(error: BaseException, given: GlobalOptions) -> str | None:
    """Adds the traceback to the log as one ECS line; gives the log's path, or None where that is not possible."""
    state_dir = _setting(given, "state_dir")
    if state_dir is None:
        return None
    with suppress(Exception):
        from pathlib import Path

        from taskpilot.domain.times import utc_now
        from taskpilot.store.creation import prepare_state_dir
        from taskpilot.telemetry.ecs import EcsLines
        from taskpilot.telemetry.log_files import Rotation, SharedLogFile
        from taskpilot.telemetry.logs import FILE
        from taskpilot.telemetry.redaction import Redactor

        prepare_state_dir(Path(str(state_dir)))
        file = SharedLogFile(Path(str(state_dir)) / FILE, rotation=Rotation.in_state_dir(Path(str(state_dir))))
        what = f"A command ended by a defect: {type(error).__name__}"
        line = EcsLines(Redactor(_secrets(given))).line(
            at=utc_now(), level="error", message=what, logger="taskpilot.cli", action="command-crashed", error=error
        )
        if file.append(line):
            return str(file.path)
    return None


def _print(text: str) -> None:
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr)


def _discard(stream: TextIO | None) -> None:
    """Sends what is still in a stream's buffer nowhere, so that the interpreter does not complain at its exit."""
    with suppress(OSError, ValueError):
        if stream is not None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
