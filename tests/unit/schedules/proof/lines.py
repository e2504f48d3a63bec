"""Crontab lines by chance, of the whole grammar, most of them close to one moment of a clock."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random

from tests.unit.schedules.proof.oracle import MONTHS, WEEKDAYS, WORDS, read


def possible_line(rng: Random, near: datetime) -> str:
    """A line that has dates."""
    while not read(text := any_line(rng, near)).possible:
        pass
    return text


def any_line(rng: Random, near: datetime) -> str:
    """A line of good grammar; its dates may be impossible. `near` is a wall clock without a zone."""
    if rng.random() < 0.04:
        return rng.choice([*WORDS, "@Daily", "@HOURLY"])
    faces = [near + timedelta(minutes=rng.choice([-61, -60, -31, -30, -1, 0, 0, 1, 15, 29, 30, 31, 59, 60, 61])) for _ in range(3)]
    minute = _field(rng, range(60), [face.minute for face in faces], stars=0.2)
    hour = _field(rng, range(24), [face.hour for face in faces], stars=0.2)
    day, month, weekday = "*", "*", "*"
    if rng.random() < 0.4:
        day = _field(rng, range(1, 32), [face.day for face in faces], stars=0.4)
    if rng.random() < 0.2:
        month = _field(rng, range(1, 13), [near.month], stars=0.2, names=MONTHS, first=1)
    if rng.random() < 0.4:
        sunday = [7] if near.isoweekday() == 7 else []
        weekday = _field(rng, range(8), [face.isoweekday() % 7 for face in faces] + sunday, stars=0.3, names=WEEKDAYS)
    return f"{minute} {hour} {day} {month} {weekday}"


def _field(rng: Random, numbers: range, near: Sequence[int], *, stars: float, names: Sequence[str] = (), first: int = 0) -> str:
    if rng.random() < stars:
        return rng.choice(["*", "*", f"*/{rng.randint(1, len(numbers))}", f"*/{rng.choice([2, 3, 5, 7, 15, 20])}"])

    def number() -> int:
        return rng.choice(near) if rng.random() < 0.7 else rng.choice(numbers)

    def written(value: int) -> str:
        if names and value - first < len(names) and rng.random() < 0.5:
            return rng.choice([str.lower, str.upper, str.title])(names[value - first])
        return f"{value:02}" if rng.random() < 0.1 else str(value)

    def term() -> str:
        if rng.random() < 0.6:
            return written(number())
        low, high = sorted((number(), number()))
        step = f"/{rng.randint(1, 9)}" if rng.random() < 0.4 else ""
        return f"{written(low)}-{written(high)}{step}"

    return ",".join(term() for _ in range(rng.choice([1, 1, 1, 2, 3])))
