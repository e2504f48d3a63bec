"""The place of a call in a run: scopes nest by map item, workflow, agent and step, and number the calls in them."""

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from taskpilot.domain.errors import TaskPilotError
from taskpilot.domain.steps import StepKind, StepPlace


class Scope:
    """A part of a run that makes its calls in a fixed order; its path is the same in every attempt."""

    def __init__(self, path: str = "") -> None:
        self.path = path
        self._lock = threading.Lock()
        self._ordinals: Counter[StepKind] = Counter()
        self._equal: Counter[tuple[StepKind, str, str]] = Counter()
        self._children: Counter[str] = Counter()
        self._picked: set[int] = set()

    @property
    def in_map(self) -> bool:
        """True inside an item of a map."""
        return bool(_ITEM.search(self.path))

    def place(self, kind: StepKind, name: str, value: Any) -> StepPlace:
        """The identity of the next call of this kind."""
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

    def pick(self, noun: str, choose: Callable[[int, set[int]], int]) -> str:
        """The path of a child whose number `choose` gives, by the ordinal of the call and the numbers that are given away already."""
        with self._lock:
            ordinal = self._children[noun]
            self._children[noun] += 1
            found = choose(ordinal, self._picked)
            self._picked.add(found)
        return f"{self.path}/{quoted(noun)}.{found}"

    def call_path(self, place: StepPlace) -> str:
        """The path for what a tool does in its call. It contains the call's key, since a recorded call is skipped and must not count."""
        return f"{self.path}/{quoted(place.name)}[{place.key[:16]}]"


_ITEM: Final = re.compile(r"\.\d+\[\d+\]")
_ESCAPED: Final = re.compile(r"[%/\[\]]")
_ESCAPES: Final = {ord(character): f"%{ord(character):02x}" for character in "%/[]"}

_current: ContextVar[Scope] = ContextVar("taskpilot_scope")


def current() -> Scope:
    """The caller's scope, also in the threads of a map. Raises TaskPilotError in a thread that the job started."""
    try:
        return _current.get()
    except LookupError:
        raise TaskPilotError(
            "the context was used in a thread that the job started, where its place in the run is not known",
            hint="use ctx.map(function, items, concurrency=N)",
        ) from None


def quoted(noun: str) -> str:
    """A name as one part of a path, with the separators escaped."""
    return noun.translate(_ESCAPES) if _ESCAPED.search(noun) else noun


@contextmanager
def entered(path: str) -> Iterator[Scope]:
    """A new scope at this path, for the block."""
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
