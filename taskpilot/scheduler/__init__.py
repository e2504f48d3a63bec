"""When something is due, somebody has to wake up: APScheduler is the clock, the ledger decides."""
