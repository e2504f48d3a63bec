"""Converts values to bounded JSON types for a log, with known secrets and what looks like a secret masked."""

import json
import math
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

_MASK: Final = "***"
PLACEHOLDER: Final = "***secret***"
"""In the place of a known secret in a reply or in the arguments of a call, so that a later check still sees that there was one."""
_SECRET_MIN: Final = 8
"""A shorter one is not masked: the key of a local server is often `test`, `none` or `ollama`, which are ordinary words elsewhere."""
_TEXT_MAX: Final = 8_192
_ITEMS_MAX: Final = 256
_DEPTH_MAX: Final = 8

_NAMED: Final = (
    r"(?:(?:api|access|secret|private|encryption|signing)[_-]?key(?:[_-]?id)?|(?:api|access|auth|refresh|bearer|bot|session)[_-]?token"
    r"|password|passwort|passwd|passphrase|pwd|secret)"
)
_QUOTE: Final = r"(?:\\?['\"])?"
_VALUE: Final = rf"(?:(\\?['\"])[^'\"\\\n]{{4,256}}(?=['\"\\])|({_QUOTE})[^\s'\",;&\\]{{4,}})"
"""A value after its name. In quotation marks it may have blanks."""
_PATTERNS: Final = (
    # Each with lower-case texts of which one must occur: searching for those is a hundred times faster.
    (("private key",), r"(?s)-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", _MASK),
    (("sk-",), r"\bsk-[A-Za-z0-9_-]{16,}", _MASK),
    (("ghp_", "gho_", "ghs_", "ghu_", "ghr_", "github_pat_"), r"\b(?:gh[opsur]_|github_pat_)[A-Za-z0-9_]{16,}", _MASK),
    (("akia", "asia"), r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", _MASK),
    (("eyj",), r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", _MASK),
    (
        ("xox", "glpat-", "aiza", "_live_", "hf_", "npm_"),
        r"\b(?:xox[abeprs]-|glpat-|AIza|(?:sk|rk)_live_|hf_|npm_)[A-Za-z0-9_-]{16,}",
        _MASK,
    ),
    # A long name alone is a token in the place of a user.
    (("://",), r"://(?:[^\s/@:?#]{0,128}:[^\s/@]{1,256}|[^\s/@:?#]{12,256})@", f"://{_MASK}@"),
    (("token=",), r"(?i)([?&]token=)[^\s'\"&#]{4,}", rf"\1{_MASK}"),
    # Ordinary words too, so only as an assignment or in JSON, and a number is none: `max_token=4096`.
    (
        ("pass", "token"),
        rf"(?i)((?<![a-z?&])(?:pass|token)(?:\s?=\s?|\\?['\"]\s?:\s?(?=\\?['\"])))(?!{_QUOTE}\d+\b){_VALUE}",
        rf"\1\2\3{_MASK}",
    ),
    (("cookie",), rf"(?i)(\b(?:set-)?cookie{_QUOTE}\s?:\s?{_QUOTE})[^\s=;,'\"\\]{{1,128}}=[^\r\n'\"\\]{{0,4096}}", rf"\1{_MASK}"),
    (("authorization",), rf"(?i)(authorization{_QUOTE}\s?[:=]\s?{_QUOTE})(?:[a-z]{{1,16}} +)?[^\s'\",;\\]{{4,}}", rf"\1{_MASK}"),
    (("bearer",), r"(?i)(\bbearer +)[A-Za-z0-9._~+/=-]{8,}", rf"\1{_MASK}"),
    (
        ("key", "token", "pass", "pwd", "secret"),
        rf"(?i)({_NAMED}{_QUOTE}\s?[:=]\s?){_VALUE}",
        rf"\1\2\3{_MASK}",
    ),
    # A line of a PEM file alone, as a job prints it; a digest in hexadecimal is none.
    (("",), r"(?m)^(?=[0-9A-Fa-f]{0,63}[G-Zg-z+/])[A-Za-z0-9+/]{64}$", _MASK),
)
"""Patterns of unknown secrets. Every repetition is bounded or cannot overlap, so that a hostile text costs linear time.
They are compiled at first use: 3 ms that most commands save."""
_MASKED_NAME: Final = (
    r"(?i)(?:.*[-_.])?(?:authorization|api[-_]?key|(?:api|access|refresh)?[-_]?token|pass(?:word|wort|wd|phrase)?"
    r"|(?:client[-_]?)?secret|(?:set-)?cookie)"
)


class Redactor:
    """Converts any value to JSON types, with secrets masked and long texts cut."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {form for one in secrets if len(one) >= _SECRET_MIN for form in _forms(one)}
        self._secrets = sorted(known, key=len, reverse=True)

    def hidden(self, text: str, mask: str = _MASK) -> str:
        """The text with each known secret as the mask and nothing else changed: for a job's results."""
        for secret in self._secrets:
            text = text.replace(secret, mask)
        return text

    def hidden_in(self, value: Any, mask: str = _MASK) -> Any:
        """A JSON value with each known secret as the mask, in names too."""
        if not self._secrets:
            return value
        if isinstance(value, str):
            return self.hidden(value, mask)
        if isinstance(value, list):
            return [self.hidden_in(one, mask) for one in value]
        if isinstance(value, dict):
            return {self.hidden(key, mask): self.hidden_in(one, mask) for key, one in value.items()}
        return value

    def masked(self, text: str) -> str:
        """The text with each secret as `***`: known ones, what looks like a key, passwords in URLs, Authorization headers."""
        text = self.hidden(text)
        small = text.lower()
        for hints, pattern, replacement in _PATTERNS:
            for hint in hints:
                if hint in small:
                    text = re.sub(pattern, replacement, text)
                    break
        return text

    def named(self, name: str, text: str) -> str:
        """The value of a field for a log: `***` where the name is that of a secret."""
        return _MASK if self.is_secret(name) else self.text(text)

    @staticmethod
    def is_secret(name: str) -> bool:
        """Whether a field with this name holds a secret."""
        return re.fullmatch(_MASKED_NAME, name) is not None

    def text(self, text: str) -> str:
        """The same, cut at 8,192 characters."""
        text = self.masked(text)
        return text if len(text) <= _TEXT_MAX else f"{text[: _TEXT_MAX - 1]}…"

    def plain(self, value: Any, *, changed: Callable[[str], None] | None = None) -> Any:
        """The value as JSON types. `changed` gets the JSON pointer of everything that was masked or cut."""
        return self._plain(value, "", 0, changed or _ignore)

    def _plain(self, value: Any, place: str, depth: int, changed: Callable[[str], None]) -> Any:
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if depth >= _DEPTH_MAX and isinstance(value, Mapping | list | tuple | set | frozenset):
            changed(place)
            return "…"
        if isinstance(value, Mapping):
            pairs = list(value.items())[:_ITEMS_MAX]
            if len(value) > _ITEMS_MAX:
                changed(place)
            shown: dict[str, Any] = {}
            for name, one in pairs:
                key = self.text(as_text(name))
                where = f"{place}/{_pointer(key)}"
                if isinstance(one, str | bytes) and re.fullmatch(_MASKED_NAME, key):
                    changed(where)
                    shown[key] = _MASK
                else:
                    shown[key] = self._plain(one, where, depth + 1, changed)
            return shown
        if isinstance(value, list | tuple | set | frozenset):
            items = list(value)
            if len(items) > _ITEMS_MAX:
                changed(place)
            return [self._plain(one, f"{place}/{position}", depth + 1, changed) for position, one in enumerate(items[:_ITEMS_MAX])]
        text = as_text(value)
        masked = self.text(text)
        if masked != text:
            changed(place)
        return masked


def _forms(secret: str) -> tuple[str, ...]:
    """The secret, and as JSON, URLs and basic authentication write it."""
    encoded = b64encode(secret.encode("utf-8", "replace")).decode().rstrip("=")
    return secret, json.dumps(secret)[1:-1], quote(secret, safe=""), encoded


def as_text(value: object) -> str:
    """`str(value)`, or its type where that raises: an object of a job must not lose the log line."""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _pointer(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _ignore(_place: str) -> None:
    return
