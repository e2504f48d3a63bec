"""Prints an error as one sentence on stderr, with what helps on the next line, and finds its exit code."""

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
"""The state folder belongs to another user, or something else is in the place of one of our files."""
_ALWAYS_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
_LISTED_BY: Final = {
    "job": "taskpilot jobs",
    "run_id": "taskpilot runs",
    "task_id": "taskpilot tasks",
    "decision_id": "taskpilot decisions",
}
"""By missing argument, the command that lists its values."""


def prepare_streams() -> None:
    """Makes stdout and stderr escape characters that the terminal's encoding lacks. Closed streams are left alone."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            with suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")


def flush(code: int) -> int:
    """Flushes stdout and stderr. Returns the exit code; a success whose output cannot be written becomes a failure."""
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
    """Prints an error and returns its exit code."""
    given.quiet = "--quiet" in typed
    # Imported here so that `--help` stays fast.
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
            _tell("interrupted", given)
            return ExitCode.SIGINT
        case TaskPilotError():
            # --quiet: one line, for a mail of cron.
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
            hint = "check its free space and permissions, or choose another folder with --home"
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

        # The line must name the job, which is somewhere in the command line.
        given.subject = shlex.join(typed)
    _tell(error.format_message(), given, hint=_LISTED_BY.get(missing or ""))
    if error.ctx is not None and not given.quiet:
        _print(f"{error.ctx.get_usage()}\nTry `{error.ctx.command_path} --help`.")


def _tell(sentence: str, given: GlobalOptions, *, hint: str | None = None) -> None:
    """Prints the subject, the sentence and the hint on the next line; under --quiet all on one line.

    Of a hint only known secrets are masked: it may hold an example, such as `OPENAI_API_KEY=sk-...`.
    """
    from taskpilot.cli.formatting import with_folders
    from taskpilot.telemetry.redaction import Redactor

    about = f"{one_line(_masked(given.subject, given), limit=120)}: " if given.subject else ""
    if given.quiet and hint:
        hint = with_folders(Redactor(_secrets(given)).hidden(hint), given)
        line, hint = one_line(f"{_masked(sentence, given).rstrip('.')}; {hint}", limit=LINE_LIMIT), None
    else:
        line = one_line(_masked(sentence, given), limit=LINE_LIMIT)
    shown = hint and with_folders(Redactor(_secrets(given)).hidden(hint), given)
    echo_err(f"taskpilot: {about}{line}", command=shown, wrap=not given.quiet)


def _unexpected(error: BaseException, given: GlobalOptions) -> int:
    what = one_line(_masked(f"{type(error).__name__}: {error}", given), limit=500)
    if _debug(given):
        _print_traceback(error, given)
        _tell(what, given)
        return ExitCode.FAILED
    kept = _keep_traceback(error, given)
    where = f"the traceback is in {kept}" if kept else "`taskpilot --log-level debug ...` prints the traceback"
    _tell(f"{what} (a bug in TaskPilot; {where})", given)
    return ExitCode.FAILED


def _print_traceback(error: BaseException, given: GlobalOptions) -> None:
    import traceback

    _print(_masked("".join(traceback.format_exception(error)), given).rstrip("\n"))


def _masked(text: str, given: GlobalOptions) -> str:
    """The text without secrets: an error may quote a URL or a header."""
    from taskpilot.telemetry.redaction import Redactor

    return Redactor(_secrets(given)).masked(text)


def _secrets(given: GlobalOptions) -> tuple[str, ...]:
    settings = _settings(given)
    if settings is None:
        return ()
    from taskpilot.config.secrets import secrets_of

    return secrets_of(settings)


def _debug(given: GlobalOptions) -> bool:
    """Whether tracebacks are printed. The settings are read only here, after an error."""
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
    """The settings, without a prompt; None where they cannot be read."""
    try:
        from pathlib import Path

        from taskpilot.config import load

        root, home, jobs = (None if text is None else Path(text) for text in (given.root, given.home, given.jobs))
        return load(root=root, home=home, jobs=jobs, log_level=given.log_level)
    except Exception:
        return None


def _keep_traceback(error: BaseException, given: GlobalOptions) -> str | None:
    """Adds the traceback to the log as one ECS line. Returns the log's path, or None where that fails."""
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
        what = f"A command failed with a bug: {type(error).__name__}"
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
    """Discards what is left in a stream's buffer, so that the interpreter prints no error at exit."""
    with suppress(OSError, ValueError):
        if stream is not None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
