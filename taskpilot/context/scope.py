"""Where in a run something is asked: scopes nest by map item, workflow, agent and step, and number what happens in them."""

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from taskpilot.domain.errors import TaskPilotError
from taskpilot.domain.steps import StepKind, StepPlace


class Scope:
    """One stretch of a run that always asks in the same order; its path is the same in every attempt."""

    def __init__(self, path: str = "") -> None:
        self.path = path
        self._lock = threading.Lock()
        self._ordinals: Counter[StepKind] = Counter()
        self._equal: Counter[tuple[StepKind, str, str]] = Counter()
        self._children: Counter[str] = Counter()

    @property
    def in_map(self) -> bool:
        """True inside of a map's item."""
        return bool(_ITEM.search(self.path))

    def place(self, kind: StepKind, name: str, value: Any) -> StepPlace:
        """The identity of the next thing of this kind that is asked here."""
        digest = digest_of(value)
        with self._lock:
            ordinal = self._ordinals[kind]
            self._ordinals[kind] += 1
            equal = self._equal[kind, name, digest]
            self._equal[kind, name, digest] += 1
        key = digest_of([self.path, kind, name, digest, equal])
        return StepPlace(scope=self.path, kind=kind, name=name, ordinal=ordinal, key=key, input_digest=digest)

    def child_path(self, noun: str) -> str:
        """The path of the next child of this name: `<path>/<noun>.<n>`."""
        with self._lock:
            number = self._children[noun]
            self._children[noun] += 1
        return f"{self.path}/{quoted(noun)}.{number}"

    def call_path(self, place: StepPlace) -> str:
        """The path of what a tool call does inside: made of the call's key, since a recorded call is not made and counts nothing."""
        return f"{self.path}/{quoted(place.name)}[{place.key[:16]}]"


_ITEM: Final = re.compile(r"\.\d+\[\d+\]")
_ESCAPED: Final = re.compile(r"[%/\[\]]")
_ESCAPES: Final = {ord(character): f"%{ord(character):02x}" for character in "%/[]"}

_current: ContextVar[Scope] = ContextVar("taskpilot_scope")


def current() -> Scope:
    """The scope of whoever asks: follows into the threads of a map. Raises TaskPilotError in a thread of the job's own."""
    try:
        return _current.get()
    except LookupError:
        raise TaskPilotError(
            "the context was used in a thread that the job made itself: its place in the run, and so its record, is not known there. "
            "Use ctx.map(function, items, concurrency=N)"
        ) from None


def quoted(noun: str) -> str:
    """A name as one part of a path: what separates parts is escaped, so that no name reads like another one's children."""
    return noun.translate(_ESCAPES) if _ESCAPED.search(noun) else noun


@contextmanager
def entered(path: str) -> Iterator[Scope]:
    """A fresh scope at this path, for the length of the block."""
    scope = Scope(path)
    token = _current.set(scope)
    try:
        yield scope
    finally:
        _current.reset(token)


@contextmanager
def inside(noun: str) -> Iterator[Scope]:
    """A child of the current scope."""
    with entered(current().child_path(noun)) as scope:
        yield scope


def digest_of(value: Any) -> str:
    """SHA-256 of canonical JSON (sorted keys, no spaces, ASCII)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()
