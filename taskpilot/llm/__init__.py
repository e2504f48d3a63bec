"""Models and their prices: the only rooms that talk to an LLM, or know what one costs."""
