"""Models and their prices; no other package talks to an LLM."""
