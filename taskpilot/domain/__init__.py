"""Frozen dataclasses, enums and errors that every package may import."""
