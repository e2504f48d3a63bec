"""Delivers one message."""
