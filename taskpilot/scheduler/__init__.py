"""The loop of `taskpilot serve`: APScheduler decides when it wakes up, the ledger decides what is due."""
