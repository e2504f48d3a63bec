"""Checks the input of the policy engines: only plain, small, well-formed JSON passes."""

import json
import math
import re
import unicodedata
from typing import Any, Final

from taskpilot.domain.decisions import PolicyInput

_MARKS: Final = frozenset({"Mn", "Me"})
_INVISIBLE: Final = frozenset({"Cf", "Co", "Cn"})
_IGNORABLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Unicode's Default_Ignorable_Code_Point: no font shows them. Some are letters by their category, such as the Hangul fillers."""


def fold(text: str) -> str:
    """The text with compatibility forms, accents and invisible characters resolved, controls as spaces, case folded."""
    if text.isascii() and text.isprintable():
        return text.lower()
    # First of all: an ignorable character between a letter and its accent would keep the two apart.
    text = _IGNORABLE.sub("", text)
    # Case folding may add marks (as for a dotted capital I) and decomposing may add capitals (as for a bold letter): each is done twice.
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold()).casefold()
    plain = []
    for character in decomposed:
        category = unicodedata.category(character)
        if category in _MARKS or category in _INVISIBLE:
            continue
        plain.append(" " if category in {"Cc", "Zl", "Zp"} else character)
    return unicodedata.normalize("NFC", "".join(plain))


def fold_values(value: Any) -> Any:
    """The same JSON value with every text folded, except the keys of objects."""
    if isinstance(value, str):
        return fold(value)
    if isinstance(value, list):
        return [fold_values(item) for item in value]
    if isinstance(value, dict):
        return {key: fold_values(item) for key, item in value.items()}
    return value


MAX_ARGUMENT_BYTES: Final = 64 * 1024
"""As JSON in UTF-8. A description may have 10,000 characters of four bytes; no argument of a tool needs more."""
MAX_DEPTH: Final = 16
MAX_NAME: Final = 200
MAX_TOOLS: Final = 1_000
_INT64: Final = 1 << 63
_TOOL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")


class InputRefused(Exception):
    """The input is refused before any engine sees it; the message gives the reason without quoting the input."""


def document(question: PolicyInput) -> dict[str, Any]:
    """One tool call as the policies' input, in plain JSON. Raises InputRefused."""
    # Annotations are not checked at run time: the values may be anything.
    tool: Any = question.tool
    arguments: Any = question.arguments
    if not isinstance(tool, str) or not _TOOL_NAME.fullmatch(tool):
        raise InputRefused("the tool's name is not a name")
    if type(arguments) is not dict:
        raise InputRefused("the arguments are not an object")
    _measure(arguments)
    return {
        "tool": str.__str__(tool),
        "arguments": arguments,
        "folded": fold_values(arguments),
        "agent": _name(question.agent, "agent"),
        "job": _name(question.job, "job"),
        "run_id": _name(question.run_id, "run id"),
        "job_tools": _names(question.job_tools),
    }


def _measure(arguments: dict[str, Any]) -> None:
    left = MAX_ARGUMENT_BYTES
    # Not recursive: a thousand levels must not reach Python's recursion limit, and a list that contains itself must end.
    stack: list[tuple[Any, int]] = [(arguments, 1)]
    while stack:
        value, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise InputRefused(f"the arguments nest deeper than {MAX_DEPTH} levels")
        left -= _size(value)
        if type(value) is dict:
            for key, item in value.items():
                if type(key) is not str:
                    raise InputRefused("a key in the arguments is not text")
                left -= _size(key)
                stack.append((item, depth + 1))
        elif type(value) is list:
            stack.extend((item, depth + 1) for item in value)
        if left < 0:
            raise InputRefused(f"the arguments are larger than {MAX_ARGUMENT_BYTES // 1024} kB")
    if len(json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode("utf-8")) > MAX_ARGUMENT_BYTES:
        raise InputRefused(f"the arguments are larger than {MAX_ARGUMENT_BYTES // 1024} kB")


def _size(value: Any) -> int:
    """A lower limit of the value's own bytes. Exact types only: a subclass could behave like one type and be written as another."""
    kind = type(value)
    if kind is str:
        _check_text(value, "a text in the arguments")
        return len(value) + 2
    if kind is int and not -_INT64 <= value < _INT64:
        raise InputRefused("an integer in the arguments is beyond 64 bits")
    if kind is float and not math.isfinite(value):
        raise InputRefused("a number in the arguments is not finite")
    if kind not in {dict, list, int, float, bool, type(None)}:
        raise InputRefused("the arguments are not plain JSON")
    return 1 + (len(value) if kind in {dict, list} else 0)


def _check_text(text: str, what: str) -> None:
    if "\0" in text:
        raise InputRefused(f"{what} holds a NUL character")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise InputRefused(f"{what} is not valid Unicode")


def _name(value: Any, what: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
        raise InputRefused(f"the {what} is not a name")
    _check_text(value, f"the {what}")
    return str.__str__(value)


def _names(values: Any) -> list[str]:
    if not isinstance(values, (tuple, list)) or len(values) > MAX_TOOLS:
        raise InputRefused("the job's tools are not a list of names")
    return [_name(value, "name of a job's tool") for value in values]
