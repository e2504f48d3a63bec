"""`python -m tests.bench [SUBJECT]...`: runs the benchmarks and prints one line a figure; exit 1 where a bound does not hold."""

import argparse
import sys
from collections.abc import Callable, Iterator

from tests.bench import fanout, peers, reading, record, scheduler, start, telemetry
from tests.bench.figures import Figure

SUBJECTS: dict[str, Callable[[int], Iterator[Figure]]] = {
    "start": start.bench,
    "record": record.bench,
    "fanout": fanout.bench,
    "telemetry": telemetry.bench,
    "scheduler": scheduler.bench,
    "reading": reading.bench,
}


def main() -> int:
    """Measures the subjects that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("subjects", nargs="*", choices=[*SUBJECTS, []], metavar="SUBJECT", help=", ".join(SUBJECTS))
    parser.add_argument("--rounds", type=int, default=15, help="measured rounds of each figure (default 15)")
    parser.add_argument("--peers", action="store_true", help="the same work by other tools, which are installed into a temporary folder")
    given = parser.parse_args()
    chosen = [peers.bench] if given.peers else [SUBJECTS[subject] for subject in given.subjects or SUBJECTS]
    if given.peers:
        print(peers.header(), flush=True)  # noqa: T201 - printing is what it is for.
    held = True
    for subject in chosen:
        for figure in subject(given.rounds):
            print(figure.line(), flush=True)  # noqa: T201 - printing is what it is for.
            held &= figure.held is not False
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
