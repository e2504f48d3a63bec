"""The texts of policies, read once: a file that changes while a run goes on has no part in it."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from taskpilot.domain.errors import ConfigurationError

MAX_FILE_BYTES: Final = 1024 * 1024
_STRING_OR_COMMENT: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"|`[^`]*`|#[^\n]*')
_HTTP_SEND: Final = re.compile(r"\bhttp\s*\.\s*send\b")


@dataclass(frozen=True)
class Source:
    """One policy file's name, as messages show it, and its text."""

    name: str
    text: str


@dataclass(frozen=True)
class Policy:
    """Files that are evaluated together, apart from every other policy."""

    label: str
    """As reasons call it: "the default policy" or "the project's policy"."""
    sources: tuple[Source, ...]

    @cached_property
    def fingerprint(self) -> str:
        """The same for the same names and texts in the same order."""
        digest = hashlib.sha256()
        for source in self.sources:
            for part in (source.name, source.text):
                data = part.encode("utf-8", "surrogatepass")
                digest.update(len(data).to_bytes(8, "big") + data)
        return digest.hexdigest()


def default_policy() -> Policy:
    """The policy that is shipped."""
    text = Path(__file__).with_name("default.rego").read_text("utf-8")
    return Policy("the default policy", (Source("taskpilot/policy/default.rego", text),))


def project_policy(files: Sequence[Path]) -> Policy:
    """The project's own files. Raises ConfigurationError that names the file which cannot be used."""
    return Policy("the project's policy", tuple(_read(Path(file)) for file in files))


def _read(file: Path) -> Source:
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        why = error.strerror or error
        hint = "correct policy.files in the settings, which names it"
        raise ConfigurationError(f"the policy file {file} cannot be read ({why})", hint=hint) from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigurationError(f"the policy file {file} is larger than {MAX_FILE_BYTES // 1024} kB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"the policy file {file} is not UTF-8 (byte {error.start})") from None
    _refuse_http_send(file, text)
    return Source(str(file), text)


def _refuse_http_send(file: Path, text: str) -> None:
    """The engine leaves `http.send` undefined without an error, so that a denial which relies on it would never come."""
    blank = _STRING_OR_COMMENT.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)
    found = _HTTP_SEND.search(blank)
    if found:
        line = blank.count("\n", 0, found.start()) + 1
        raise ConfigurationError(f"{file}:{line}: http.send is not available to policies, which judge the call's arguments")
