"""The journal of a run: steps as they happen, and what of them an earlier attempt recorded."""
