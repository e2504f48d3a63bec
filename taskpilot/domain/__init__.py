"""The language of the house: frozen dataclasses, enums and errors that every room may speak."""
