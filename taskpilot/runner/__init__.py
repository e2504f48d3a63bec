"""One attempt from claim to record: builds the context, calls the job, judges the outcome."""
