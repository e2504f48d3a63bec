"""Starts the supervisors of runs: on this host, from a preloaded fork server."""
