"""Logs as JSON lines: one shared file for log shippers, and one for each run. The only module that imports loguru."""

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from taskpilot.domain.events import Event, Fact, RunIdentity
from taskpilot.domain.reasons import Reason
from taskpilot.domain.times import utc_now
from taskpilot.messages.reasons import reason_sentence
from taskpilot.telemetry.ecs import EcsLines
from taskpilot.telemetry.log_files import ROTATE_BYTES, Rotation, SharedLogFile
from taskpilot.telemetry.redaction import Redactor

FILE: Final = Path("logs") / "taskpilot.log"
RUN_FILE: Final = "run.log"
_WARN_EVERY_SECONDS: Final = 60.0
_NOISY: Final = (
    "opentelemetry",
    "grpc",
    "urllib3",
    "requests",
    "httpx",
    "httpx2",
    "httpcore",
    "openai",
    "alembic",
    "sqlalchemy",
    "apscheduler",
)
_LEVELS: Final = {"debug": "DEBUG", "info": "INFO", "warning": "WARNING", "error": "ERROR", "critical": "CRITICAL"}


def configure_logs(
    state_dir: Path,
    *,
    run_id: str | None = None,
    level: str = "INFO",
    identity: RunIdentity | None = None,
    deployment: str | None = None,
    secrets: tuple[str, ...] = (),
    warn: Callable[[str], None] | None = None,
    rotate_bytes: int = ROTATE_BYTES,
) -> Callable[[], int]:
    """From now on this process logs to logs/taskpilot.log, and to runs/<run_id>/run.log where a run is named; never to stderr.

    The logging of libraries goes to the same files. `secrets` are masked in every line. The shared file is rotated at `rotate_bytes`.
    Where a file cannot be written, lines are counted and `warn` gets one sentence a minute (by default it is printed on stderr). May be
    called again, as after a fork. Gives a function that returns how many lines were lost since.
    """
    lost = _LostLines(warn or _to_stderr)
    files = [SharedLogFile(state_dir / FILE, rotation=Rotation.in_state_dir(state_dir, limit_bytes=rotate_bytes), on_lost=lost.count)]
    if run_id is not None:
        files.append(SharedLogFile(state_dir / "runs" / run_id / RUN_FILE, on_lost=lost.count))
    level = level.upper()
    # After a fork the handler is there already; in a process that made it, other code may have removed it.
    if _handler is None or _handler.level != level or _handler.pid == os.getpid():
        add_handler(level)
    assert _handler is not None
    _handler.write = _Sink(files, EcsLines(Redactor(secrets), deployment=deployment), identity)
    _intercept(level)
    return lambda: lost.total


def add_handler(level: str) -> None:
    """Makes loguru's handler, a fifth of the work around a short job: a process that forks runs makes it once for all of them.

    It drops what it gets until `configure_logs` is called.
    """
    from loguru import logger

    global _handler  # noqa: PLW0603 - loguru's logger is one for the process
    _handler = _Handler(level, os.getpid())
    logger.remove()
    # The sink makes the line from loguru's record: no message is used as a template, so braces and tags in a model's text stay text.
    logger.add(_handler, level=level, format=_nothing, catch=False, diagnose=False, backtrace=False, colorize=False, enqueue=False)


class _Handler:
    """What loguru calls; where it writes to may change."""

    def __init__(self, level: str, pid: int) -> None:
        self.level = level
        self.pid = pid
        self.write: Callable[[Any], None] = lambda _message: None

    def __call__(self, message: Any) -> None:
        self.write(message)


_handler: _Handler | None = None


class LogSignal:
    """Writes each event as a line, with its stable `event.action`."""

    def emit(self, fact: Fact) -> None:
        """Writes events; other facts have their own files."""
        if isinstance(fact, Event):
            message, fields = fact.message, dict(fact.fields)
            if isinstance(reason := fields.get("reason"), Reason):
                del fields["reason"]
                fields |= {"reason_code": reason.code.value, "reason_facts": dict(reason.facts)}
                message = f"{message}: {reason_sentence(reason)}" if reason else message
            given = {
                "run": fact.run,
                "logger": "taskpilot.run",
                "action": fact.action,
                "at": fact.at,
                "fields": fields,
                "error": fact.error,
            }
            _log(fact.level, message, given)


