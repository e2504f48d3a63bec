"""The read side: what ran, what is due, why, health. Nothing is written."""
