"""Who started us, as W3C Trace Context tells it (Level 1, section 3.2)."""

import re
from typing import Final

_SHAPE: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)


def parse_traceparent(text: str | None) -> str | None:
    """The value as version 00, `00-<trace id>-<span id>-<flags>`; None where it is none: then a trace begins here.

    A version that we do not know is read as far as we know it.
    """
    found = _SHAPE.fullmatch((text or "").strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return f"00-{trace_id}-{span_id}-{flags}"
