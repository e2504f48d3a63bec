"""The type of a parameter that names a file which the run reads."""

from dataclasses import dataclass
from typing import Annotated, Final


@dataclass(frozen=True, slots=True)
class InputMarker:
    """Says of a parameter: its text names a file, or is `-` for standard input."""


INPUT: Final = InputMarker()

InputFile = Annotated[str, INPUT]
"""A path, or `-`. Before the run is claimed, the file is copied beside it, so that every attempt reads the same content."""
