"""The composition root: everything is wired here."""
