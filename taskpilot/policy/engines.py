"""Regorus, the embedded Rego engine: one instance for each policy and thread."""

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from taskpilot.domain.errors import ConfigurationError, Stop
from taskpilot.domain.text import one_line
from taskpilot.policy import shapes
from taskpilot.policy.sources import Policy

PACKAGE: Final = "data.taskpilot.tools"
ENTRY_POINTS: Final = shapes.ENTRY_POINTS
_ENGINES_A_THREAD: Final = 8
_REASONS: Final = 20
_LOCATION: Final = re.compile(r"^--> (?P<file>.+):(?P<line>\d+):(?P<column>\d+)$", re.MULTILINE)
_CAUSE: Final = re.compile(r"^error: (?P<cause>.+)$", re.MULTILINE)

_local: Final = threading.local()
"""Thread-local for the module, since an engine must be freed in its own thread: it is when the thread ends."""


class PolicyBroken(Exception):
    """A policy gave no usable answer; the message is short and names the place."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One policy's answer about one call."""

    allow: bool
    deny: tuple[str, ...]
    require_approval: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Engine:
    rego: Any
    rules: Mapping[str, str]
    """The entry points that the policy defines, each with its place, like `policy/ours.rego:3`."""


def ask(policy: Policy, input_json: str) -> Answer:
    """The policy's answer, from the calling thread's engine. Raises PolicyBroken, and any error of the engine."""
    engine = _engine(policy)
    try:
        engine.rego.set_input_json(input_json)
        values = {rule: engine.rego.eval_rule(f"{PACKAGE}.{rule}") if rule in engine.rules else None for rule in ENTRY_POINTS}
        engine.rego.take_prints()
    except BaseException:
        # A panic may leave the engine in a broken state: the next call gets a new one.
        forget(policy)
        raise
    allow = values["allow"]
    if allow is not None and type(allow) is not bool:
        raise PolicyBroken("allow is not a boolean")
    return Answer(allow is True, _reasons("deny", values["deny"]), _reasons("require_approval", values["require_approval"]))


def compile_policy(policy: Policy, probes: list[str], note: Callable[[str], None] = lambda _place: None) -> None:
    """Evaluates every entry point for every probe. Raises ConfigurationError that names the file and the line."""
    try:
        engine = _make(policy, note)
        for probe in probes:
            engine.rego.set_input_json(probe)
            for rule, place in sorted(engine.rules.items()):
                note(f"{place}: {rule}")
                engine.rego.eval_rule(f"{PACKAGE}.{rule}")
    except (KeyboardInterrupt, SystemExit, Stop):
        raise
    except BaseException as error:
        raise ConfigurationError(
            f"{policy.label} does not compile: {explain(error)}", hint="how to write it: taskpilot docs policy"
        ) from None


def forget(policy: Policy) -> None:
    """Drops the calling thread's engine for this policy."""
    getattr(_local, "engines", {}).pop(policy.fingerprint, None)


def explain(error: BaseException) -> str:
    """`file:line: cause` of an engine's error, without its source excerpt and its stack trace."""
    text = str(error).split("Stack backtrace")[0].strip()
    location = _LOCATION.search(text)
    cause = _CAUSE.search(text)
    what = cause["cause"] if cause else (text.splitlines() or [type(error).__name__])[0]
    where = f"{location['file']}:{location['line']}: " if location else ""
    return one_line(f"{where}{what}", limit=500)


def _engine(policy: Policy) -> _Engine:
    engines: dict[str, _Engine] | None = getattr(_local, "engines", None)
    if engines is None:
        engines = _local.engines = {}
    engine = engines.get(policy.fingerprint)
    if engine is None:
        if len(engines) >= _ENGINES_A_THREAD:
            engines.clear()
        engine = engines[policy.fingerprint] = _make(policy)
    return engine


def _make(policy: Policy, note: Callable[[str], None] = lambda _place: None) -> _Engine:
    import regorus

    rego = regorus.Engine()
    rego.set_gather_prints(True)
    for source in policy.sources:
        try:
            shapes.check_nesting(source.name, source.text)
        except shapes.ShapeRefused as refused:
            raise PolicyBroken(str(refused)) from None
        note(f"{source.name}:1: its text")
        rego.add_policy(source.name, source.text)
    rego.set_input_json("{}")
    return _Engine(rego, _rules(policy, rego))


def _rules(policy: Policy, rego: Any) -> Mapping[str, str]:
    """The entry points, after a check of all that the policy says; once for each text in this process."""
    known = _rules_of.get(policy.fingerprint)
    if known is None:
        try:
            known = shapes.check_shapes(json.loads(rego.get_ast_as_json()), _has_function)
        except shapes.ShapeRefused as refused:
            raise PolicyBroken(str(refused)) from None
        except RecursionError:
            raise PolicyBroken(f"{policy.sources[0].name}:1: its expressions nest too deep") from None
        _rules_of[policy.fingerprint] = known
    if not known:
        # Without this, a file of denials with a misspelt name would silently deny nothing.
        names = ", ".join(source.name for source in policy.sources)
        raise PolicyBroken(f"{names}: none of the rules {', '.join(sorted(ENTRY_POINTS))} in `package taskpilot.tools`")
    return known


_rules_of: Final[dict[str, Mapping[str, str]]] = {}


@cache
def _has_function(name: str) -> bool:
    """Whether the engine has a function, which it says only where it evaluates a call."""
    import regorus

    rego = regorus.Engine()
    rego.set_gather_prints(True)
    try:
        rego.add_policy("f.rego", f"package f\nx := {name}()")
        rego.eval_rule("data.f.x")
    except Exception as error:
        return "could not find function" not in str(error)
    return True


def _reasons(rule: str, value: Any) -> tuple[str, ...]:
    """The reasons in a rule's value. `true` counts as one reason; a value of another type is an error."""
    if value is None or value is False:
        return ()
    if value is True:
        return (f"the policy's rule {rule} is true",)
    if isinstance(value, (set, frozenset, list, tuple)):
        texts = sorted(member if isinstance(member, str) else json.dumps(member, default=str) for member in value)
        return tuple(one_line(text, limit=500) or rule for text in texts[:_REASONS])
    raise PolicyBroken(f"{rule} is neither a set of reasons nor a boolean")
