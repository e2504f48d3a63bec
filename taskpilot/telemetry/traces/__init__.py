"""Spans made from the record after an attempt ended, so that a killed process loses none."""
