"""Reads the texts of policies once, so that a later change of a file does not affect a run."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from taskpilot.domain.errors import ConfigurationError

MAX_FILE_BYTES: Final = 1024 * 1024


@dataclass(frozen=True)
class Source:
    """The name of one policy file, for messages, and its text."""

    name: str
    text: str


@dataclass(frozen=True)
class Policy:
    """Files that are evaluated together, separately from other policies."""

    label: str
    """For reasons: "the default policy" or "the project's policy"."""
    sources: tuple[Source, ...]

    @cached_property
    def fingerprint(self) -> str:
        """A digest of names and texts, in order."""
        digest = hashlib.sha256()
        for source in self.sources:
            for part in (source.name, source.text):
                data = part.encode("utf-8", "surrogatepass")
                digest.update(len(data).to_bytes(8, "big") + data)
        return digest.hexdigest()


def default_policy() -> Policy:
    """The shipped policy."""
    text = Path(__file__).with_name("default.rego").read_text("utf-8")
    return Policy("the default policy", (Source("taskpilot/policy/default.rego", text),))


def project_policy(files: Sequence[Path]) -> Policy:
    """The project's files. Raises ConfigurationError that names the unusable file."""
    return Policy("the project's policy", tuple(_read(Path(file)) for file in files))


def _read(file: Path) -> Source:
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        message = f"the policy file {file} cannot be read ({error.strerror or error})"
        raise ConfigurationError(message, hint="correct policy.files in the settings") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigurationError(f"the policy file {file} is larger than {MAX_FILE_BYTES // 1024} kB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"the policy file {file} is not UTF-8 (byte {error.start})") from None
    return Source(str(file), text)
