"""What changed in a git repository, as git says it: bounded, escaped, and without a model."""

import os
import re
import subprocess
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from taskpilot import TaskPilotError

GIT: Final = ("git", "--no-pager", "-c", "protocol.allow=never", "-c", "core.fsmonitor=false")
"""Fetches nothing, not even what a partial clone lacks, and starts no program that a repository's own configuration names."""
SECONDS: Final = 60.0
"""What one git command may take; the deadline holds them all."""
MOST: Final = 8_000_000
"""Bytes of one command's output that are read."""
READ: Final = 5_000
"""Commits that are looked at, the newest first; all of them are counted."""
SHOWN: Final = 8
"""Entries of each list but the commits'."""
LOOK_BACK: Final = 20
"""Steps of the main line that the first digest of a repository looks back."""
FIELDS: Final = ("%H", "%P", "%cs", "%<(60,trunc)%aN", "%<(160,trunc)%s")
WATCHED: Final = {
    "Review the changed dependencies": r"(^|/)(requirements[^/]*\.(txt|in)|package\.json|(pyproject|Cargo)\.toml|go\.mod|[^/]+\.lock)$",
    "Review the changed builds": r"^\.(github/workflows|circleci|ci)/|^\.gitlab-ci\.yml$|(^|/)(Dockerfile|Makefile|Jenkinsfile)$|\.tf$",
    "Review the changed migrations": r"(^|/)migrations?/.*\.(py|sql)$",
}
"""What a person should look at, by the paths that tell so."""
TEST: Final = r"(^|[/_.-])(tests?|specs?)([/_.-]|$)"
CODE: Final = r"\.(py|[jt]sx?|go|rs|java|kt|c|cc|cpp|h|cs|rb|php|swift|scala)$"


class Mark(BaseModel):
    """Where a success left off."""

    head: str
    at: datetime


@dataclass
class Area:
    """A folder, two levels deep, and what was touched in it."""

    folder: str
    files: int = 0
    added: int = 0
    removed: int = 0


@dataclass
class Changes:
    """What git says, bounded; every number of a digest is one of these."""

    head: str
    since: str
    commits: int = 0
    merges: int = 0
    authors: int = 0
    busiest: list[tuple[str, int]] = field(default_factory=list)
    listed: list[tuple[str, str, str, str]] = field(default_factory=list)
    files: int = 0
    added: int = 0
    removed: int = 0
    folders: int = 0
    areas: list[Area] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    worth: list[tuple[str, str]] = field(default_factory=list)
    """What is worth a look, and where."""


def git(repository: str, *arguments: str) -> str:
    """What git prints, cut after MOST bytes; nothing where it says no (1). Raises TaskPilotError with git's words, or TimeoutError."""
    command = [*GIT, "-C", str(Path(repository).expanduser()), *arguments]
    # A git hook's environment, for one, names another repository than the one that is meant.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment = kept | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        alarm = threading.Timer(SECONDS, process.kill)
        alarm.daemon = True
        alarm.start()
        assert process.stdout is not None
        said = process.stdout.read(MOST)
        if cut := bool(process.stdout.read(1)):
            process.kill()
            # What is cut must never look whole.
            said = said.rstrip(b"\0")
        code = process.wait()
        late = not alarm.is_alive()
        alarm.cancel()
        errors.seek(0)
        words = one_line(errors.read(2_000).decode("utf-8", "replace"), limit=500)
    if late:
        raise TimeoutError(f"git {arguments[0]} took longer than {SECONDS:.0f} s in {one_line(repository)}")
    if code not in (0, 1) and not cut:
        raise TaskPilotError(f"git cannot read {one_line(repository)}: {words}")
    return said.decode("utf-8", "replace")


def commit(repository: str, name: str) -> str:
    """The id of the commit that a name means; empty where there is none."""
    return git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").strip()


def git_dir(repository: str) -> str:
    """The repository's own folder: the same one from wherever in it one looks."""
    return git(repository, "rev-parse", "--absolute-git-dir").rstrip("\n")


def starting_point(repository: str, head: str, since: str, mark: Mark | None) -> tuple[str, str]:
    """The commit that a digest begins after (empty: before the first one), and how it was found, for the reader."""
    main_line = ("rev-list", "-1", "--first-parent")
    if since:
        if not (base := commit(repository, since)):
            raise TaskPilotError(f"{one_line(repository)} has no commit called {one_line(since)}")
        return base, f"since {quoted(since)}, as asked for"
    if mark is None:
        base = git(repository, *main_line, f"--skip={LOOK_BACK}", head, "--").strip()
        return base, f"the first digest of this repository: it looks back {LOOK_BACK} steps of the main line at most"
    if commit(repository, mark.head):
        return mark.head, f"since the last digest, of {mark.at:%Y-%m-%d %H:%M} UTC"
    base = git(repository, *main_line, f"--before={mark.at.timestamp():.0f}", head, "--").strip()
    return base, (
        f"by date, since {mark.at:%Y-%m-%d %H:%M} UTC: the commit {quoted(mark.head[:10])} of the last digest is gone, "
        "so what was committed before that time and came in later is missing here"
    )


