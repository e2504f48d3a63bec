"""Fires, claims, overlap, leases and ends: transactions, nothing else."""
