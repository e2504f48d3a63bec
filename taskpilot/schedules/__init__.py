"""When jobs are due: cron, every, at, daylight saving, jitter. Pure."""
