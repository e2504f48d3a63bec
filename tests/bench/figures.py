"""What a benchmark tells, and how it measures: interleaved rounds, CPU seconds of whole process trees, medians of ratios."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

T = TypeVar("T")
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Figure:
    """One measured thing; `held` is None where there is nothing to hold."""

    name: str
    value: str
    against: str
    bound: str
    held: bool | None

    def line(self) -> str:
        """The figure on one line: name, value, ratio or peer, bound, and whether it holds."""
        holds = {None: "-", True: "yes", False: "NO"}[self.held]
        return f"{self.name:<34}{self.value:>12}   {self.against:<58}{self.bound:<24}{holds}"


def ratio_figure(
    name: str, value: str, ratios: Sequence[float], peer: str, *, at_most: float | None = None, at_least: float | None = None
) -> Figure:
    """A figure that is a ratio to a peer, measured pair by pair; with at most one bound."""
    middle = median(ratios)
    bound, held = "", None
    if at_most is not None:
        bound, held = f"at most {at_most:g} x", middle <= at_most
    elif at_least is not None:
        bound, held = f"at least {at_least:g} x", middle >= at_least
    return Figure(name, value, f"{middle:.2f} x {peer}", bound, held)


def most_figure(name: str, values: Sequence[float], what: str, *, at_most_ms: float) -> Figure:
    """A figure in milliseconds, given as seconds."""
    middle = median(values) * 1000
    return Figure(name, f"{middle:.1f} ms", what, f"at most {at_most_ms:g} ms", middle <= at_most_ms)


@dataclass(frozen=True)
class Spent:
    """What one process and the children that it waited for took."""

    cpu_seconds: float
    peak_mib: float
    """Of the largest one."""
    wall_seconds: float
    code: int


def python(*arguments: str) -> list[str]:
    """A command line of this very interpreter."""
    return [sys.executable, *arguments]


def spent_by(command: Sequence[str], *, root: Path, environment: Mapping[str, str]) -> Spent:
    """Runs a command in `root` to its end, its output thrown away, and asks the kernel what it took."""
    began = time.monotonic()
    process = subprocess.Popen(
        command, cwd=root, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Spent(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, time.monotonic() - began, process.returncode)


def in_turn(rounds: int, *works: Callable[[], T]) -> list[tuple[T, ...]]:
    """Each work once to warm up, then all of them in turn, round after round: a machine whose speed drifts drifts for all."""
    for work in works:
        work()
    return [tuple(work() for work in works) for _ in range(rounds)]


@contextmanager
def server(*arguments: str) -> Iterator[str]:
    """A server in a process of its own, so that its work counts for nobody here; gives the URL that it prints."""
    process = subprocess.Popen(python("-m", *arguments), cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()
