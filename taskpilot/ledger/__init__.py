"""Transactions over fires, claims, overlap, leases and the ends of runs."""
