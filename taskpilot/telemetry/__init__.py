"""Metrics, traces, logs and the decision log: quiet views of the record."""
