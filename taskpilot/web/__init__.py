"""HTTP of `taskpilot serve`: probes, health, metrics, the API and two pages. Only `serve` imports it: FastAPI is slow to load."""
