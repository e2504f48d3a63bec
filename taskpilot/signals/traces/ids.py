"""Span ids that follow from the record, so that a span written twice is the same span, and a log can name it before it is written."""

from hashlib import sha256


def span_id_of(record_id: str) -> str:
    """16 hex digits for a row of the record: an attempt, a step, a decision, an agent's work."""
    digest = sha256(record_id.encode("utf-8", "backslashreplace")).hexdigest()[:16]
    # All zeros is no valid span id.
    return digest if int(digest, 16) else f"{1:016x}"
