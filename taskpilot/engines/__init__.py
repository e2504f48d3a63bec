"""Where a run's supervisor starts: here, on this host, from a preloaded fork server."""
