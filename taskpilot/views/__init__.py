"""The read side: jobs, runs, fires, tasks, health, golden signals, traces. Writes nothing to the store."""