def read_changes(repository: str, branch: str, since: str, mark: Mark | None, limit: int) -> Changes:
    """What is new at the head of a branch."""
    head = commit(repository, branch)
    if not head and branch != "HEAD":
        raise TaskPilotError(f"{one_line(repository)} has no commit called {one_line(branch)}")
    if not head:
        return Changes(head="", since="it has no commit yet")
    base, how = starting_point(repository, head, since, mark)
    changes = Changes(head=head, since=how)
    # Of a rewritten history only what is another change is new, not what merely has another id.
    new = ("--cherry-pick", "--right-only", f"{base}...{head}" if base else head, "--")
    changes.commits = int(git(repository, "rev-list", "--count", *new))
    replaced = int(git(repository, "rev-list", "--count", f"{head}..{base}", "--")) if base else 0
    if replaced and not since:
        changes.notes.append("The history was rewritten, or another branch is looked at.")
        changes.worth.append(("Look at the rewritten history", f"{counted(replaced, 'commit')} from before no longer in it"))
    if git(repository, "rev-parse", "--is-shallow-repository").strip() == "true":
        changes.notes.append("This clone is shallow: what lies before its oldest commit is unknown here.")
    if changes.commits:
        form = "--format=" + "".join(f"{one}%x00" for one in FIELDS)
        read_commits(changes, git(repository, "rev-list", "--no-commit-header", "--encoding=UTF-8", f"-n{READ}", form, *new), limit)
        read_files(changes, repository, base or git(repository, "hash-object", "-t", "tree", "--stdin").strip())
    return changes


def read_commits(changes: Changes, text: str, limit: int) -> None:
    """Takes authors, reverts and the newest subjects from what git says for FIELDS."""
    said = [one.strip() for one in text.split("\0")]
    authors: Counter[str] = Counter()
    reverts = []
    for name, parents, day, author, subject in zip(*(said[start :: len(FIELDS)] for start in range(len(FIELDS))), strict=False):
        authors[author] += 1
        if " " in parents:
            changes.merges += 1
        elif len(changes.listed) < limit:
            changes.listed.append((name[:10], day, author, subject))
        if subject.startswith("Revert "):
            reverts.append(name[:10])
    changes.authors, changes.busiest = len(authors), authors.most_common(SHOWN)
    if reverts:
        changes.worth.append(("Look at the reverts", listing(reverts)))
    if changes.commits > READ:
        changes.notes.append(f"Authors, merges and reverts are those of the newest {READ:,} commits.")


def read_files(changes: Changes, repository: str, base: str) -> None:
    """Takes touched files from the difference between both ends: what is left of all the commits together."""
    try:
        text = git(repository, "diff-tree", "-r", "-z", "-M", "-l400", "--numstat", "--no-ext-diff", "--no-textconv", base, changes.head)
    except TimeoutError as error:
        changes.notes.append(f"Files are not counted: {error}.")
        return
    if text and not text.endswith("\0"):
        changes.notes.append(f"Git names more files than can be read: only those in the first {MOST:,} bytes are counted.")
    areas: dict[str, Area] = {}
    paths = []
    words = iter(text.split("\0")[:-1])
    for word in words:
        added, removed, path = word.split("\t", 2)
        # A rename has its two paths after an empty one; a binary file has - for its lines.
        paths.append(path or (next(words, ""), next(words, ""))[1])
        folder = "/".join(paths[-1].split("/")[:-1][:2])
        touched = areas.setdefault(folder, Area(folder))
        touched.files += 1
        touched.added += int(added.replace("-", "0"))
        touched.removed += int(removed.replace("-", "0"))
    ranked = sorted(areas.values(), key=lambda area: -area.added - area.removed)
    changes.areas, changes.folders = ranked[:SHOWN], len(ranked)
    changes.files, changes.added, changes.removed = len(paths), sum(area.added for area in ranked), sum(area.removed for area in ranked)
    for what, pattern in WATCHED.items():
        if found := [path for path in paths if re.search(pattern, path)]:
            changes.worth.append((what, listing(found)))
    code = [path for path in paths if re.search(CODE, path)]
    if code and not any(re.search(TEST, path) for path in paths):
        changes.worth.append(("Check the changes without a test", listing(code)))


def one_line(text: str, limit: int = 200) -> str:
    """The text on one line, with what moves a cursor, reorders or hides text written as its escape."""
    words = " ".join(text[: limit * 4].split())
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in words)
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def quoted(text: str) -> str:
    """What somebody else wrote, as a code span: no link, image, mention, HTML or table works in one."""
    return f"`{one_line(text).translate({ord('`'): chr(39), ord('|'): '¦'}) or '(nothing)'}`"


def counted(number: int, noun: str) -> str:
    """Like `1 commit` or `2,000 commits`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listing(items: list[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(items) - SHOWN:,} more" if len(items) > SHOWN else ""
    # A path with spaces must not read like a sentence to whoever plans from it.
    return ", ".join(quoted(item).replace(" ", "␣") for item in items[:SHOWN]) + more
