"""One log record as one line of JSON with the field names of the Elastic Common Schema."""

import json
import os
import re
import socket
import traceback
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from taskpilot.domain.events import RunIdentity
from taskpilot.domain.times import utc_iso
from taskpilot.telemetry.redaction import Redactor, as_text

ECS_VERSION: Final = "9.4.0"
_LINE_MAX: Final = 128 * 1024
"""A longer line loses its fields; its message is bounded anyway."""
_STACK_MAX: Final = 40
_KEY: Final = re.compile(r"[^A-Za-z0-9_.]+")


class EcsLines:
    """Builds lines; knows the host and the secrets."""

    def __init__(self, redactor: Redactor, *, deployment: str | None = None) -> None:
        self._redactor = redactor
        self._deployment = deployment
        self._host = socket.gethostname()

    def masked(self, text: str) -> str:
        """The text without secrets, not shortened."""
        return self._redactor.masked(text)

    def line(
        self,
        *,
        at: datetime,
        level: str,
        message: str,
        logger: str,
        run: RunIdentity | None = None,
        action: str | None = None,
        fields: Mapping[str, Any] | None = None,
        labels: Mapping[str, Any] | None = None,
        error: BaseException | None = None,
        foreign: bool = False,
    ) -> str:
        """The line without its end, ASCII only, so that no control or bidi character of a model reaches a terminal.

        It begins with its time: a log shipper recognizes a file by its first bytes. `foreign`: another process wrote the message.
        `fields` are TaskPilot's own, by type; `labels` are a job author's, as text, since one index has one type for a name.
        """
        text = self._redactor.text
        document: dict[str, Any] = {
            "@timestamp": utc_iso(at, timespec="milliseconds"),
            "log.level": level.lower(),
            "message": text(message),
            "ecs.version": ECS_VERSION,
            "service.name": "taskpilot",
            "host.name": self._host,
            "log.logger": text(logger),
        }
        if not foreign:
            document["process.pid"] = os.getpid()
        if action is not None:
            document["event.action"] = text(action)
        deployment = run.deployment if run is not None else self._deployment
        if deployment is not None:
            document["taskpilot.deployment"] = deployment
        if run is not None:
            document |= {
                "trace.id": run.trace_id,
                "span.id": run.root_span_id,
                "taskpilot.run.id": run.run_id,
                "taskpilot.job.name": run.job,
                "taskpilot.run.attempt": run.attempt,
            }
        if error is not None:
            document |= self._error(error)
        extra = {f"taskpilot.{_name(key)}": self._scalar(value) for key, value in (fields or {}).items()}
        if labels:
            extra["labels"] = {
                name: self._redactor.named(name, as_text(value))
                for name, value in ((_name(key).replace(".", "_"), value) for key, value in labels.items())
            }
        line = json.dumps(document | {key: value for key, value in extra.items() if key not in document}, allow_nan=False)
        return line if len(line) <= _LINE_MAX else json.dumps(document, allow_nan=False)

    def _error(self, error: BaseException) -> dict[str, str]:
        # Only the stack of calls and the message: the values of variables may be keys and prompts.
        stack = "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-_STACK_MAX))
        redact = self._redactor.text
        return {"error.type": type(error).__name__, "error.message": redact(as_text(error)), "error.stack_trace": redact(stack)}

    def _scalar(self, value: Any) -> Any:
        plain = self._redactor.plain(value)
        return json.dumps(plain, allow_nan=False) if isinstance(plain, dict | list) else plain


def _name(key: object) -> str:
    return _KEY.sub("_", str(key))[:64]