class RunLogger:
    """`ctx.log` of a job: a message, its `%` arguments, and fields. Without arguments a message is no template."""

    def __init__(self, run: RunIdentity | None = None, *, name: str = "job") -> None:
        self._run = run
        self._name = name

    def debug(self, message: object, /, *args: object, **fields: object) -> None:
        """A detail for finding a fault."""
        self._write("debug", message, args, fields)

    def info(self, message: object, /, *args: object, **fields: object) -> None:
        """What happened."""
        self._write("info", message, args, fields)

    def warning(self, message: object, /, *args: object, **fields: object) -> None:
        """Something that a person should check."""
        self._write("warning", message, args, fields)

    def error(self, message: object, /, *args: object, **fields: object) -> None:
        """What went wrong."""
        self._write("error", message, args, fields)

    def exception(self, message: object, /, *args: object, **fields: object) -> None:
        """What went wrong, with the exception that is being handled."""
        self._write("error", message, args, fields, error=sys.exc_info()[1])

    def _write(
        self, level: str, message: object, args: tuple[object, ...], fields: dict[str, object], *, error: BaseException | None = None
    ) -> None:
        with suppress(Exception):
            _log(level, _formatted(message, args), {"run": self._run, "labels": fields, "logger": self._name, "error": error})


def _formatted(message: object, args: tuple[object, ...]) -> str:
    """As `logging` does it; where message and arguments do not fit each other, both are written as they are."""
    if not args:
        return str(message)
    try:
        return str(message) % (args[0] if len(args) == 1 and isinstance(args[0], Mapping) else args)
    except Exception:
        with suppress(Exception):
            return f"{message} {args!r}"
        return str(message)


def run_logger(identity: RunIdentity | None = None, *, name: str = "job") -> RunLogger:
    """A logger for what a run logs."""
    return RunLogger(identity, name=name)


class _Sink:
    """Receives loguru's messages; never raises and never prints."""

    def __init__(self, files: list[SharedLogFile], lines: EcsLines, identity: RunIdentity | None) -> None:
        self._files = files
        self._lines = lines
        self._identity = identity

    def __call__(self, message: Any) -> None:
        with suppress(Exception):
            record = message.record
            given: dict[str, Any] = record["extra"].get("taskpilot", {})
            line = self._lines.line(
                at=given.get("at") or record["time"],
                level=record["level"].name,
                message=record["message"],
                logger=given.get("logger") or record["name"] or "taskpilot",
                run=given.get("run") or self._identity,
                action=given.get("action"),
                fields=given.get("fields"),
                labels=given.get("labels"),
                error=given.get("error") or (record["exception"].value if record["exception"] else None),
            )
            for file in self._files:
                file.append(line)


class _LostLines:
    """Warns once a minute that lines are lost: a full disk must not flood stderr."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._lines = 0
        self._next = 0.0
        self.total = 0

    def count(self, path: Path, error: OSError) -> None:
        self._lines += 1
        self.total += 1
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _WARN_EVERY_SECONDS
            lines, self._lines = self._lines, 0
            what = f"{lines} log line{'s' if lines > 1 else ''} could not be written to {path}: {error.strerror or error}"
            with suppress(Exception):
                self._warn(f"taskpilot: {what}; the run continues. Free some space or check its permissions; warned once a minute")


class _LoguruHandler(logging.Handler):
    """Passes what libraries log to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):
            error = record.exc_info[1] if record.exc_info else None
            try:
                message = record.getMessage()
            except Exception:
                message = str(record.msg)
            _log(record.levelname, message, {"logger": record.name, "error": error})


def _intercept(level: str) -> None:
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, _LoguruHandler)]:
        root.removeHandler(handler)
    root.addHandler(_LoguruHandler())
    root.setLevel(level if level in logging.getLevelNamesMapping() else logging.INFO)
    for name in _NOISY:
        # Below a warning they log their own details, which may quote requests.
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


def _log(level: str, message: str, given: dict[str, Any]) -> None:
    from loguru import logger

    given.setdefault("at", None)
    if given["at"] is None:
        given["at"] = utc_now()
    # No arguments to log(): loguru formats a message only where it gets arguments.
    logger.bind(taskpilot=given).log(_LEVELS.get(level.lower(), "INFO"), message)


def _nothing(_record: Any) -> str:
    return ""


def _to_stderr(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")
