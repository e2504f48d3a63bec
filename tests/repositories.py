"""Little git repositories with a history of their own, whose clock and names are the test's, and digests of them as a test reads them."""

import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from taskpilot.domain.chat import ChatRequest
from taskpilot.testing import JobResult, Reply, ScriptedModel

PINNED = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}
MORNING = datetime(2026, 11, 24, 6, 30, tzinfo=UTC)


class Repository:
    """A little repository whose clock is the test's."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        folder.mkdir()
        self.at = MORNING - timedelta(days=2)
        self.git("init", "--quiet", "--initial-branch=main", *options)

    def git(self, *arguments: str, author: str = "Ada", stdin: bytes = b"") -> str:
        when = f"{self.at.timestamp():.0f} +0000"
        environment = {**PINNED, "GIT_AUTHOR_NAME": author, "GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
        command = ["git", "-C", str(self.folder), *arguments]
        done = subprocess.run(command, env=environment, input=stdin, capture_output=True, check=True)
        return done.stdout.decode(errors="replace").strip()

    def commit(self, subject: str | bytes, path: str = "notes.md", text: str | bytes = "", author: str = "Ada") -> str:
        self.at += timedelta(minutes=1)
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes((text or f"{self.at}\n").encode() if isinstance(text, str) else text)
        self.git("add", "--all")
        message = subject.encode() if isinstance(subject, str) else subject
        self.git("commit", "--quiet", "--file=-", author=author, stdin=message)
        return self.git("rev-parse", "HEAD")


def page(ran: JobResult) -> str:
    assert ran.status == "succeeded", ran.detail
    return ran.artifacts["digest.md"].decode()


def subjects(ran: JobResult) -> list[str]:
    return re.findall(r"^- [0-9a-f]{10} \S+ `(.*)` by ", page(ran), re.MULTILINE)


def says(summary: str, *follow_ups: str) -> ScriptedModel:
    """A model with these words on the digest, whose reviewer lets nothing pass."""

    def reply(request: ChatRequest) -> Reply:
        if request.agent == "summarizer":
            return {"summary": summary, "follow_ups": list(follow_ups)}
        if request.agent == "planner":
            return {"tasks": [{"title": "Do it", "priority": "low"}]}
        return {"verdict": "REJECTED", "reason": "a test"}

    return ScriptedModel(reply)
