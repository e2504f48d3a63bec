"""Benchmarks: ratios measured in one run against a floor or a peer, one line a figure. `python -m tests.bench` runs them all."""
