"""HTTP of `taskpilot serve`: probes, health, metrics, the API and two pages; imported by nothing else, since it is heavy."""
